"""The campaign's order, failures and reports, with small commands in place of the real ones."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from small_campaign import fail, order, run, say

from benchmarks.campaign_process import ROOT
from benchmarks.campaign_record import DONE, FAILED, Record
from benchmarks.campaign_runner import Outcome, log_of
from benchmarks.campaign_steps import Command, Report, Step


def test_steps_run_once_and_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    steps = [say(name) for name in ("b", "a/1", "c")]
    assert run(tmp_path, *steps) == Outcome(waiting=[], failures=[])
    assert run(tmp_path, *steps) == Outcome(waiting=[], failures=[])
    assert order(tmp_path) == ["b", "a/1", "c"]
    told = capsys.readouterr().out
    assert told.index("[1/3] b: 0:00:") < told.index("done after 0:00:00: said b") < told.index("[2/3] a/1")
    entry = Record(tmp_path).entries["a/1"]
    assert (entry.status, entry.said, entry.device, entry.torch) == (DONE, "said a/1", "a device", "2.0")
    assert log_of(tmp_path, "a/1").read_text().endswith("\nsaid a/1\n")


def test_the_environment_and_the_root_reach_the_commands(tmp_path: Path) -> None:
    code = "import os; print(os.environ['SAID'], os.getcwd())"
    run(tmp_path, Step(name="a", command=("-c", code), estimate=0))
    assert Record(tmp_path).entries["a"].said == f"yes {ROOT}"


def test_a_failure_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    steps = (fail("a"), say("b"), say("needs-a", after=("a",)), say("needs-that", after=("needs-a",)))
    for _ in range(2):
        outcome = run(tmp_path, *steps)
        assert outcome.waiting == []
        assert outcome.failures == [
            f"a failed: no such thing; see {tmp_path / 'logs' / 'a.log'}",
            "needs-a was not run, for want of a",
            "needs-that was not run, for want of needs-a",
        ]
    assert order(tmp_path) == ["b"]
    entry = Record(tmp_path).entries["a"]
    assert (entry.status, entry.said) == (FAILED, "first\nno such thing")
    assert log_of(tmp_path, "a").read_text().count("no such thing\n") == 1, "tried again"


def test_reports_follow_what_is_finished(tmp_path: Path) -> None:
    def command(finished: Sequence[str]) -> Command:
        return ("-c", f"open('{{out}}/reports', 'a').write('{'+'.join(finished)} ')")

    reports = (
        Report(name="some", of=("a", "b"), command=command),
        Report(name="all", of=("a", "b"), command=lambda finished: command([*finished, "whole"]), whole=True),
    )
    first, second = say("a", estimate=0), say("b", estimate=10)
    run(tmp_path, first, second, seconds=5, reports=reports)
    run(tmp_path, first, second, seconds=5, reports=reports)
    assert (tmp_path / "reports").read_text() == "a "
    assert Record(tmp_path).entries["some"].of == ("a",)
    run(tmp_path, first, second, reports=reports)
    run(tmp_path, first, second, reports=reports)
    assert (tmp_path / "reports").read_text() == "a a+b a+b+whole "


def test_a_report_that_fails_is_told_once_and_tried_again_with_more(tmp_path: Path) -> None:
    report = Report(name="r", of=("a", "b"), command=lambda finished: fail("r").command)
    steps = (say("a"), say("b", estimate=10))
    for _ in range(2):
        outcome = run(tmp_path, *steps, seconds=5, reports=(report,))
        assert [line.partition(";")[0] for line in outcome.failures[1:]] == ["r failed: no such thing"]
    run(tmp_path, *steps, reports=(report,))
    assert log_of(tmp_path, "r").read_text().count("no such thing\n") == 2
