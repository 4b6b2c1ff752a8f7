"""The guard of a long run: it handles signals and memory, and checks that f and its files stay the same."""

import os
import sys
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from torch import Tensor

from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.durable import DurableTable
from maxup_smoothing.data.runtime.atomic import file_sha256
from maxup_smoothing.data.runtime.signals import WORDS, Stop, Stopped


@dataclass
class WatchedFile:
    """A file as it was before it was read.

    Attributes:
        path: The file.
        sha256: Of its content.
    """

    path: Path
    sha256: str
    _seen: tuple[int, ...]

    @classmethod
    def of(cls, path: Path) -> "WatchedFile":
        """The file as it is now.

        Raises:
            OSError: If it cannot be read.
        """
        seen = _stat(path)
        return cls(path, file_sha256(path), seen)

    def require_unchanged(self, made: str) -> None:
        """Look whether the file is still the same: by its time and size, and by content if those differ.

        Args:
            made: What was made from it, such as "40 rows in radii.tsv".

        Raises:
            ValueError: If it is another file now, with both hashes, or is gone.
        """
        try:
            seen = _stat(self.path)
            now = self.sha256 if seen == self._seen else file_sha256(self.path)
        except OSError as error:
            now, seen = f"unknown: {error.strerror}", self._seen
        if now != self.sha256:
            raise ValueError(
                f"{self.path} was replaced while it was used: its SHA-256 was {self.sha256}, and is now {now}. "
                f"The {made} are of the file as it was, whose hash the manifest records, and are right for that one; "
                "to go on put it back, and for the new one write to another file."
            )
        self._seen = seen


def _stat(path: Path) -> tuple[int, ...]:
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size, found.st_ino


_SHARE = 100  # of the time of a run, at most one part of so many goes into looking at the weights and files


class Oversight:
    """Who may stop a run; this one never does."""

    def go_on(self) -> bool:
        """Called before each round, with all finished rows on disk: whether more inputs may be begun."""
        return True

    def batch_done(self, seconds: float) -> None:
        """Called after each batch with the time that the rest of the round will take, about; leaves by raising."""


class Guard(Oversight):
    """The oversight of a command that certifies into a table, in a ``with`` block.

    - The first SIGINT or SIGTERM ends the run with the rows in hand, or without them if they would take longer than
      ``data.runtime.signals.GRACE``.
    - Where memory runs out and f goes on with fewer rows at a time, stderr and the manifest's notes say so.
    - Once a minute and at the end, f's weights and the files that it and the images came from must be those of the
      beginning. Rows since the last check of weights that have changed are taken back.

    Args:
        classifier: f.
        table: Open for writing.
        images: Their indices, for messages.
        probe_NCHW: uint8, some of them: an f without weights, a function of arrays, must keep its classes of these.
        sources: The files.
        every: Seconds between two checks; longer if checks would take a hundredth of the time.
        others: Processes that write other tables of the same run.
        quiet: Leave it to one of them to talk.
        left: How many images nobody has begun, of those that all share; by default those that have no row here.
    """

    def __init__(
        self,
        classifier: BaseClassifier,
        table: DurableTable[Any],
        images: Collection[int],
        probe_NCHW: Tensor,
        sources: Collection[WatchedFile] = (),
        every: float = 60.0,
        *,
        others: int = 0,
        quiet: bool = False,
        left: Callable[[], int] | None = None,
    ) -> None:
        self._classifier, self._table, self._images, self._sources = classifier, table, images, sources
        self._probe_NCHW, self._failed = probe_NCHW, False
        self._others, self._quiet, self._left = others, quiet, left or self._without_row
        self._stop = Stop("" if quiet else "finishing the images in hand if that takes seconds")
        self._every, self._cost = every, 0.0

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._f, self._mark = self._classifier.mark(self._probe_NCHW), self._table.mark()
        self._checked = time.monotonic()
        self._classifier.on_smaller = self._tell_of_memory
        before = manifests.last_micro_batch(self._table.manifest)
        if self._classifier.micro_batch != (before or self._classifier.batch_size):
            self._note_memory()
        self._stop.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Check once more, and say so if a signal has cut the run short."""
        self._stop.__exit__(kind, error, trace)
        if not self._failed:
            try:
                self._check_f()
            except RuntimeError:
                if error is None:
                    raise  # else of a device that is lost, which is being said already
        if error is None:
            self._check_sources()
        if error is None and self._stop.status is not None and self._left():
            raise self._stopped()

    def go_on(self) -> bool:
        """Whether more inputs may be begun.

        Raises:
            ValueError: If f or a file has changed.
        """
        start = time.monotonic()
        if start - self._checked > max(self._every, _SHARE * self._cost):
            self._check_f()
            self._check_sources()
            self._checked = time.monotonic()
            self._cost = self._checked - start
        return self._stop.status is None

    def batch_done(self, seconds: float) -> None:
        """Leave if a signal has come and the round would take too long.

        Raises:
            Stopped: Then.
        """
        if self._stop.too_long(seconds):
            raise self._stopped()

    def _without_row(self) -> int:
        return sum(index not in self._table.done for index in self._images)

    def _stopped(self) -> Stopped:
        assert self._stop.status is not None
        total, others = len(self._images), f", and more of {self._others} other processes" if self._others else ""
        text = (
            f"{WORDS[self._stop.status]}; what was finished is on disk: {total - self._without_row()} of {total} "
            f"images in {self._table.path}{others}. The same command goes on."
        )
        return Stopped(self._stop.status, "" if self._quiet else text)

    def _check_f(self) -> None:
        rows, change = len(self._table.done), self._classifier.change_since(self._f)
        if change is not None:
            self._failed = True
            self._table.cut_back(self._mark)
            kept = len(self._table.done)
            raise ValueError(
                f"f has changed while it ran: {change}; code of the model itself updates it. "
                f"{rows - kept} rows since the last check are of no one f and were taken out of {self._table.path}; "
                f"the {kept} before them stay. Freeze the weights and buffers."
            )
        self._mark = self._table.mark()

    def _check_sources(self) -> None:
        for source in self._sources:
            source.require_unchanged(f"{len(self._table.done)} rows in {self._table.path}")

    def _tell_of_memory(self) -> None:
        rows, size = self._classifier.micro_batch, self._classifier.batch_size
        print(f"out of memory: going on with {rows} of the {size} rows of a batch at a time", file=sys.stderr)
        self._note_memory()

    def _note_memory(self) -> None:
        told = manifests.told(self._table.manifest, "notes", "micro_batch") or []
        change = {"after_rows": len(self._table.done), "rows": self._classifier.micro_batch}
        self._table.annotate({"micro_batch": [*told, change]})


def paced(total: int, advance: Callable[[int], None], oversight: Oversight) -> Callable[[int], None]:
    """``advance`` for the batches of a round of so many samples, each of which is also told to ``oversight``."""
    start, done = time.perf_counter(), 0

    def batch(samples: int) -> None:
        nonlocal done
        done += samples
        advance(samples)
        oversight.batch_done((total - done) * (time.perf_counter() - start) / done)

    return batch
