"""The campaign: order, time, resumption, failures and its record, with small commands in place of the real ones."""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks import campaign, campaign_steps
from benchmarks.campaign_process import ROOT
from benchmarks.campaign_record import CUT, DONE, FAILED, Entry, Record, held, shown
from benchmarks.campaign_runner import Budget, Outcome, Runner, log_of
from benchmarks.campaign_steps import Campaign, Command, Report, Step
from data import console
from train import config_file

#: Adds a line to a file every 20 ms until there are so many; leaves after the one in hand on SIGTERM.
PIECES = """
import signal, sys, time
from pathlib import Path
path, total = Path(sys.argv[1]), int(sys.argv[2])
stop = []
signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
if not path.exists():
    path.write_text("piece\\n")
while path.read_text().count("\\n") <= total:
    time.sleep(0.02)
    with path.open("a") as file:
        file.write("x\\n")
    if stop:
        print("left in good order")
        sys.exit(143)
print("all pieces")
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    time.sleep(0.05)
"""


def say(name: str, *, after: tuple[str, ...] = (), estimate: float = 0.0) -> Step:
    code = f"open('{{out}}/order', 'a').write('{name}\\n'); print('said {name}')"
    return Step(name=name, command=("-c", code), estimate=estimate, after=after)


def fail(name: str) -> Step:
    return Step(name=name, command=("-c", "print('first'); raise SystemExit('no such thing')"), estimate=0)


def pieces(name: str, total: int) -> Step:
    path = f"{{out}}/{name}.txt"
    return Step(name=name, command=("-c", PIECES, path, str(total)), estimate=1, grows=path)


def sleep(name: str, seconds: float, estimate: float) -> Step:
    return Step(name=name, command=("-c", f"import time; time.sleep({seconds})"), estimate=estimate)


def budget(seconds: float) -> Budget:
    return Budget(seconds=seconds, stopping=1.0, reports=0.5, least=0.1)


def run(
    folder: Path, *steps: Step, seconds: float = 30, reports: tuple[Report, ...] = (), limits: Budget | None = None
) -> Outcome:
    """One call."""
    listed = Campaign(steps=steps, reports=reports)
    record = Record(folder)
    record.require(listed)
    conditions = {"device": "a device", "torch": "2.0"}
    return Runner(listed, folder, record, limits or budget(seconds), conditions, {"SAID": "yes"}).run()


def order(folder: Path) -> list[str]:
    return (folder / "order").read_text().split()


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


def test_long_work_is_stopped_in_time_and_goes_on(tmp_path: Path) -> None:
    step, calls, total = pieces("long", 150), 0, 150
    while True:
        calls += 1
        start = time.monotonic()
        limits = Budget(seconds=6, stopping=3, reports=1, least=0.1)
        outcome = run(tmp_path, step, say("after", after=("long",)), limits=limits)
        assert time.monotonic() - start < 6
        if not outcome.waiting:
            break
        assert outcome == Outcome(waiting=["long", "after"], failures=[])
        assert Record(tmp_path).entries["long"].said == "left in good order"
        assert calls < 60, "nothing goes on"
    assert calls > 1
    assert (tmp_path / "long.txt").read_text() == "piece\n" + total * "x\n"  # no piece twice, none lost
    entry = Record(tmp_path).entries["long"]
    assert (entry.status, entry.said) == (DONE, "all pieces")
    assert entry.seconds > total * 0.02, "the time of all calls"
    assert order(tmp_path) == ["after"]


def test_what_does_not_stop_is_killed_with_all_its_processes(tmp_path: Path) -> None:
    code = "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', sys.argv[1]]); "
    code += "open('{out}/child', 'w').write(str(child.pid)); exec(sys.argv[1])"
    start = time.monotonic()
    limits = Budget(seconds=6, stopping=1, reports=3, least=0.1)
    outcome = run(tmp_path, Step(name="a", command=("-c", code, STUBBORN), estimate=0), limits=limits)
    assert time.monotonic() - start < 6
    assert outcome.failures
    child = int((tmp_path / "child").read_text())
    gone = Path(f"/proc/{child}/stat")
    deadline = time.monotonic() + 10
    while gone.exists() and gone.read_text().rpartition(")")[2].split()[0] != "Z":
        assert time.monotonic() < deadline, "a process is left"


def test_nothing_is_begun_that_does_not_fit(tmp_path: Path) -> None:
    steps = (sleep("long", 0.8, estimate=0), say("too-long", estimate=2.3), say("short", estimate=0.1))
    outcome = run(tmp_path, *steps, seconds=4.5)  # 3 s for steps, of which 2.2 s are left
    assert outcome == Outcome(waiting=["too-long"], failures=[])
    assert order(tmp_path) == ["short"], "what fits goes on"
    assert run(tmp_path, *steps, seconds=4.5).waiting == []
    assert order(tmp_path) == ["short", "too-long"]


def test_what_fits_no_call_is_told_and_not_waited_for(tmp_path: Path) -> None:
    outcome = run(tmp_path, say("a", estimate=600), say("b", after=("a",)), seconds=30)
    assert outcome.waiting == []
    assert outcome.failures[0] == "a needs about 0:10:00 in one go; pass --minutes 11"
    assert outcome.failures[1] == "b was not run, for want of a"


def test_a_step_cut_short_is_begun_again_only_with_more_time(tmp_path: Path) -> None:
    entry = Entry(command=shown(say("a").command), status=CUT, seconds=5, device="", torch="", when="", said="", of=())
    Record(tmp_path).put("a", entry)
    assert run(tmp_path, say("a"), seconds=7).failures == ["a needs about 0:00:06 in one go; pass --minutes 1"]
    assert run(tmp_path, say("a"), seconds=9) == Outcome(waiting=[], failures=[])


def test_work_that_finishes_nothing_in_a_whole_call_has_failed(tmp_path: Path) -> None:
    slow = Step(name="a", command=("-c", "import time; time.sleep(60)"), estimate=0, grows="{out}/a.txt")
    outcome = run(tmp_path, slow, say("b"), seconds=2.5)
    assert len(outcome.failures) == 1
    assert "a failed: nothing was finished in 0:00:01; pass more --minutes" in outcome.failures[0]
    assert outcome.waiting == ["b"]


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


def options(folder: Path, **given: object) -> argparse.Namespace:
    usual = {"out": folder, "minutes": 2.0, "list": False, "only": None, "retry": False, "data_root": None}
    return argparse.Namespace(**{**usual, "quick": True, **given})


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


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"schema": 1, "steps": {"a": {"comm', "Unterminated string"),
        ("[]", "it has no steps in schema 1"),
        ('{"schema": 2, "steps": {}}', "it has no steps in schema 1"),
        ('{"schema": 1, "steps": {"a": {"status": "done"}}}', "a has not the keys command, status"),
        ("ENTRY status=finished", "a has status = 'finished'"),
        ("ENTRY seconds=true", "a has seconds = True"),
        ("ENTRY of=7", "a has of = 7"),
    ],
)
def test_a_damaged_or_foreign_record_is_refused(tmp_path: Path, content: str, said: str) -> None:
    if content.startswith("ENTRY"):
        run(tmp_path, say("a"))
        key, value = content.split()[1].split("=")
        found = json.loads((tmp_path / "campaign.json").read_text())
        found["steps"]["a"][key] = value if key == "status" else json.loads(value)
        content = json.dumps(found)
    (tmp_path / "campaign.json").write_text(content)
    with pytest.raises(ValueError, match="is not what a campaign writes") as refused:
        run(tmp_path, say("a"))
    assert said in str(refused.value)
    assert "restore it, or give another --out" in str(refused.value)
    assert (tmp_path / "campaign.json").read_text() == content


def test_a_record_of_other_commands_is_refused(tmp_path: Path) -> None:
    run(tmp_path, say("a"))
    with pytest.raises(ValueError, match="is of another campaign: there a is `python -c open"):
        run(tmp_path, fail("a"))


def test_two_campaigns_do_not_share_a_folder(tmp_path: Path) -> None:
    with held(tmp_path), pytest.raises(ValueError, match="a campaign is running in"), held(tmp_path):
        raise AssertionError("held twice")
    with held(tmp_path):
        pass


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_at_once_with_what_is_finished(number: int, status: int, tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, 'tests'); from pathlib import Path\n"
        "import test_benchmarks_campaign as tests; from data import console\n"
        "steps = tests.say('a'), tests.sleep('b', 600, 0)\n"
        "console.run(lambda: tests.run(Path(sys.argv[1]), *steps, seconds=600))"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "[2/2] b" not in process.stdout.readline():
        assert process.poll() is None
    log = log_of(tmp_path, "b")
    while not log.exists() or not log.stat().st_size:
        assert process.poll() is None
    start = time.monotonic()
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - start < 20
    assert process.returncode == status, errors
    assert "what was finished is on disk" in errors
    assert "Traceback" not in errors
    assert {name: entry.status for name, entry in Record(tmp_path).entries.items()} == {"a": DONE}


@pytest.mark.parametrize("listed", [campaign_steps.full(), campaign_steps.quick()])
def test_every_step_is_a_command_of_this_project(listed: Campaign) -> None:
    names = [step.name for step in listed.steps]
    assert len(set(names)) == len(names)
    made: set[str] = set()
    for number, step in enumerate(listed.steps):
        assert set(step.after) <= set(names[:number])
        command = list(step.command)
        assert command[0] == "-m"
        if command[1] == "train":
            changes = [command[i + 1] for i, part in enumerate(command) if part == "--set"]
            settings = config_file.load(command[2], changes)
            folder = command[command.index("--out") + 1]
            assert command[-1] == "--resume"
            made.add(folder)
            if "graded" in folder:
                assert (settings.objective, settings.m) == ("consistency", 2)
                assert (settings.graded, settings.worst_of) == (True, 8)
            if "cifar10" in folder:
                assert f"{settings.arch}-{settings.sigma:.2f}" in folder
                assert settings.epochs == 150
        elif command[1] == "certify":
            assert command[3] in made
        else:
            assert command[1] == "pytest" or (ROOT / Path(*command[1].split("."))).with_suffix(".py").is_file()
    for report in listed.reports:
        assert set(report.of) <= set(names)
        assert {part for part in report.command(report.of) if part in made} <= made


def test_a_comparison_is_whole_before_the_next_begins() -> None:
    names = [step.name for step in campaign_steps.full().steps]
    first = next(number for number, name in enumerate(names) if "cifar10" in name)
    assert [name.split("/")[0] for name in names[:first]] == [
        *["gpu-tests", *4 * ["engine_bench"], "noise_bench"],
        *3 * ["maxup_step"],
    ]
    methods = ["gaussian", "mean-of-4", "maxup-4", "graded-8"]
    blocks = [names[at : at + 8] for at in range(first, len(names), 8)]
    comparisons = []
    for block in blocks:
        name = block[0].split("/")[1]
        assert block == [f"{what}/{name}/{method}" for method in methods for what in ("train", "certify")]
        comparisons.append(name)
    assert comparisons[:4] == [f"cifar10-resnet{depth}-{sigma}" for depth in (20, 110) for sigma in ("0.50", "0.25")]
    assert comparisons[4:] == [f"{data}-seed-{seed}" for seed in range(3) for data in ("fashion-mnist", "mnist")]


def test_a_quick_comparison_is_trained_certified_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = f"campaign --out {shlex.quote(str(tmp_path))} --quick --only certify/fashion-sample/gaussian"
    monkeypatch.setattr(sys, "argv", shlex.split(arguments))
    with pytest.raises(SystemExit) as ended:
        campaign.main()
    told = capsys.readouterr()
    assert ended.value.code == 0, told
    assert {name: entry.status for name, entry in Record(tmp_path).entries.items()} == {
        "train/fashion-sample/gaussian": DONE,
        "certify/fashion-sample/gaussian": DONE,
        "results/fashion-sample": DONE,
    }
    assert (tmp_path / "results" / "fashion-sample.md").read_text().startswith("# Results\n")
    commands = [entry.command for entry in Record(tmp_path).entries.values()]
    assert all("{out}" in command and str(tmp_path) not in command for command in commands)
