"""A parser as it is fuzzed: the readers of one kind of file, valid such files, and what may come of any bytes."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.watch import watched

Reader = Callable[[Path], object]


@dataclass(frozen=True, kw_only=True)
class Parser:
    """One kind of file or text from outside.

    Attributes:
        name: By which it is asked for.
        file: What the file is called in its folder, which is where readers look for what belongs to it.
        seeds: Valid files, to be damaged.
        readers: All that reads such files; each is given the path.
        beside: Valid files that lie beside it.
        named: Whether errors must name the file; texts of a command line have none.
        slow: How many times as long as others it takes; it gets fewer inputs in the quick run.
    """

    name: str
    file: str
    seeds: Callable[[], list[bytes]]
    readers: tuple[Reader, ...]
    beside: Callable[[], dict[str, bytes]] = field(default=dict)
    named: bool = True
    slow: int = 1


def attempt(parser: Parser, data: bytes, folder: Path) -> int:
    """Let every reader of the parser read the bytes; the only failures allowed are errors that a user can mend.

    Args:
        parser: What reads.
        data: The file's content.
        folder: Emptied, then filled with the file and what lies beside it.

    Returns:
        How many of the readers accepted it.

    Raises:
        AssertionError: If an error does not name its file, or a reader did more than read.
        Exception: Whatever else a reader raised: a defect.
    """
    accepted = 0
    for reader in parser.readers:
        shutil.rmtree(folder, ignore_errors=True)
        path = folder / parser.file
        path.parent.mkdir(parents=True)
        for name, content in parser.beside().items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        path.write_bytes(data)
        try:
            with watched(folder):
                reader(path)
        except (ValueError, OSError) as error:
            _require_helpful(parser, path, error)
        else:
            accepted += 1
    return accepted


def _require_helpful(parser: Parser, path: Path, error: Exception) -> None:
    """An error must name its file (those of the operating system name the one that they are about) and have an end."""
    named = any(name in str(error) for name in (path.name, path.parent.name, path.stem))
    told = not parser.named or named or (isinstance(error, OSError) and error.filename is not None)
    assert told, f"names no file: {error!r}"
    assert len(str(error)) < 20_000, f"an error of {len(str(error))} characters"
