"""Reading the files of strangers up to a limit: a small file may claim, or unpack to, more than any memory holds."""

import os
from pathlib import Path
from typing import Protocol

_RATIO, _ALWAYS = 100, 100_000_000  # images as people have them shrink to a tenth at best, blank ones to a thousandth


def most_unpacked(packed: int) -> int:
    """Bytes that a compressed file of ``packed`` bytes may unpack to: 100 MB, or 100 times its size if that is more."""
    return max(_ALWAYS, _RATIO * packed)


def read_bytes(path: str | os.PathLike[str], largest: int) -> bytes:
    """The content of a file of at most ``largest`` bytes.

    Raises:
        ValueError: If it is larger, or is no file at all: a named pipe would be waited for without an end.
        OSError: If it cannot be read.
    """
    path = Path(path)
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ValueError(f"{path} is no regular file; put a file there.")
    with path.open("rb") as stream:
        content = stream.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"{path} has more than {largest:,} bytes, the most that such a file may have.")
    return content


def read_text(path: str | os.PathLike[str], largest: int, form: str) -> str:
    """The text of a file in UTF-8 of at most ``largest`` bytes.

    Args:
        path: The file.
        largest: Bytes.
        form: What such a file is, for the message.

    Raises:
        ValueError: As `read_bytes`, and if it is not text.
        OSError: If it cannot be read.
    """
    try:
        return read_bytes(path, largest).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text; expected {form}.") from None


class _Stream(Protocol):
    def read(self, size: int = -1, /) -> bytes: ...
    def seek(self, offset: int, /) -> int: ...
    def tell(self) -> int: ...


class Unpacked:
    """A stream of unpacked bytes that ends in an error where it goes beyond its limit.

    Args:
        stream: Such as a gzip file, open for reading.
        largest: Position that nobody may read or seek beyond.
    """

    def __init__(self, stream: _Stream, largest: int) -> None:
        self._stream, self._largest = stream, largest

    def read(self, size: int = -1) -> bytes:
        """As a file's ``read``.

        Raises:
            ValueError: If there are more bytes than the limit.
        """
        left = self._largest - self._stream.tell()
        if 0 <= size <= left:
            return self._stream.read(size)
        content = self._stream.read(left + 1)
        if len(content) > left:
            raise ValueError(f"it unpacks to more than {self._largest:,} bytes, more than such a file can hold")
        return content

    def seek(self, position: int) -> int:
        """As a file's ``seek`` from its start.

        Raises:
            ValueError: If the position is negative or beyond the limit.
        """
        if not 0 <= position <= self._largest:
            raise ValueError(f"it has something at byte {position:,}, outside what such a file can hold")
        return self._stream.seek(position)

    def tell(self) -> int:
        """As a file's ``tell``."""
        return self._stream.tell()
