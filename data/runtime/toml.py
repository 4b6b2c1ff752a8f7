"""TOML as other people's files have it, read within limits that tomllib does not have."""

import tomllib
from pathlib import Path
from typing import Any

from maxup_smoothing.data.runtime.untrusted import read_bytes

#: Bytes of the largest file that is read; a configuration of ours has two thousand.
LARGEST = 100_000
_LONGEST_LINE = 4000  # tomllib takes the square of a key's dots, and more: one line of 100 kB took 150 s


def read(path: Path) -> dict[str, Any]:
    """The values of a TOML file.

    Raises:
        ValueError: If it is larger than ``LARGEST`` or not TOML.
        OSError: If it cannot be read.
    """
    content = read_bytes(path, LARGEST)
    try:
        return parse(content.decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid TOML: {error}.") from error


def parse(text: str) -> dict[str, Any]:
    """The values of a TOML text.

    Raises:
        ValueError: If it is none, or nested too deeply, or has a number or a line that is too long.
    """
    if any(len(line) > _LONGEST_LINE for line in text.split("\n")):
        raise ValueError(f"a line has more than {_LONGEST_LINE} characters")
    try:
        return tomllib.loads(text.replace("\r\n", "\n"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
