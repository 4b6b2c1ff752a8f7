"""Leaving on SIGINT and SIGTERM: the first signal lets the work in hand end, the second one does not."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, Self

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM  # exit statuses, as shells have them

#: Seconds that work in hand may go on after a signal. Schedulers kill after 30, some after 10.
GRACE = 8.0

_ELASTIC = "TORCHELASTIC_RUN_ID"  # set by torchrun, which passes its own SIGTERM on
_ECHO = 2.0  # seconds in which a process of torchrun may get one SIGTERM twice, also from a scheduler

WORDS = {INTERRUPTED: "interrupted", TERMINATED: "terminated"}


class Stopped(Exception):
    """Work was left because of a signal; the message says what is on disk.

    Args:
        status: Exit status, ``INTERRUPTED`` or ``TERMINATED``.
        message: For the user.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Stop:
    """Takes SIGINT and SIGTERM in a ``with`` block, and remembers that one came.

    Outside the main thread, where Python takes no signals, and for a signal that the process ignores (``nohup``,
    background jobs of a shell) it does nothing. Afterwards the handlers are those of before.

    Args:
        promise: What is told on stderr at the first signal, such as "finishing the images in hand"; nothing if empty.

    Attributes:
        status: Exit status if a signal has come, else None.
    """

    def __init__(self, promise: str) -> None:
        self._promise = promise
        self.status: int | None = None
        self._until = self._echo = 0.0
        self._before: dict[int, Any] = {}

    def too_long(self, seconds: float) -> bool:
        """Whether a signal has come and work of so many seconds more would not end in time."""
        return self.status is not None and time.monotonic() + seconds > self._until

    def __enter__(self) -> Self:
        """Take the signals."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):  # None: not Python's to put back
                    self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the signals back."""
        while self._before:
            signal.signal(*self._before.popitem())

    def _take(self, number: int, frame: FrameType | None) -> None:
        if self.status is not None and number == signal.SIGTERM and time.monotonic() < self._echo:
            return
        if self.status is not None:
            # Both pass every `except Exception`, as of a runtime that is being called.
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(TERMINATED)
        self.status, self._until = 128 + number, time.monotonic() + GRACE
        self._echo = time.monotonic() + _ECHO if _ELASTIC in os.environ else 0.0
        if not self._promise:
            return
        # Not print: the signal may have come in the middle of one.
        with contextlib.suppress(OSError):
            os.write(2, f"\n{signal.Signals(number).name}: {self._promise}; a second one leaves at once\n".encode())


@contextlib.contextmanager
def sigterm_as_exit() -> Iterator[None]:
    """SIGTERM as ``SystemExit(TERMINATED)``, which closes and cleans up, where nothing else takes the signal."""
    mine = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if mine:
        signal.signal(signal.SIGTERM, _leave)
    try:
        yield
    finally:
        if mine:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)
