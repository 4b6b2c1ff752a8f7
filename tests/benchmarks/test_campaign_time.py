"""The campaign's time: what is stopped, killed, begun or left for another call, and what a signal leaves."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_campaign import order, pieces, run, say, sleep

from benchmarks.campaign_process import ROOT
from benchmarks.campaign_record import CUT, DONE, Entry, Record, shown
from benchmarks.campaign_runner import Budget, Outcome, log_of
from benchmarks.campaign_steps import Step

STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
while True:
    time.sleep(0.05)
"""


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


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_at_once_with_what_is_finished(number: int, status: int, tmp_path: Path) -> None:
    script = (
        "import sys; sys.path.insert(0, 'tests/helpers'); from pathlib import Path\n"
        "import small_campaign as tests; from maxup_smoothing.data.runtime import console\n"
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
    assert "no file is left half written" in errors
    assert "Traceback" not in errors
    assert {name: entry.status for name, entry in Record(tmp_path).entries.items()} == {"a": DONE}
