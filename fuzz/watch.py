"""What a parser does to the machine while it reads: nothing may be run, fetched, unpickled or written elsewhere."""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

# Of Python's audit events (docs.python.org, "Audit events table"), those that no reader of a file has a use for.
_NEVER = ("subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.kill", "socket.", "pickle.find_class")
_WRITES = {"os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "os.truncate", "os.chmod"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

#: Processor seconds that one reading of one small file may take.
SECONDS = 3.0
#: Bytes of address space that it may take on top of what is there.
MEMORY = 2 << 30


class _Watcher:
    """Notes events while it is on; an audit hook, once added, stays for the life of the process."""

    def __init__(self) -> None:
        self.folder: str | None = None
        self.seen: list[str] = []
        self.hooked = False

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        """Judge one event."""
        if self.folder is None:
            return
        if event.startswith(_NEVER):
            self.seen.append(f"{event} {arguments!r:.200}")
        elif event in _WRITES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING):
            where = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes | os.PathLike) else None
            if where is not None and not os.path.realpath(where).startswith(self.folder):
                self.seen.append(f"{event} {where}")


_WATCHER = _Watcher()


@contextlib.contextmanager
def watched(folder: Path, seconds: float = SECONDS) -> Iterator[None]:
    """Fail if, within the block, anything is run or written outside ``folder``, or it takes too long.

    Raises:
        AssertionError: Naming what happened.
    """
    if not _WATCHER.hooked:
        sys.addaudithook(_WATCHER)
        _WATCHER.hooked = True
    began = time.process_time()
    _WATCHER.seen, _WATCHER.folder = [], os.path.realpath(folder)
    try:
        yield
    finally:
        _WATCHER.folder = None
    assert not _WATCHER.seen, f"a parser did more than read: {_WATCHER.seen[:3]}"
    assert time.process_time() - began < seconds, f"it took {time.process_time() - began:.1f} s"


@contextlib.contextmanager
def limited_memory(extra: int = MEMORY) -> Iterator[None]:
    """Let the process take only ``extra`` bytes more: what asks for more gets a MemoryError, which is a defect here.

    Where the operating system does not tell what is taken (it is Linux that does), nothing is limited.
    """
    taken = Path("/proc/self/statm")
    if not taken.exists():
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (int(taken.read_text().split()[0]) * resource.getpagesize() + extra, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
