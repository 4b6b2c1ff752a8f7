"""Tables that a crash cannot hurt: a row is on disk, whole, before the next begins, and one process writes at a time.

The radius table and the table of predictions are two of them; beside each lies the manifest that its rows share.
"""

import contextlib
import errno
import os
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.data.runtime.atomic import make_folder, remove_leftovers, staged, sync_folder, told_of


class Keyed(Protocol):
    """A row of a durable table."""

    @property
    def idx(self) -> int:
        """Index of the input in its data set."""

    @property
    def key(self) -> Hashable:
        """What tells the rows of a table apart: ``idx``, where an input has one row."""


R = TypeVar("R", bound=Keyed)


class DurableTable(ABC, Generic[R]):
    """A table open for writing: a row is on disk before `append` returns, and only one process can write.

    A kind of table names its ``columns`` and itself (``kind``, for messages), and turns rows into lines and back.

    Attributes:
        path: The table.
        manifest: What the table's rows have in common; the stored one where a table is continued.
        done: The rows on disk by their key.
    """

    columns: ClassVar[tuple[str, ...]]
    kind: ClassVar[str]

    @staticmethod
    @abstractmethod
    def format(row: R) -> str:
        """The row's line, without its end."""

    @staticmethod
    @abstractmethod
    def parse(line: str) -> R:
        """The inverse of `format`; ``ValueError`` if a field is malformed or contradicts another one."""

    @staticmethod
    def named(row: R) -> str:
        """The row's key in words, for messages."""
        return f"idx {row.idx}"

    def __init__(self, path: Path, descriptor: int, manifest: dict[str, Any], done: dict[Any, R]) -> None:
        """Use `open`."""
        self.path = path
        self.manifest = manifest
        self.done = done
        self._descriptor: int | None = descriptor

    @classmethod
    def open(cls, path: str | os.PathLike[str], manifest: Mapping[str, Any], *, overwrite: bool = False) -> Self:
        """Begin a table, or continue one whose manifest agrees; nothing on disk changes before all checks pass.

        A last line that a crash has torn is dropped, to be done again.

        Args:
            path: The table; missing folders are made, and the manifest is written beside it.
            manifest: What is certified and how, see `certify.tables.manifest`.
            overwrite: Replace whatever file is there.

        Raises:
            ValueError: If the file is another kind of table, is damaged, was made with another manifest, or is being
                written by another process.
            OSError: If it cannot be written.
        """
        path = Path(path)
        manifests.encode(manifest)  # refuse what cannot be written before anything is touched
        make_folder(path.parent)
        if overwrite or not path.exists() or not path.stat().st_size:
            _require_own_manifest(path)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            _lock(descriptor, path)
            for file in (path, manifests.manifest_path(path)):
                remove_leftovers(file)
            old = None if overwrite else cls._load(path, manifest)
            if old is None:
                # Emptied first: after a crash anywhere here the file has no rows that the manifest beside it could
                # misdescribe, and the next run begins again.
                _cut(descriptor, path, 0)
                manifests.write(manifests.manifest_path(path), manifest)
                _write(descriptor, path, cls._header())
                stored, done = manifests.read(manifests.manifest_path(path)), dict[Any, R]()
            else:
                stored, done, size = old
                _cut(descriptor, path, size)
            return cls(path, descriptor, stored, done)
        except BaseException:
            os.close(descriptor)
            raise

    @classmethod
    def write(cls, path: str | os.PathLike[str], manifest: Mapping[str, Any], rows: Iterable[R]) -> None:
        """Write a whole table in place of whatever is there, or leave that as it is.

        Raises:
            ValueError: If another process is writing the file, or it would share another table's manifest.
            OSError: If it cannot be written.
        """
        path = Path(path)
        _require_own_manifest(path)
        beside = manifests.manifest_path(path)
        content = (cls._header() + "".join(cls.format(row) + "\n" for row in rows)).encode()
        with contextlib.ExitStack() as stack:
            if path.exists():
                descriptor = os.open(path, os.O_RDWR)
                stack.callback(os.close, descriptor)
                _lock(descriptor, path)
            # Both files reach the disk first: what can fail after that is two renamings.
            whole = stack.enter_context(staged(path, content))
            described = stack.enter_context(staged(beside, manifests.encode(manifest)))
            with told_of(path):
                if path.exists():
                    # A crash may leave rows without a manifest, which are refused, but never rows with another one's.
                    beside.unlink(missing_ok=True)
                    sync_folder(path.parent)
                    os.replace(whole, path)
                    sync_folder(path.parent)
                    os.replace(described, beside)
                else:
                    os.replace(described, beside)
                    sync_folder(path.parent)
                    os.replace(whole, path)
                sync_folder(path.parent)

    def append(self, row: R) -> None:
        """Add a row; it is on disk, whole, when this returns.

        Raises:
            ValueError: If the row contradicts itself or its key is there already; nothing is written.
            OSError: If the disk refuses it; the rows before it are untouched.
        """
        assert self._descriptor is not None, "the table is closed"
        line = self.format(row)
        try:
            stored = self.parse(line)  # what `read` would refuse is not written
        except ValueError as error:
            raise ValueError(f"{self.path}: row for {self.named(row)} is refused: {error}") from None
        if stored.key in self.done:
            raise ValueError(f"{self.path} has a row for {self.named(row)} already.")
        if not os.fstat(self._descriptor).st_nlink:
            raise ValueError(f"{self.path} was removed or replaced while it was being written; run it again.")
        _write(self._descriptor, self.path, line + "\n")
        self.done[stored.key] = stored

    def annotate(self, notes: Mapping[str, Any]) -> None:
        """Put more into the manifest's section ``notes``, the one that a continuation may change.

        Raises:
            OSError: If it cannot be written.
        """
        assert self._descriptor is not None, "the table is closed"
        self.manifest["notes"] = {**(self.manifest.get("notes") or {}), **notes}
        manifests.write(manifests.manifest_path(self.path), self.manifest)

    def mark(self) -> int:
        """The rows so far, for `cut_back`."""
        return len(self.done)

    def cut_back(self, mark: int) -> None:
        """Take out the rows that came after a `mark`; they are off the disk when this returns.

        Raises:
            OSError: If the disk refuses it.
        """
        assert self._descriptor is not None, "the table is closed"
        lines = self.path.read_bytes().splitlines(keepends=True)[: 1 + mark]
        _cut(self._descriptor, self.path, sum(map(len, lines)))
        self.done = dict(list(self.done.items())[:mark])

    def rewrite(self, rows: Iterable[R]) -> None:
        """Put these rows in place of all; a crash leaves the old table or the new one, and the lock is kept throughout.

        Raises:
            OSError: If it cannot be written; the table is as it was.
        """
        assert self._descriptor is not None, "the table is closed"
        done = {row.key: row for row in rows}
        content = self._header() + "".join(self.format(row) + "\n" for row in done.values())
        with staged(self.path, content.encode()) as whole, told_of(self.path):
            descriptor = os.open(whole, os.O_RDWR | os.O_APPEND)
            try:
                _lock(descriptor, whole)  # before it has the name under which others look for it
                os.replace(whole, self.path)
            except BaseException:
                os.close(descriptor)
                raise
            os.close(self._descriptor)
            self._descriptor, self.done = descriptor, done
        sync_folder(self.path.parent)

    def close(self) -> None:
        """Give up the file and its lock; harmless when done twice."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        """Enter a ``with`` block that closes the table."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the table."""
        self.close()

    @classmethod
    def _header(cls) -> str:
        return "\t".join(cls.columns) + "\n"

    @classmethod
    def _load(cls, path: Path, manifest: Mapping[str, Any]) -> tuple[dict[str, Any], dict[Any, R], int] | None:
        """The stored manifest, the rows and the bytes that they fill; None for a file that holds no row yet."""
        content = path.read_bytes()
        if not content:
            return None
        beside = manifests.manifest_path(path)
        advice = "write to another file or pass --overwrite."
        if not beside.exists():
            raise ValueError(f"{path} exists without {beside.name}, so what it holds is unknown; {advice}")
        stored = manifests.read(beside)
        head, *lines = content.decode("utf-8", errors="replace").split("\n")
        # After a power cut there may be zeros where bytes never reached the disk.
        ours = all(found in (byte, "\0") for found, byte in zip(head, cls._header(), strict=False))
        if ours and (not lines or (lines == [""] and "\0" in head)):
            return None  # torn in its header
        if head + "\n" != cls._header():
            raise ValueError(f"{path} is not a {cls.kind} of this version: its first line differs; {advice}")
        size = content.rfind(b"\n") + 1  # what follows the last line end is torn
        lines.pop()
        if lines and (lines[-1].count("\t") + 1 != len(cls.columns) or "\0" in lines[-1]):
            size = content.rfind(b"\n", 0, size - 1) + 1
            lines.pop()
        done: dict[Any, R] = {}
        for number, line in enumerate(lines, start=2):
            try:
                row = cls.parse(line)
                _require_settings(row, manifests.told(stored, "sampling") or {})
                if row.key in done:
                    raise ValueError(f"{cls.named(row)} is there twice.")
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error} The table is damaged; {advice}") from None
            done[row.key] = row
        if not done:
            return None
        if (differing := manifests.difference(stored, manifest)) is not None:
            raise ValueError(f"{path} was certified with {differing.told('this run uses')}; {advice}")
        return stored, done, size


def read_lines(path: str | os.PathLike[str]) -> tuple[list[str], bool]:
    """The lines of a table without their ends, and whether the last one lacks its end, because it was cut off.

    Raises:
        OSError: If the file cannot be read.
    """
    lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
    torn = lines[-1] != ""
    return [line.rstrip("\r") for line in (lines if torn else lines[:-1])], torn


def finished(path: Path) -> set[int]:
    """The ``idx`` of the whole lines of a table, {} if there is none; that it is one of ours is checked on opening."""
    if not path.is_file():
        return set()
    whole = path.read_bytes().rpartition(b"\n")[0].split(b"\n")[1:]
    fields = (line.partition(b"\t")[0] for line in whole)
    return {int(field) for field in fields if field.isdigit()}


def _require_own_manifest(path: Path) -> None:
    """A new table must not take the manifest of another one, whose name differs after the stem only."""
    beside = manifests.manifest_path(path)
    if not beside.exists():
        return
    for other in sorted(path.parent.iterdir()):
        if other not in (path, beside) and other.is_file() and manifests.manifest_path(other) == beside:
            raise ValueError(f"{path} would share {beside.name} with {other.name}; give it a name of another stem.")


def _require_settings(row: Any, sampling: Mapping[str, Any]) -> None:
    early = sampling.get("procedure", "fixed") in ("sequential", "anytime", "predict-sequential")
    if early and row.n > sampling.get("n", row.n):
        raise ValueError(f"n is {row.n}, more than the {sampling['n']} of the manifest.")
    for name in ("n0", *([] if early else ["n"]), "sigma", "alpha", "procedure", "bound"):
        if name in sampling and hasattr(row, name) and getattr(row, name) != sampling[name]:
            raise ValueError(f"{name} is {getattr(row, name)}, but the manifest says {sampling[name]}.")


def _lock(descriptor: int, path: Path) -> None:
    """Let no other process write the file until the descriptor is closed.

    Raises:
        ValueError: If another one does, or has put another file in its place.
        OSError: If its file system has no locks.
    """
    import fcntl  # only writing needs it: tables are read on Windows too

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise ValueError(f"{path} is being written by another process; wait for it or write to another file.") from None
    except OSError as error:
        advice = "; its file system has no locks, so write the table to a local disk"
        raise OSError(error.errno, f"cannot lock: {error.strerror}{advice}", str(path)) from error
    mine = os.fstat(descriptor)
    if not path.exists() or (mine.st_dev, mine.st_ino) != (path.stat().st_dev, path.stat().st_ino):
        raise ValueError(f"{path} was replaced by another process just now; run it again.")


def _cut(descriptor: int, path: Path, size: int) -> None:
    """Shorten the file, on the disk, too: what is written to other files afterwards may rely on it."""
    if os.fstat(descriptor).st_size != size:
        with told_of(path):
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)


def _write(descriptor: int, path: Path, text: str) -> None:
    """Append all of the text and force it to disk, or restore the file's size and raise."""
    data = text.encode()
    size = os.fstat(descriptor).st_size
    with told_of(path):
        try:
            written = os.write(descriptor, data)  # one call: readers see the line or not
            if written < len(data):  # a disk that is full says why when it is asked for more
                written += os.write(descriptor, data[written:])
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except BaseException:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise
