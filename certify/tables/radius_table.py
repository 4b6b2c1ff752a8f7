"""The radius table: one line per certified example, tab-separated, with everything needed to check its radius.

``docs/radius_table.md`` describes the format. `RadiusTable` is its only writer, and `read` checks every
field on the way in.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from maxup_smoothing.certify.statistics.certificate import Certificate
from maxup_smoothing.certify.statistics.radius import ABSTAIN, is_right
from maxup_smoothing.certify.statistics.top_k import TOP_K
from maxup_smoothing.certify.tables.durable import DurableTable
from maxup_smoothing.certify.tables.row import (
    ABSTAINED,
    CERTIFIED,
    COLUMNS,
    FIELD_COLUMNS,
    INVALID,
    Row,
    format_row,
    format_seconds,
    parse_fields,
    parse_row,
)

__all__ = [
    "ABSTAINED",
    "CERTIFIED",
    "COLUMNS",
    "FIELD_COLUMNS",
    "INVALID",
    "RadiusTable",
    "Row",
    "format_row",
    "format_seconds",
    "parse_row",
    "read",
    "row_of",
    "sparse",
]

_INTEGERS = ("idx", "label", "predict", "correct", "n0", "n", "n_a", "selected")
_NUMBERS = ("radius", "time", "p_a_lower", "p_b_upper", "sigma", "alpha")


class RadiusTable(DurableTable[Row]):
    """A radius table open for writing; see `certify.tables.durable`."""

    columns = COLUMNS
    kind = "radius table"
    format = staticmethod(format_row)
    parse = staticmethod(parse_row)


def row_of(proved: Certificate, idx: int, label: int, *, n0: int, sigma: float, alpha: float, seconds: float) -> Row:
    """The row of a certificate."""
    return Row(
        idx=idx,
        label=label,
        predict=proved.predict,
        radius=proved.radius,
        correct=is_right(proved.predict, label),
        seconds=seconds,
        n0=n0,
        n=proved.n,
        n_a=proved.n_a,
        p_a_lower=proved.p_a_lower,
        sigma=sigma,
        alpha=alpha,
        status=ABSTAINED if proved.predict == ABSTAIN else CERTIFIED,
        counts=sparse(proved.counts),
        selected=proved.selected,
        p_b_upper=proved.p_b_upper,
        procedure=proved.procedure,
        bound=proved.bound,
        looks=proved.looks,
    )


def sparse(votes_V: NDArray[np.int64]) -> dict[int, int]:
    """Votes (K + 1,) by class, those that are 0 left out, with logits that were not finite under `INVALID`."""
    counts = {number: int(count) for number, count in enumerate(votes_V[:-1]) if count}
    return {**counts, INVALID: int(votes_V[-1])} if votes_V[-1] else counts


def read(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read a radius table, or a log with at least this field's six columns, and check every field.

    Args:
        path: A tab-separated file; no suffix is expected.

    Returns:
        One line a row, in the file's order: integers as int64, ``time`` as seconds, ``counts`` as dicts, ``looks`` as
        tuples, columns that are not ours as text. Zero rows are allowed.

    Raises:
        ValueError: If the header is foreign or a field is malformed or contradicts another, with file and line.
        OSError: If the file cannot be read.
    """
    lines = Path(path).read_text(encoding="utf-8", errors="replace").split("\n")
    torn = lines[-1] != ""
    if not torn:
        lines.pop()
    header = lines[0].rstrip("\r").split("\t") if lines else []
    missing = [name for name in FIELD_COLUMNS if name not in header]
    if missing or len(set(header)) < len(header):
        raise ValueError(
            f"{path} is not a radius table: its first line must name the columns {' '.join(FIELD_COLUMNS)}, "
            f"tab-separated, each once; {'missing: ' + ' '.join(missing) if missing else 'one is there twice'}."
        )
    rows: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            fields = parse_fields(line.rstrip("\r"), header)
            if fields["idx"] in rows:
                raise ValueError(f"idx {fields['idx']} is there twice.")
        except ValueError as error:
            cut = " The line was cut off; `certify run` does it again." if torn and number == len(lines) else ""
            raise ValueError(f"{path}, line {number}: {error}{cut}") from None
        rows[fields["idx"]] = fields
    dtypes = {
        **dict.fromkeys(_INTEGERS, "int64"),
        **dict.fromkeys(_NUMBERS, "float64"),
        "counts": "object",
        "looks": "object",
        TOP_K: "object",
    }
    return pd.DataFrame(
        {name: pd.Series([row[name] for row in rows.values()], dtype=dtypes.get(name, "str")) for name in header}
    )
