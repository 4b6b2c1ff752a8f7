"""The fields of a row as text: how they are written, how they are read, and what is wrong with a row.

A `Field` says in words what its text must be, and reads it. Every table gives `parse_line` the fields of its columns.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from maxup_smoothing.certify.statistics.certificate import Look
from maxup_smoothing.certify.statistics.disagreement import parse_pairs
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.statistics.top_k import parse_top_k

#: Votes for no class, because a logit was not finite; ``invalid`` in the file.
INVALID = -2
CERTIFIED, ABSTAINED = "certified", "abstain"
#: The kinds of `RowError`: a field cannot be read, a radius is above its ceiling, two fields contradict each other.
MALFORMED, CEILING, CONTRADICTION = "malformed", "ceiling", "contradiction"

_INTEGER = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DURATION = re.compile(r"(?:([0-9]{1,6}) days?, )?([0-9]{1,9}):([0-5][0-9]):([0-5][0-9](?:\.[0-9]+)?)")

T = TypeVar("T")


class RowError(ValueError):
    """A row that is malformed or cannot be true.

    Attributes:
        kind: ``malformed``, ``ceiling`` or ``contradiction``.
        field: The column that is wrong; empty where the number of fields is.
    """

    def __init__(self, message: str, *, kind: str, field: str) -> None:
        """A whole sentence, with its kind and its column."""
        super().__init__(message)
        self.kind, self.field = kind, field


def contradiction(field: str, message: str) -> RowError:
    """The error of a row whose ``field`` contradicts another one."""
    return RowError(message, kind=CONTRADICTION, field=field)


@dataclass(frozen=True)
class Field(Generic[T]):
    """One kind of field.

    Attributes:
        wanted: What its text must be, such as ``an integer >= 0``.
        convert: The value of a text; ``ValueError`` where the text is something else.
    """

    wanted: str
    convert: Callable[[str], T]

    def read(self, text: str, name: str) -> T:
        """The value of the column ``name``.

        Raises:
            RowError: If the text is not what is wanted, in a whole sentence.
        """
        try:
            return self.convert(text)
        except ValueError:
            message = f"{name} must be {self.wanted}, got {text[:200]!r}."
            raise RowError(message, kind=MALFORMED, field=name) from None


def parse_line(line: str, header: Sequence[str], fields: Mapping[str, Field[Any]]) -> dict[str, Any]:
    """The values of a tab-separated line by column; columns without a field of their own stay text.

    Raises:
        RowError: If there are more or fewer fields than columns, or one is malformed.
    """
    texts = line.split("\t")
    if len(texts) != len(header):
        message = f"expected {len(header)} tab-separated fields, got {len(texts)}."
        raise RowError(message, kind=MALFORMED, field="")
    return {
        name: fields[name].read(text, name) if name in fields else text
        for name, text in zip(header, texts, strict=True)
    }


def as_attributes(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The values of a line by the names of a row's attributes: ``seconds`` for ``time``, and ``correct`` as a bool."""
    named = {"seconds" if name == "time" else name: value for name, value in fields.items()}
    return {name: bool(value) if name == "correct" else value for name, value in named.items()}


def format_counts(counts: Mapping[int, int]) -> str:
    """``class:count`` pairs sorted by class, those that are 0 left out."""
    votes = sorted((int(label), int(count)) for label, count in counts.items() if count != 0)
    return ",".join(f"{'invalid' if label == INVALID else label}:{count}" for label, count in votes)


def format_looks(looks: Sequence[Look]) -> str:
    """``n:n_a:n_b:level`` of each look."""
    return ",".join(f"{look.n}:{look.n_a}:{look.n_b}:{float(look.level)!r}" for look in looks)


def format_seconds(seconds: float) -> str:
    """``h:mm:ss.ffffff``, always with six decimals and without days."""
    minutes, microseconds = divmod(round(seconds * 1_000_000), 60_000_000)
    return f"{minutes // 60}:{minutes % 60:02}:{microseconds // 1_000_000:02}.{microseconds % 1_000_000:06}"


def integer(low: int, high: int | None = None) -> Field[int]:
    """Integers of at most 18 digits, within bounds."""

    def convert(text: str) -> int:
        if not _INTEGER.fullmatch(text) or int(text) < low or (high is not None and int(text) > high):
            raise ValueError
        return int(text)

    return Field(f"an integer >= {low}" if high is None else f"an integer in [{low}, {high}]", convert)


def number(wanted: str, accept: Callable[[float], bool]) -> Field[float]:
    """Finite decimal numbers that are accepted."""

    def convert(text: str) -> float:
        if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)) or not accept(float(text)):
            raise ValueError
        return float(text)

    return Field(wanted, convert)


def one_of(names: Sequence[str]) -> Field[str]:
    """One of some words, of which one may be empty."""

    def convert(text: str) -> str:
        if text not in names:
            raise ValueError
        return text

    return Field(f"one of {', '.join(name or '(empty)' for name in names)}", convert)


def optional(field: Field[T], empty: T) -> Field[T]:
    """A field that may be empty, with the value that it then has."""
    return Field(f"{field.wanted}, or empty", lambda text: field.convert(text) if text else empty)


def _seconds(text: str) -> float:
    if _NUMBER.fullmatch(text) and 0 <= float(text) < math.inf:
        return float(text)
    if not (match := _DURATION.fullmatch(text)):
        raise ValueError
    days, hours, minutes, seconds = match.groups()
    return ((int(days or 0) * 24 + int(hours)) * 60 + int(minutes)) * 60 + float(seconds)


def _counts(text: str) -> dict[int, int]:
    counts: dict[int, int] = {}
    for part in text.split(","):
        label, separator, count = part.partition(":")
        known = label == "invalid" or (_INTEGER.fullmatch(label) and int(label) >= 0)
        if not (known and separator and _INTEGER.fullmatch(count) and int(count) > 0):
            raise ValueError
        counts[INVALID if label == "invalid" else int(label)] = int(count)
    if len(counts) != text.count(",") + 1:
        raise ValueError
    return counts


def _looks(text: str) -> tuple[Look, ...]:
    parts = [part.split(":") for part in text.split(",")]
    count, level = COUNT.convert, PROBABILITY.convert
    return tuple(Look(count(n), count(n_a), count(n_b), level(spent)) for n, n_a, n_b, spent in parts)


COUNT, POSITIVE_COUNT, FLAG = integer(0), integer(1), integer(0, 1)
#: A class, or -1 where the image has no label.
LABEL = Field(COUNT.wanted, lambda text: -1 if text == "-1" else COUNT.convert(text))
PREDICTION = integer(ABSTAIN)
NOT_NEGATIVE = number("a number >= 0", lambda value: value >= 0)
POSITIVE = number("a number > 0", lambda value: value > 0)
PROBABILITY = number("a number in (0, 1)", lambda value: 0 < value < 1)
LOWER_BOUND = number("a number in [0, 1)", lambda value: 0 <= value < 1)
UPPER_BOUND = number("a number in (0, 1]", lambda value: 0 < value <= 1)
SECONDS = Field("a time, h:mm:ss.ffffff or seconds", _seconds)
COUNTS = Field("class:count pairs such as 3:99817,5:183, each class once and with counts above 0", _counts)
LOOKS = Field("n:n_a:n_b:level of each look, such as 200:198:2:3e-05,500:495:3:3e-05", _looks)
PAIRS = Field("pairs:differing:lost:level such as 10000:4:1:0.0005", parse_pairs)
TOP_K_CLAIM = Field("k:class:radius such as 3:7:0.8125", parse_top_k)
