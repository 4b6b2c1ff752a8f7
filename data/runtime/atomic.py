"""Files that are there whole or not at all, after a crash and after a power cut, and the hash of a whole file."""

import contextlib
import errno
import glob
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

_BINARY = getattr(os, "O_BINARY", 0)  # Windows would turn line ends

_SAID = "cannot write: "


def write_atomically(path: str | os.PathLike[str], content: bytes) -> None:
    """Write ``content`` to ``path`` so that a crash or a full disk leaves the old file or the new one, never a part.

    The bytes go to a temporary file in the same folder (made if missing), reach the disk, and take the name last.

    Raises:
        OSError: If ``path`` is a folder or cannot be written, naming it; what was there is as it was.
    """
    path = Path(path)
    with staged(path, content) as temporary, told_of(path):
        os.replace(temporary, path)
        sync_folder(path.parent)


def append_durably(path: Path, content: bytes) -> None:
    """Write ``content`` to the end of ``path``; it is on disk when this returns, but a crash may leave a part.

    Raises:
        OSError: If it cannot be written, naming the file.
    """
    with told_of(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _BINARY, 0o666)
        try:
            _write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def staged(path: Path, content: bytes) -> Iterator[Path]:
    """``content`` on disk in a temporary file beside ``path``, for the ``with`` block to give it its name.

    Raises:
        OSError: If ``path`` is a folder or there is no room for it.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file.")
    # A plain open and not tempfile, whose files only the owner may read.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with told_of(path):
            make_folder(path.parent)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, 0o666)
            try:
                _write_all(descriptor, content)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        yield temporary
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)  # it is there only if something went wrong


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files that killed processes have left beside ``path``; its caller alone may write it."""
    for leftover in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        with contextlib.suppress(OSError):
            leftover.unlink()


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, each of which survives a power cut when this returns."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        new.mkdir(exist_ok=True)
        sync_folder(new.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut: a file's own fsync does not reach its folder."""
    if os.name == "nt":  # Windows opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with told_of(folder):
            os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some file systems sync no folders
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Name the file in what the disk refuses: an error of a descriptor does not."""
    try:
        yield
    except OSError as error:
        if str(error.strerror).startswith(_SAID):
            raise
        raise OSError(error.errno, f"{_SAID}{error.strerror}", str(path)) from error


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:  # one call writes 2 GiB at most
        written = os.write(descriptor, rest)
        if not written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rest = rest[written:]
