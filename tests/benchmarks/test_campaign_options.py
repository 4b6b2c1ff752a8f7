"""What the campaign's command takes and returns: statuses, retries, a choice of steps, minutes, the list."""

from pathlib import Path

import pytest
from small_campaign import fail, options, order, run, say, sleep

from benchmarks import campaign
from benchmarks.campaign_steps import Campaign, Step
from maxup_smoothing.data.runtime import console


def test_exit_statuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = say("good"), fail("bad")
    assert campaign.go_on(Campaign(steps=(good,)), options(tmp_path)) == 0
    assert campaign.go_on(Campaign(steps=(good, bad)), options(tmp_path)) == 1
    assert capsys.readouterr().err.startswith("error: bad failed: no such thing; see ")
    # Of two minutes 80 seconds are for steps. The failure is told while there is more to do, too.
    late = (good, bad, sleep("first", 2.0, estimate=1), say("late", estimate=79))
    assert campaign.go_on(Campaign(steps=late), options(tmp_path)) == console.TRY_AGAIN == 75
    told = capsys.readouterr()
    assert "1 more to do, late first; the same command goes on" in told.out
    assert "bad failed" in told.err


def test_failures_are_tried_again_on_request(tmp_path: Path) -> None:
    mended = Step(name="a", command=("-c", "assert __import__('pathlib').Path('{out}/mended').exists()"), estimate=0)
    listed = Campaign(steps=(mended, say("b", after=("a",))))
    assert campaign.go_on(listed, options(tmp_path)) == 1
    (tmp_path / "mended").touch()
    assert campaign.go_on(listed, options(tmp_path)) == 1
    assert campaign.go_on(listed, options(tmp_path, retry=True)) == 0
    assert order(tmp_path) == ["b"]


def test_only_some_with_what_they_need(tmp_path: Path) -> None:
    listed = Campaign(steps=(say("a"), say("b", after=("a",)), say("c", after=("b",)), say("d")))
    assert campaign.go_on(listed, options(tmp_path, only=["b"])) == 0
    assert order(tmp_path) == ["a", "b"]
    assert campaign.go_on(listed, options(tmp_path, only=["[cd]"])) == 0
    assert order(tmp_path) == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="--only x is none of the steps; --list shows them"):
        campaign.go_on(listed, options(tmp_path, only=["a", "x"]))


def test_too_little_time_is_refused(tmp_path: Path) -> None:
    for minutes in (1.0, 0.0, -3.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=r"--minutes must be at least 1\.2, got"):
            campaign.go_on(Campaign(steps=(say("a"),)), options(tmp_path, minutes=minutes))


def test_the_list_shows_what_is_done_and_runs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = Campaign(steps=(say("a", estimate=5), fail("b"), say("c", estimate=7200)))
    run(tmp_path, listed.steps[0], listed.steps[1])
    before = sorted(tmp_path.rglob("*"))
    capsys.readouterr()
    assert campaign.go_on(listed, options(tmp_path, list=True)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["step", "status", "took", "estimate", "device"],
        ["a", "done", "0", "s", "5", "s", "a", "device"],
        ["b", "failed", "0", "s", "0", "s", "a", "device"],
        ["c", "7200", "s"],
        ["1", "of", "3", "steps", "done;", "about", "2.0", "hours", "to", "do"],
    ]
    assert sorted(tmp_path.rglob("*")) == before
    assert not (tmp_path / "no").exists()
    campaign.go_on(listed, options(tmp_path / "no", list=True))
    assert not (tmp_path / "no").exists()
