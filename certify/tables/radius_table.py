"""The radius table: one line per certified example, tab-separated, with everything needed to check its radius.

``docs/radius_table.md`` describes the format. `RadiusTable` is its only writer. One parser checks every field on the
way in, for the readers of rows and of frames.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from maxup_smoothing.certify.statistics.anytime import complement
from maxup_smoothing.certify.statistics.certificate import Certificate, Look, limits
from maxup_smoothing.certify.statistics.disagreement import TRANSFER
from maxup_smoothing.certify.statistics.radius import ABSTAIN, is_right
from maxup_smoothing.certify.statistics.top_k import TOP_K
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.durable import DurableTable, read_lines
from maxup_smoothing.certify.tables.fields import (
    ABSTAINED,
    CERTIFIED,
    INVALID,
    RowError,
    as_attributes,
    contradiction,
)
from maxup_smoothing.certify.tables.row import COLUMNS, FIELD_COLUMNS, Row, format_row, parse_fields, parse_row

__all__ = [
    "COLUMNS",
    "FIELD_COLUMNS",
    "RadiusTable",
    "Row",
    "format_row",
    "parse_row",
    "read",
    "read_certified",
    "read_rows",
    "row_of",
    "sparse",
]
_NEEDED = ("n", "n_a", "alpha", "sigma")  # without any of them a row says nothing about its votes
_DTYPES = {
    **dict.fromkeys(("idx", "label", "predict", "correct", "n0", "n", "n_a", "selected"), "int64"),
    **dict.fromkeys(("radius", "time", "p_a_lower", "p_b_upper", "sigma", "alpha"), "float64"),
    **dict.fromkeys(("counts", "looks", TOP_K), "object"),
}


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
    header, rows = _parsed(path)
    return pd.DataFrame(
        {name: pd.Series([row[name] for row in rows], dtype=_DTYPES.get(name, "str")) for name in header}
    )


def read_rows(path: Path) -> tuple[list[Row], dict[str, Any] | None]:
    """A table's rows in the file's order, with what older tables leave out, and its manifest if there is one.

    Raises:
        ValueError: If the file is not a radius table, is damaged, lacks votes, or disagrees with its manifest.
        OSError: If it cannot be read.
    """
    header, lines = _parsed(path)
    if not lines:
        raise ValueError(f"{path} has no rows: nothing has been certified yet.")
    if missing := [name for name in (*_NEEDED, "counts") if name not in header]:
        raise ValueError(f"{path} has no column {', '.join(missing)}, without which no row can be computed again.")
    if TRANSFER in header:
        raise ValueError(f"{path} was transferred to another classifier; take the table that it was made from.")
    beside = manifests.manifest_path(path)
    manifest = manifests.read(beside) if beside.exists() else None
    told = section(manifest, "sampling")
    rows = []
    for fields in lines:
        try:
            row = complete(fields)
            for name in ("n0", "sigma", "alpha", "procedure", "bound", *(["n"] if row.procedure == "fixed" else [])):
                if name in told and getattr(row, name) != told[name]:
                    raise ValueError(f"{name} is {getattr(row, name)}, but {beside.name} says {told[name]}.")
        except ValueError as error:
            raise ValueError(f"{path}, idx {fields['idx']}: {error}") from None
        rows.append(row)
    return rows, manifest


def read_certified(path: Path) -> list[Row]:
    """The rows of a table that `certify run` wrote, in the file's order, with exactly its columns.

    Raises:
        ValueError: If it is another table, is damaged or has no rows.
        OSError: If it cannot be read.
    """
    header, rows = _parsed(path)
    if TRANSFER in header:
        raise ValueError(
            f"{path} was carried over to another network, and holds none of its votes; verify the table that it was "
            "made from, or certify that network."
        )
    if tuple(header) != COLUMNS:
        raise ValueError(f"{path} is not a table of `certify run`; `certify audit` reads the logs of others.")
    if not rows:
        raise ValueError(f"{path} has no rows.")
    return [Row(**as_attributes(fields)) for fields in rows]


def complete(fields: Mapping[str, Any]) -> Row:
    """The row of a line as `certify.tables.radius_table.read` gives it, with the columns that older tables lack.

    Such tables are of Cohen's procedure; n0 is 0 where it is not there.

    Raises:
        ValueError: If votes are missing, or the selected class is not told and cannot be inferred.
    """
    known = {name: fields[name] for name in fields if name in Row.__dataclass_fields__}
    if missing := [name for name in (*FIELD_COLUMNS, *_NEEDED, "counts") if name not in fields]:
        raise ValueError(f"there is no column {', '.join(missing)}, without which no row can be computed again.")
    row = {"n0": 0, "procedure": "fixed", "bound": "clopper-pearson", **known}
    row |= {"seconds": fields["time"], "correct": bool(fields["correct"])}
    if "selected" not in row:
        row["selected"] = _selected(row)
    if "looks" not in row:
        if row["procedure"] != "fixed":
            raise ValueError(f"the looks of procedure {row['procedure']} are not told, only counts.")
        rival = max((count for label, count in row["counts"].items() if label != row["selected"]), default=0)
        row["looks"] = (Look(row["n"], row["n_a"], rival, row["alpha"]),)
    proved = limits(row["looks"], procedure=row["procedure"], bound=row["bound"])
    p_a_lower = row.setdefault("p_a_lower", proved[0])
    row.setdefault("p_b_upper", float(complement(p_a_lower)))
    row["status"] = ABSTAINED if row["predict"] == ABSTAIN else CERTIFIED
    return Row(**row)


def write_rows(
    out: str | os.PathLike[str],
    manifest: Mapping[str, Any],
    rows: Sequence[Row],
    *,
    sources: Sequence[Path],
    overwrite: bool,
    kind: type[DurableTable[Any]] = RadiusTable,
) -> None:
    """Write a whole table, or nothing: a disk that fills up leaves no part of it.

    Raises:
        ValueError: If ``out`` is one of the ``sources``, exists without ``overwrite``, or a row contradicts itself.
        OSError: If it cannot be written.
    """
    out = Path(out)
    taken = [*sources, *map(manifests.manifest_path, sources)]
    for mine in (out, manifests.manifest_path(out)):
        if mine.resolve() in [path.resolve() for path in taken]:
            raise ValueError(f"{out} would replace {mine}, which is read; write to a file of another stem or folder.")
    if out.exists() and not overwrite:
        raise ValueError(f"{out} exists; write to another file or pass --overwrite.")
    for row in rows:
        try:
            kind.parse(kind.format(row))
        except ValueError as error:
            raise ValueError(f"{out}: the row of idx {row.idx} is refused: {error}") from None
    kind.write(out, manifest, rows)


def section(manifest: Mapping[str, Any] | None, name: str) -> dict[str, Any]:
    """A section of a manifest, {} if it is not there."""
    return dict(manifests.told(manifest, name) or {})


def _parsed(path: str | os.PathLike[str]) -> tuple[list[str], list[dict[str, Any]]]:
    """The columns of a table, and the checked values of each row."""
    lines, torn = read_lines(path)
    header = lines[0].split("\t") if lines else []
    missing = [name for name in FIELD_COLUMNS if name not in header]
    if missing or len(set(header)) < len(header):
        raise ValueError(
            f"{path} is not a radius table: its first line must name the columns {' '.join(FIELD_COLUMNS)}, "
            f"tab-separated, each once; {'missing: ' + ' '.join(missing) if missing else 'one is there twice'}."
        )
    rows: dict[int, dict[str, Any]] = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            fields = parse_fields(line, header)
            if fields["idx"] in rows:
                raise contradiction("idx", f"idx {fields['idx']} is there twice.")
        except RowError as error:
            cut = " The line was cut off; `certify run` does it again." if torn and number == len(lines) else ""
            raise ValueError(f"{path}, line {number}: {error}{cut}") from None
        rows[fields["idx"]] = fields
    return header, list(rows.values())


def _selected(row: Mapping[str, Any]) -> int:
    if row["predict"] != ABSTAIN:
        return int(row["predict"])
    found = [label for label, count in row["counts"].items() if count == row["n_a"] and label != INVALID]
    if len(found) != 1:
        raise ValueError(
            f"it abstained, and {len(found) or 'no'} classes have its n_a={row['n_a']} votes: which one was selected "
            "is not told; certify again."
        )
    return found[0]
