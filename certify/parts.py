"""The tables of several processes that share a run: each is durable by itself, and one run gathers them.

Process 2 of a run into ``radii.tsv`` writes ``radii.rank-2.tsv``, a table like any other. Whatever run opens
``radii.tsv`` next, of however many processes, first takes the rows of all such files into it, and deletes them.
"""

import glob
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from certify import manifest as manifests
from certify.durable import DurableTable
from certify.predictions import PredictionRow
from certify.row import Row
from data.files import sync_folder

R = TypeVar("R", Row, PredictionRow)


def path_of(out: Path, rank: int) -> Path:
    """The table of a process."""
    return out.with_name(f"{out.stem}.rank-{rank}{out.suffix}")


def found(out: Path) -> list[Path]:
    """The tables of processes that are there."""
    if not out.parent.is_dir():
        return []
    stem, suffix = glob.escape(out.stem), glob.escape(out.suffix)
    return sorted(file for file in out.parent.glob(f"{stem}.rank-*{suffix}") if _is_part(file, out))


def discard(out: Path) -> None:
    """Delete them, where the run begins anew."""
    for file in found(out):
        _remove(file)


def gather(kind: type[DurableTable[R]], out: Path, manifest: Mapping[str, Any]) -> dict[int, R]:
    """Take the rows of all parts into the table, sorted by idx, and delete the parts.

    A crash on the way loses nothing: the parts are deleted when the whole table is on disk, and a row that is in both
    is taken once.

    Args:
        kind: Of table.
        out: The table, which need not exist.
        manifest: Of this run, with which all of them must agree.

    Returns:
        All rows by idx.

    Raises:
        ValueError: If one of the files is of another run or damaged, is being written, or two disagree about a row.
        OSError: If a file cannot be read or written.
    """
    with kind.open(out, manifest) as table:
        rows, stored = dict(table.done), dict(table.manifest)
    if not (files := found(out)):
        return rows
    notes: dict[str, Any] = dict(manifests.told(stored, "notes") or {})
    for file in files:
        with kind.open(file, manifest) as part:
            for row in part.done.values():
                before = rows.setdefault(row.idx, row)
                if replace(before, seconds=row.seconds) != row:
                    raise ValueError(
                        f"idx {row.idx} of {file} is not what {out} has; at most one of them is right. Keep the one "
                        "that `certify verify` confirms, and delete the other."
                    )
            told = manifests.told(part.manifest, "notes", "micro_batch")
            if part.done and isinstance(told, list):
                changes: list[Any] = notes.setdefault("micro_batch", [])
                changes += [{**one, "part": file.name} for one in told]
    kind.write(out, {**stored, "notes": notes}, [rows[idx] for idx in sorted(rows)])
    for file in files:
        _remove(file)
    sync_folder(out.parent)
    return rows


def _is_part(file: Path, out: Path) -> bool:
    rank = file.name[len(f"{out.stem}.rank-") : len(file.name) - len(out.suffix)]
    return rank.isdigit()


def _remove(file: Path) -> None:
    # The table first: what is left of a crash in between is a manifest without a table, which says nothing.
    os.unlink(file)
    manifests.manifest_path(file).unlink(missing_ok=True)
