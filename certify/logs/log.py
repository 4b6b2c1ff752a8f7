"""A log of another project in our terms: settings that the caller gives, and the table."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import pandas as pd

from maxup_smoothing.certify.logs.findings import RawLog, of_indices
from maxup_smoothing.certify.logs.source import Source
from maxup_smoothing.certify.statistics.binomial import LARGEST_N
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.tables.row import FIELD_COLUMNS

NO_ROWS = "the table has no rows: nothing has been certified yet."
UNLABELLED = (
    "labels and classes are not told: label 0 and predict 0 stand for right, predict -1 for wrong or abstained."
)

_NORM = re.compile("[a-z][a-z0-9_-]{0,29}")
_DTYPES = {
    **dict.fromkeys(("idx", "label", "predict", "correct", "n0", "n", "n_a", "selected"), "int64"),
    **dict.fromkeys(("radius", "time", "p_a_lower", "p_b_upper", "sigma", "alpha", "accuracy"), "float64"),
    **dict.fromkeys(("counts", "looks"), "object"),
}


@dataclass(frozen=True, kw_only=True)
class Log:
    """A log in our terms.

    Attributes:
        table: Columns and dtypes as `radius_table.read` gives them; ``time`` is nan where the log does not record it.
        dialect: Name of the dialect.
        kind: ``radii`` (certificates), ``predictions`` (no radii), ``curve`` (``radius`` and ``accuracy``, no images)
            or ``sampling`` (votes or their bounds, with ``radius`` where it follows from them).
        notes: What was assumed, repaired, or is known to be wrong.
        audited: Further notes, on missing rows and on how radii are printed. `audit` checks both by itself.
    """

    table: pd.DataFrame
    dialect: str
    kind: str
    notes: tuple[str, ...]
    audited: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the caller knows and the file may not record; None is unknown. ``alpha`` is one-sided.

    ``norm`` is what radii measure: l2, l1, linf or another word.
    """

    sigma: float | None = None
    n: int | None = None
    alpha: float | None = None
    norm: str | None = None

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if self.norm is not None and not _NORM.fullmatch(self.norm):
            raise ValueError(f"norm must be l2, l1, linf or another word of small letters, got {self.norm[:50]!r}.")
        if self.sigma is not None and not 0 < self.sigma < math.inf:
            raise ValueError(f"sigma must be positive and finite, got {self.sigma}.")
        if self.n is not None and not (isinstance(self.n, int) and 1 <= self.n <= LARGEST_N):
            raise ValueError(f"n must be an integer in [1, {LARGEST_N}], got {self.n}.")
        if self.alpha is not None and not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be in (0, 1), got {self.alpha}.")

    def or_told(self, name: str, told: Any) -> Any:
        """The value that the file records, or else the one given.

        Raises:
            ValueError: If both are there and differ, or neither is.
        """
        value = getattr(self, name)
        if told is None and value is None:
            raise ValueError(
                f"radii follow from {name} too, which this file does not tell; give it: `analysis import --{name}`, or "
                f"`certify audit --{name}`."
            )
        if told is not None and value is not None and told != value:
            raise ValueError(f"{name}={value} was given, but the file says {told}; leave {name} out.")
        return value if told is None else told

    def added_to(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with a column for each value given.

        Raises:
            ValueError: If the table records another value.
        """
        for name in ("sigma", "n", "alpha"):
            value = getattr(self, name)
            if value is not None and name in table and not (table[name] == value).all():
                told = sorted({float(number) for number in table[name]})[:3]
                raise ValueError(f"{name}={value} was given, but the file says {told}; leave {name} out.")
            if value is not None and name not in table:
                table = table.assign(**{name: pd.Series([value] * len(table), dtype=_DTYPES[name])})
        return table

    def with_norm(self, table: pd.DataFrame) -> pd.DataFrame:
        """The table with the norm given, in a column ``norm``.

        Raises:
            ValueError: If the table records another norm.
        """
        if "norm" in table and set(table["norm"]) != {self.norm}:
            raise ValueError(f"the norm {self.norm} was given, but the file says {table['norm'].iloc[0][:50]}.")
        return table.assign(norm=pd.Series([self.norm] * len(table), dtype="str", index=table.index))


class Dialect(Protocol):
    """How one kind of log is known and read."""

    @property
    def name(self) -> str:
        """What it is called."""

    def matches(self, source: Source) -> bool:
        """Whether the content is of this dialect; never raises."""

    def read(self, source: Source, given: Given) -> Log:
        """Read a file that matches; ValueError for what is wrong with it."""


@runtime_checkable
class NamesColumns(Protocol):
    """A dialect whose rows stand under a line that names their columns."""

    def rows(self, source: Source) -> Any:
        """The rows, faulty ones included, as `certify.logs.rows.Rows`."""


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


def missing_columns(header: Sequence[str]) -> str | None:
    """What a table lacks that names some of this field's columns, and what to do; None where it names too few."""
    known = set(header) & set(FIELD_COLUMNS)
    missing = [name for name in ("idx", "label", "predict") if name not in header]
    if len(known) < 2 or not missing:
        return None
    if {"predict", "radius"} <= known and known.isdisjoint(("label", "correct")):
        return (
            "predictions with radii, but neither label nor correct, as of a selection (may the network answer?); which "
            "of them are right is not told, so there is no certified accuracy; add the column label to read it"
        )
    why = ", the number of each image in its data set" if missing == ["idx"] else ""
    return f"it lacks {', '.join(missing)}{why}; add {'it' if len(missing) == 1 else 'them'} to read it"


def missing_rows(idx: Sequence[int]) -> list[str]:
    """Notes on images that a log should have, judged by the stride of their numbers."""
    found = of_indices(RawLog(header=[], indices=[(number, 0) for number in idx]), {})
    return [f"stops after {len(idx)} rows: {one.message}" if one.check == "truncated" else one.message for one in found]
