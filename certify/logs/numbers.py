"""Files of numbers without a header, as a grid of texts: what dialects without column names look at."""

import re
from collections.abc import Sequence

from maxup_smoothing.certify.logs.source import Source

_NUMBER = re.compile(r"-?[0-9]+\.?[0-9]*(e[+-]?[0-9]+)?|-?\.[0-9]+|nan|-?inf", re.IGNORECASE)
_BETWEEN = re.compile(r"[\s,;]+")


def split(line: str) -> list[str]:
    """The numbers of a line as texts; tabs, spaces, commas and semicolons stand between them."""
    return [text for text in _BETWEEN.split(line.strip()) if text]


def is_number(text: str) -> bool:
    """Whether a text is a decimal number."""
    return _NUMBER.fullmatch(text) is not None


def numbered(source: Source, names: Sequence[Sequence[str]] = ()) -> list[tuple[int, list[str]]]:
    """The lines of numbers, each with its number; empty where the first line is none and no header.

    Args:
        source: The file.
        names: Headers that may stand above the numbers, each a sequence of names in small letters.
    """
    lines = source.whole
    if lines and tuple(split(lines[0][1].lower())) in set(map(tuple, names)):
        lines = lines[1:]
    if not lines or not all(map(is_number, split(lines[0][1]))):
        return []
    return [(number, split(line)) for number, line in lines]
