"""A log of another project as it is read: the file, what the caller adds to it, and the table that comes out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from certify.binomial import LARGEST_N
from certify.findings import Log as Indexed
from certify.findings import of_indices
from certify.radius import ABSTAIN
from certify.row import FIELD_COLUMNS

KINDS = ("radii", "predictions", "curve", "sampling")
NO_ROWS = "the table has no rows: nothing has been certified yet."
UNLABELLED = (
    "labels and classes are not told: label 0 and predict 0 stand for right, predict -1 for wrong or abstained."
)

_DTYPES = {
    **dict.fromkeys(("idx", "label", "predict", "correct", "n0", "n", "n_a", "selected"), "int64"),
    **dict.fromkeys(("radius", "time", "p_a_lower", "p_b_upper", "sigma", "alpha", "accuracy"), "float64"),
    **dict.fromkeys(("counts", "looks"), "object"),
}


@dataclass(frozen=True, kw_only=True)
class Log:
    """A log in our terms.

    Attributes:
        table: Columns and dtypes as `certify.table.read` gives them; ``time`` is nan where the log does not tell it.
        dialect: Name of the dialect.
        kind: ``radii`` (certificates), ``predictions`` (no radii), ``curve`` (``radius`` and ``accuracy``, no images)
            or ``sampling`` (votes or their bounds, with ``radius`` where it follows from them).
        notes: What was assumed, repaired, or is known to be wrong.
    """

    table: pd.DataFrame
    dialect: str
    kind: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A file, or a folder (then without data), as dialects look at it."""

    path: Path
    data: bytes

    @cached_property
    def lines(self) -> list[str]:
        """The lines without their ends; the last one is empty if the file ends with a line end."""
        text = self.data.decode("utf-8-sig", errors="replace")
        return [line.rstrip("\r") for line in text.split("\n")]

    @cached_property
    def body(self) -> list[tuple[int, str]]:
        """The lines that are not blank, each with its number from 1."""
        return [(number, line) for number, line in enumerate(self.lines, start=1) if line.strip()]

    @cached_property
    def header(self) -> tuple[str, ...]:
        """The fields of the first line, without white space around them."""
        return tuple(name.strip() for name in self.body[0][1].split("\t")) if self.body else ()

    @property
    def ended(self) -> bool:
        """Whether the last line is whole."""
        return self.lines[-1] == ""

    def error(self, number: int, message: object) -> ValueError:
        """A fault in a line."""
        return ValueError(f"{self.path}, line {number}: {message}")


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the caller knows and the file may not tell; None is unknown. ``alpha`` is one-sided."""

    sigma: float | None = None
    n: int | None = None
    alpha: float | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.sigma is not None and not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma must be positive and finite, got {self.sigma}.")
        if self.n is not None and not (isinstance(self.n, int) and 1 <= self.n <= LARGEST_N):
            raise ValueError(f"n must be an integer in [1, {LARGEST_N}], got {self.n}.")
        if self.alpha is not None and not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be in (0, 1), got {self.alpha}.")

    def or_told(self, name: str, told: Any) -> Any:
        """The value that the file tells, or else the one given.

        Raises:
            ValueError: If both are there and differ, or neither is.
        """
        value = getattr(self, name)
        if told is None and value is None:
            raise ValueError(
                f"radii follow from {name} too, which this file does not tell; give it: `analysis import --{name}`."
            )
        if told is not None and value is not None and told != value:
            raise ValueError(f"{name}={value} was given, but the file says {told}; leave {name} out.")
        return value if told is None else told

    def added_to(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with a column for each value given.

        Raises:
            ValueError: If the table tells another value.
        """
        for name in ("sigma", "n", "alpha"):
            value = getattr(self, name)
            if value is not None and name in table and not (table[name] == value).all():
                told = sorted({float(number) for number in table[name]})[:3]
                raise ValueError(f"{name}={value} was given, but the file says {told}; leave {name} out.")
            if value is not None and name not in table:
                table = table.assign(**{name: pd.Series([value] * len(table), dtype=_DTYPES[name])})
        return table


class Dialect(Protocol):
    """How one kind of log is known and read."""

    @property
    def name(self) -> str:
        """What it is called."""

    def matches(self, source: Source) -> bool:
        """Whether the content is of this dialect; never raises."""

    def read(self, source: Source, given: Given) -> Log:
        """Read a file that matches; ValueError for what is wrong with it."""


def frame(columns: Mapping[str, Sequence[Any]]) -> pd.DataFrame:
    """Columns as a table with our dtypes, this field's six first; ``time`` is nan if it is missing, others are text."""
    rows = len(next(iter(columns.values())))
    if "radius" in columns and "idx" in columns:
        columns = {"time": [math.nan] * rows, **columns}
    order = [*(name for name in FIELD_COLUMNS if name in columns), *(n for n in columns if n not in FIELD_COLUMNS)]
    return pd.DataFrame({name: pd.Series(columns[name], dtype=_DTYPES.get(name, "str")) for name in order})


def unlabelled(idx: Sequence[int], radius: Sequence[float], **more: Sequence[Any]) -> pd.DataFrame:
    """A table of radii for the true class, 0 where it is not certified; see `UNLABELLED`."""
    right = [value > 0 for value in radius]
    return frame(
        {
            "idx": idx,
            "label": [0] * len(idx),
            "predict": [0 if hit else ABSTAIN for hit in right],
            "radius": radius,
            "correct": [int(hit) for hit in right],
            **more,
        }
    )


def missing_rows(idx: Sequence[int]) -> list[str]:
    """Notes on images that a log should have, judged by the stride of their numbers."""
    found = of_indices(Indexed(header=[], indices=[(number, 0) for number in idx]), {})
    return [f"stops after {len(idx)} rows: {one.message}" if one.check == "truncated" else one.message for one in found]
