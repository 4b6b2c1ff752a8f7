"""A file that one process appends whole lines to: its lock, and what reaches the disk."""

import contextlib
import errno
import os
from pathlib import Path

from maxup_smoothing.data.runtime.atomic import told_of


def lock(descriptor: int, path: Path) -> None:
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


def cut(descriptor: int, path: Path, size: int) -> None:
    """Shorten the file, on the disk, too: what is written to other files afterwards may rely on it."""
    if os.fstat(descriptor).st_size != size:
        with told_of(path):
            os.ftruncate(descriptor, size)
            os.fsync(descriptor)


def write(descriptor: int, path: Path, text: str) -> None:
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
