"""The folder of a run: everything to use its result, to repeat it and to resume it.

config.toml             the configuration as resolved
environment.json        command, versions, device
train.csv               a line an epoch
checkpoint.safetensors  the model after the last finished epoch
best.safetensors        the model with the largest average certified radius on held-out images, with validate_every;
                        of a language model the one with the lowest validation perplexity
train_images.hashes     which images are trained on; see ``data.seen``
state.pt                optimizer, schedule and weights at that moment, for --resume
"""

import contextlib
import csv
import dataclasses
import io
import math
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch

from maxup_smoothing.data import seen
from maxup_smoothing.data.runtime.atomic import append_durably, make_folder, remove_leftovers, write_atomically
from maxup_smoothing.train import config_file
from maxup_smoothing.train.checkpoint import require_plain_archive
from maxup_smoothing.train.loop import Changed, Epoch

#: Keys that change nothing but the speed: a run may go on with others, and its files keep those that it began with.
_SPEED = ("workers",)


class Settings(Protocol):
    """The configuration of a run, a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def epochs(self) -> int:
        """Of the whole training."""

    def to_toml(self) -> str:
        """Whole, as a TOML file."""


C = TypeVar("C", bound=Settings)


class Restorable(Protocol):
    """A trainer."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from ``state``."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run.

    Args:
        path: The folder; made when first written to.
        line: The dataclass whose fields are the columns of ``train.csv``.
    """

    path: Path
    line: type[Any] = Epoch

    @property
    def checkpoint(self) -> Path:
        """The trained model."""
        return self.path / "checkpoint.safetensors"

    @property
    def best(self) -> Path:
        """The model that was best on held-out images."""
        return self.path / "best.safetensors"

    def find_state(self, config: Settings, *, resume: bool) -> dict[str, Any] | None:
        """Look whether a run with ``config`` may begin or go on here; writes nothing. Call it where the folder is held.

        Returns:
            The state to resume from, or None if the run begins.

        Raises:
            ValueError: If there is a run and ``resume`` is false, or the run has another configuration.
        """
        recorded = self.path / "config.toml"
        if not recorded.exists():
            if self.checkpoint.exists():
                raise ValueError(f"{self.path} holds a checkpoint without config.toml; give another --out.")
            return None
        if not resume:
            raise ValueError(f"{self.path} already holds a run; pass --resume to go on with it, or another --out.")
        old = config_file.load(str(recorded), kind=type(config))
        for field in dataclasses.fields(config):
            before, now = getattr(old, field.name), getattr(config, field.name)
            if before != now and field.name not in _SPEED:
                raise ValueError(f"{recorded} has {field.name} = {before!r}, this run {now!r}; give another --out.")
        state = self.path / "state.pt"
        return _load_state(state) if state.exists() else None

    def recorded(self, config: C) -> C:
        """The configuration as the run in the folder records it; ``config`` if none has begun here."""
        path = self.path / "config.toml"
        return config_file.load(str(path), kind=type(config)) if path.exists() else config

    def restore(self, trainer: Restorable, state: dict[str, Any], fingerprint: str) -> None:
        """Put ``trainer`` where ``state`` was taken.

        Raises:
            ValueError: If the state is damaged, or the images or the teacher have changed since.
        """
        if state.get("data") != fingerprint:
            raise ValueError(f"the images are not those of the run in {self.path}; give another --out.")
        try:
            trainer.restore(state)
        except Changed:
            raise
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{self.path / 'state.pt'} is damaged or of another version; delete it to train from the start."
            ) from error

    @contextlib.contextmanager
    def held(self, instead: str = "give another --out") -> Iterator[None]:
        """Keep other processes out of the folder for a ``with`` block; what it reads there stays as it is.

        The folder is made, and removed again if nothing was written to it.

        Args:
            instead: What may be done instead of waiting, for the error.

        Raises:
            ValueError: If another process works in it.
        """
        new = not self.path.exists()
        make_folder(self.path)
        if os.name == "nt":  # Windows opens no folders
            yield
            return
        import fcntl

        descriptor = os.open(self.path, os.O_RDONLY)
        _locks.add(descriptor)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # One that wrote nothing may have removed the folder since: nobody would see the lock on it.
                gone = not os.path.samestat(os.fstat(descriptor), os.stat(self.path))
            except (BlockingIOError, FileNotFoundError):
                gone = True
            except OSError:  # some network file systems lock no folders
                gone = False
            if gone:
                raise ValueError(f"{self.path} is being trained in by another process; wait for it or {instead}.")
            ours = ("config.toml", "environment.json", "train.csv", "state.pt", seen.FILE)
            for file in (*(self.path / name for name in ours), self.checkpoint, self.best):
                remove_leftovers(file)
            yield
        finally:
            if new:
                with contextlib.suppress(OSError):  # it holds something by now
                    self.path.rmdir()
            _locks.discard(descriptor)
            os.close(descriptor)

    def begin(self, config: Settings, environment: bytes, finished: int) -> None:
        """Record what is run and where, and cut ``train.csv`` back to the epochs that the state knows."""
        if not (self.path / "config.toml").exists():
            write_atomically(self.path / "config.toml", config.to_toml().encode())
        if finished < config.epochs or not (self.path / "environment.json").exists():
            write_atomically(self.path / "environment.json", environment)  # else nothing will be trained here
        table = self.path / "train.csv"
        columns = [field.name for field in dataclasses.fields(self.line)]
        try:
            rows = table.read_text().splitlines(keepends=True)[1 : finished + 1] if table.exists() else []
        except UnicodeDecodeError:
            raise ValueError(f"{table} is damaged: it is no text; delete it to go on without its lines.") from None
        # Rows of an older version have fewer columns.
        rows = [row.rstrip("\n") + ",nan" * (len(columns) - 1 - row.count(",")) + "\n" for row in rows]
        write_atomically(table, "".join([_csv_line(columns), *rows]).encode())

    def record(self, epoch: Any, state: dict[str, Any]) -> None:
        """Append a line to ``train.csv`` and replace ``state.pt``, in this order: ``begin`` mends the other one."""
        line = _csv_line([f"{value:.6g}" for value in dataclasses.astuple(epoch)])
        append_durably(self.path / "train.csv", line.encode())
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_atomically(self.path / "state.pt", buffer.getvalue())


_locks = set[int]()  # descriptors of folders that this process holds


def _let_go() -> None:
    """In a process that was forked, such as one that decodes images: it may outlive a run that is killed."""
    while _locks:
        os.close(_locks.pop())


if hasattr(os, "register_at_fork"):  # Windows has none
    os.register_at_fork(after_in_child=_let_go)


def _csv_line(values: list[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


def _load_state(path: Path) -> dict[str, Any]:
    try:
        require_plain_archive(path)
        with zipfile.ZipFile(path) as archive:
            if (part := archive.testzip()) is not None:  # torch compares no checksums
                raise ValueError(f"{part} has another checksum")
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict):
            raise ValueError("it holds no named values")
    except Exception as error:  # the unpickler and the archive's reader fail in whatever way the damage asks for
        raise ValueError(f"{path} is damaged and cannot be resumed from; delete it to train from the start.") from error
    return state


class Board:
    """Event files beside ``train.csv``; ``tensorboard --logdir runs`` shows all runs in one plot.

    Args:
        folder: Of the run.
        finished: Epochs that are recorded already; events after them, of a run that was cut off, are hidden.

    Raises:
        ValueError: If TensorBoard is not installed.
    """

    def __init__(self, folder: Path, finished: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ValueError(
                "tensorboard = true needs TensorBoard: pip install 'maxup-smoothing[tensorboard]'."
            ) from error
        self._writer = SummaryWriter(str(folder), purge_step=finished + 1)

    def record(self, line: Epoch) -> None:
        """Write one epoch: each column of ``train.csv`` that holds a number."""
        for name, value in dataclasses.asdict(line).items():
            if name != "epoch" and not math.isnan(value):
                self._writer.add_scalar(name, value, line.epoch)
        self._writer.flush()
