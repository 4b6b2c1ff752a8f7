"""The manners of every command line here: one clear line for a user's mistake, and progress with the time left."""

import os
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn

from maxup_smoothing.data.runtime.signals import INTERRUPTED, WORDS, Stopped, sigterm_as_exit

USAGE_ERROR = 2
_DEBUG: list[bool] = []  # not empty while tracebacks are wanted
TRY_AGAIN = 75  # sysexits.h: a failure that may be gone at the next try


def show_tracebacks() -> None:
    """From now on print the traceback of an error, too, before its line."""
    _DEBUG.append(True)


def run(command: Callable[[], object]) -> None:
    """Run ``command``; end the process with one line on stderr, and no traceback, for what a user can mend.

    ``ValueError`` (bad arguments, files or models) and ``OSError`` (missing files, full disks) end with status 2,
    SIGINT (Ctrl-C) with 130, SIGTERM with 143, and an accelerator that is lost with 75. Anything else is a defect of
    ours and keeps its traceback.
    """
    try:
        with sigterm_as_exit():
            command()
    except Stopped as stopped:
        if str(stopped):  # one of several processes talks for all
            print(stopped, file=sys.stderr)
        sys.exit(stopped.status)
    except RecursionError:
        print("error: a file is nested too deeply to be read", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # `certify show FILE | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        if _DEBUG:
            traceback.print_exception(error)
        for line in str(error).split("\nerror: "):  # several findings may come as one error
            print(f"error: {one_line(line)}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    except RuntimeError as error:
        if not lost_accelerator(error):
            raise
        print(
            f"error: the accelerator is lost ({str(error).splitlines()[0]}), and this process can no longer use it. "
            "What was finished is on disk; the same command goes on (training: with --resume).",
            file=sys.stderr,
        )
        sys.exit(TRY_AGAIN)
    except (KeyboardInterrupt, SystemExit) as stop:
        # Typer turns Ctrl-C into a silent exit.
        status = stop.code if isinstance(stop, SystemExit) else INTERRUPTED
        if status not in WORDS:
            raise
        print(f"{WORDS[status]}; no file is left half written", file=sys.stderr)
        sys.exit(status)


def one_line(message: object, longest: int = 4000) -> str:
    """A message fit for a terminal: names out of files may hold line ends and the commands that terminals obey.

    Characters that are not printable, and halves of surrogate pairs, are shown as escapes such as ``\\x1b``.
    """
    text = "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode()
        for character in str(message)
    )
    return text if len(text) <= longest else f"{text[:longest]} …"


def lost_accelerator(error: BaseException) -> bool:
    """Whether an error is one of those after which a CUDA context is dead; known by name, since torch is not imported.

    Running out of memory is none of them.
    """
    if type(error).__name__ == "OutOfMemoryError" or "out of memory" in str(error):
        return False
    return type(error).__name__ == "AcceleratorError" or str(error).startswith(("CUDA error", "CUDA driver error"))


def manual(docstring: str | None) -> str:
    """A module's docstring as the help of its command: indented paragraphs keep their lines."""
    paragraphs = (docstring or "").strip().split("\n\n")
    return "\n\n".join(f"\b\n{text}" if text.startswith(" ") else text for text in paragraphs)


def progress(*columns: ProgressColumn, disable: bool = False) -> Progress:
    """A progress bar on stderr: description, bar, done/total, ``columns``, time left; nothing with ``disable``.

    On a terminal it is redrawn in place and vanishes at the end; into a file or a pipe nothing is drawn, and the
    caller prints lines instead.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        *columns,
        TimeRemainingColumn(),
        console=_stderr(),
        transient=True,
        disable=disable,
    )


class Meter:
    """Progress of long work: a bar on a terminal, elsewhere a line on stderr every half minute.

    Args:
        what: Such as "certifying".
        unit: Such as "images".
        total: How many of them.
        steps: Smaller pieces of work in all, by which the time left is measured; None if unknown: by units then.
        step_unit: Such as "samples".
    """

    def __init__(self, what: str, unit: str, total: int, steps: int | None, step_unit: str) -> None:
        self._what, self._unit, self._total, self._steps, self._step_unit = what, unit, total, steps, step_unit
        self._finished, self._stepped = 0, 0
        self._start = self._told = time.monotonic()
        console = _stderr()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(what, total=max(1, total if steps is None else steps), text="")

    def __enter__(self) -> "Meter":
        """Start drawing."""
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop drawing."""
        self._bar.stop()

    def expect(self, total: int, steps: int | None) -> None:
        """Say how much work it is where that is known only after the start; see the class for both."""
        self._total, self._steps = total, steps
        self._bar.update(self._task, total=max(1, total if steps is None else steps))

    def advance(self, steps: int = 0, finished: int = 0) -> None:
        """Count ``steps`` and ``finished`` units."""
        self._stepped += steps
        self._finished += finished
        now = time.monotonic()
        rate = self._stepped / max(now - self._start, 1e-9)
        done, whole = (self._finished, self._total) if self._steps is None else (self._stepped, self._steps)
        left = timedelta(seconds=round(max(0, whole - done) / done * (now - self._start))) if done > 0 else "?"
        text = f"{self._finished}/{self._total} {self._unit}, {rate:,.0f} {self._step_unit}/s, {left} left"
        self._bar.update(self._task, completed=done, text=text)
        if not self._bar.console.is_terminal and now - self._told > 30:
            self._told = now
            print(f"{self._what}: {text}", file=sys.stderr, flush=True)


def _stderr() -> Console:
    """A console on stderr that draws on terminals alone."""
    # A notebook's stream calls itself a terminal; the file descriptor below it is none.
    return Console(stderr=True, force_jupyter=False, force_terminal=None if os.isatty(2) else False)
