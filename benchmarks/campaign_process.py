"""One command of a campaign as a process: its log, its time limit, and how it is stopped."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.campaign_record import shown
from benchmarks.campaign_steps import Command
from maxup_smoothing.data.runtime import console
from maxup_smoothing.data.runtime.signals import GRACE

ROOT = Path(__file__).parents[1]
#: Seconds that a command has after SIGTERM before it is killed: it keeps to GRACE, and Python needs a moment to end.
STOPPING = GRACE + 2
_EVERY = 30.0  # seconds between two looks at the log


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended: its exit status, None if it was stopped in time; seconds; its last lines."""

    status: int | None
    seconds: float
    lines: tuple[str, ...]


def run_until(
    command: Command, folder: Path, log: Path, until: float, environment: Mapping[str, str], stopping: float = STOPPING
) -> Ended:
    """Run a command in the root of this project, and stop it at a time.

    It is sent SIGTERM first, and SIGKILL with all its processes when it does not end. Whatever ends this process, other
    than SIGKILL, ends the command too.

    Args:
        command: What follows `python`; ``{out}`` stands for ``folder``.
        folder: The campaign's.
        log: Where its output is added.
        until: By ``time.monotonic``.
        environment: Added to ours.
        stopping: Seconds between the two signals.
    """
    start = time.monotonic()
    with log.open("ab") as file:
        file.write(f"$ {shown(command)}\n".encode())
        file.flush()
        begin = file.tell()
        process = subprocess.Popen(
            [sys.executable, *(part.replace("{out}", str(folder)) for part in command)],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
            process_group=0,  # Ctrl-C is for us; what the command started is found by the group
        )
        try:
            status = _wait(process, until, log, begin)
            if status is None:
                process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    # What ended well just now is finished; anything else was stopped.
                    status = None if process.wait(stopping) else 0
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return Ended(status=status, seconds=time.monotonic() - start, lines=tuple(last_lines(log, begin)))


def last_lines(log: Path, begin: int, most: int = 5) -> list[str]:
    """The last lines with something in them, of what was added after byte ``begin``."""
    with log.open("rb") as file:
        file.seek(max(begin, log.stat().st_size - 20_000))
        text = file.read().decode(errors="replace").replace("\r", "\n")
    lines = [console.one_line(line.rstrip(), 300) for line in text.split("\n") if line.strip()]
    return lines[-most:]


def _wait(process: "subprocess.Popen[bytes]", until: float, log: Path, begin: int) -> int | None:
    """The exit status; None if the time is over. A new last line of the log is shown now and then."""
    told = ""
    while (left := until - time.monotonic()) > 0:
        try:
            return process.wait(min(_EVERY, left))
        except subprocess.TimeoutExpired:
            lines = last_lines(log, begin, most=1)
            if lines and lines[0] != told:
                told = lines[0]
                print(f"    {told}", flush=True)
    return process.poll()
