"""Processes of a shared run that are killed or stopped: the table of one process, whatever dies on the way."""

import itertools
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import shared_runs
from shared_runs import COMMAND, SEED, run, torchrun
from table_lines import lines

from maxup_smoothing.certify.distributed import rank_tables

_here = shared_runs.here
whole = shared_runs.whole

MORTAL = """
import os, signal, time
from pathlib import Path
from maxup_smoothing.certify.engine import scheduler
from maxup_smoothing.certify.__main__ import main
from maxup_smoothing.certify.tables.radius_table import RadiusTable

rank, attempt, append = int(os.environ["RANK"]), int(os.environ["TORCHELASTIC_RESTART_COUNT"]), RadiusTable.append
scheduler._SAMPLES, scheduler._BATCHES = 200, 1  # an image each

def appended(table, row):
    append(table, row)
    Path(f"row-{attempt}-{rank}").touch()
    while not Path(f"row-{attempt}-{1 - rank}").exists():
        time.sleep(0.01)
    if attempt < 5 and rank == attempt % 2:
        os.kill(os.getpid(), signal.SIGKILL)
    elif attempt < 5:
        time.sleep(1)  # leave images to the next lives

RadiusTable.append = appended
main()
"""


def test_one_of_two_processes_is_killed_five_times(whole: list[list[str]]) -> None:
    Path("mortal.py").write_text(MORTAL)
    command = torchrun(*COMMAND, *SEED, restarts=5)
    command[command.index("certify")] = "mortal"
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert result.returncode == 0, result.stderr
    assert lines() == whole
    assert rank_tables.found(Path("out/radii.tsv")) == []
    # What was on disk was not done again: each life began with what the one before had left, two rows less.
    left = [int(line.split()[1]) for line in result.stderr.splitlines() if line.startswith("certifying")]
    assert left[0] == 24
    assert len(left) == 6
    assert all(after <= before - 2 for before, after in itertools.pairwise(left))


def test_a_signal_to_torchrun_leaves_rows_that_the_next_run_takes(whole: list[list[str]]) -> None:
    Path("mortal.py").write_text(MORTAL.replace("attempt % 2", "2"))  # nobody dies; a second for each row
    command = torchrun(*COMMAND, *SEED)
    command[command.index("certify")] = "mortal"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 100
    while not (Path("row-0-0").exists() and Path("row-0-1").exists()) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=100)[1]
    assert process.returncode != 0
    assert "terminated; what was finished is on disk: " in said
    assert said.count("The same command goes on.") == 1, "one process talks"
    left = rank_tables.found(Path("out/radii.tsv"))
    assert [file.name for file in left] == ["radii.rank-0.tsv", "radii.rank-1.tsv"]
    rows = sum(len(lines(file)) - 1 for file in left)
    assert 2 <= rows < 24
    assert run(*COMMAND, *SEED) == 0  # one process goes on with what two have left
    assert lines() == whole
    assert rank_tables.found(Path("out/radii.tsv")) == []
    times = {line.split("\t")[0]: line for line in Path("out/radii.tsv").read_text().splitlines()[1:]}
    assert len(times) == 24


def machines(command: list[str]) -> list[tuple[str, str]]:
    """What two launchers that meet print."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    launcher = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--local-addr", "127.0.0.1"]
    launcher += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "test", "--monitor-interval", "0.05"]
    whole = [sys.executable, "-m", "torch.distributed.run", *launcher, "--max-restarts", "2", "-m", *command]
    both = [subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [machine.communicate(timeout=200) for machine in both]
    assert [machine.returncode for machine in both] == [0, 0], said
    return said


def test_a_process_of_one_of_two_machines_is_killed(whole: list[list[str]]) -> None:
    once = MORTAL.replace("if attempt < 5 and rank == attempt % 2:", "if rank == 1 and not Path('dead').exists():")
    once = once.replace("        os.kill", "        Path('dead').touch(); os.kill").replace(
        "elif attempt < 5", "elif not Path('dead').exists()"
    )
    once = once.replace("row-{attempt}-", "row-")  # each machine counts its own restarts
    Path("mortal.py").write_text(once)
    said = machines(["mortal", *COMMAND, *SEED])
    assert Path("dead").exists()
    assert lines() == whole
    assert rank_tables.found(Path("out/radii.tsv")) == []
    assert sum(out.count("ACR") for out, _ in said) == 1
    left = [int(line.split()[1]) for _, err in said for line in err.splitlines() if line.startswith("certifying")]
    assert len(left) == 2
    assert min(left) <= 22 < max(left) == 24, "the second life took the rows of the first"
