"""Radius tables as rows: read with what older ones leave out, and written whole or not at all."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maxup_smoothing.certify.statistics.anytime import complement
from maxup_smoothing.certify.statistics.disagreement import TRANSFER
from maxup_smoothing.certify.statistics.looks import Look, limits
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.durable import DurableTable
from maxup_smoothing.certify.tables.radius_table import RadiusTable, read
from maxup_smoothing.certify.tables.row import ABSTAINED, CERTIFIED, FIELD_COLUMNS, INVALID, Row

_NEEDED = ("n", "n_a", "alpha", "sigma")  # without any of them a row says nothing about its votes


def read_rows(path: Path) -> tuple[list[Row], dict[str, Any] | None]:
    """A table's rows in the file's order, with what older tables leave out, and its manifest if there is one.

    Raises:
        ValueError: If the file is no radius table, is damaged, lacks votes, or disagrees with its manifest.
        OSError: If it cannot be read.
    """
    table = read(path)
    if len(table) == 0:
        raise ValueError(f"{path} has no rows: nothing has been certified yet.")
    if missing := [name for name in (*_NEEDED, "counts") if name not in table]:
        raise ValueError(f"{path} has no column {', '.join(missing)}, without which no row can be computed again.")
    if TRANSFER in table:
        raise ValueError(f"{path} was transferred to another classifier; take the table that it was made from.")
    beside = manifests.manifest_path(path)
    manifest = manifests.read(beside) if beside.exists() else None
    told = section(manifest, "sampling")
    rows = []
    for fields in table.to_dict("records"):
        try:
            row = complete({str(name): value for name, value in fields.items()})
            for name in ("n0", "sigma", "alpha", "procedure", "bound", *(["n"] if row.procedure == "fixed" else [])):
                if name in told and getattr(row, name) != told[name]:
                    raise ValueError(f"{name} is {getattr(row, name)}, but {beside.name} says {told[name]}.")
        except ValueError as error:
            raise ValueError(f"{path}, idx {fields['idx']}: {error}") from None
        rows.append(row)
    return rows, manifest


def complete(fields: Mapping[str, Any]) -> Row:
    """The row of a line as `certify.tables.radius_table.read` gives it, with the columns that older tables lack.

    Such tables are of Cohen's procedure; n0 is 0 where it is not told.

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
    part = (manifest or {}).get(name)
    return dict(part) if isinstance(part, dict) else {}


def sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
