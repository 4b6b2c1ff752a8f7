"""The tables of processes that share a run: each process writes its own durable table, and a later step joins them.

Process 2 of a run into ``radii.tsv`` writes ``radii.rank-2.tsv``, a table like any other. The next run that opens
``radii.tsv``, with any number of processes, first moves the rows of all such files into it, and deletes the files.
"""

import glob
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.durable import DurableTable
from maxup_smoothing.certify.tables.prediction_table import PredictionRow
from maxup_smoothing.certify.tables.row import Row
from maxup_smoothing.data.runtime.atomic import sync_folder

R = TypeVar("R", Row, PredictionRow)


def path_of(out: Path, rank: int) -> Path:
    """The path of a process's own table."""
    return out.with_name(f"{out.stem}.rank-{rank}{_suffix(out)}")


def found(out: Path) -> list[Path]:
    """The tables of single processes that exist."""
    if not out.parent.is_dir():
        return []
    candidates = out.parent.glob(f"{glob.escape(out.stem)}.rank-*{glob.escape(_suffix(out))}")
    return sorted(file for file in candidates if _is_part(file, out))


def discard(out: Path) -> None:
    """Delete the tables of single processes, because the run begins anew."""
    _remove(out, found(out))


def gather(table: DurableTable[R], manifest: Mapping[str, Any]) -> None:
    """Move the rows of all parts into the table, sorted by idx, and delete the parts.

    The table stays locked throughout, and so does each part until it is deleted. A crash on the way loses nothing: the
    parts are deleted only when the whole table is on disk, and a row that is in both is taken once.

    Args:
        table: The table of the whole run, open for writing.
        manifest: The manifest of this run, with which the parts must agree.

    Raises:
        ValueError: If a part is damaged, belongs to another run, is being written, or two disagree about a row. Nothing
            is changed then.
        OSError: If a file cannot be read or written.
    """
    with ExitStack() as stack:
        if not (parts := [stack.enter_context(type(table).open(file, manifest)) for file in found(table.path)]):
            _remove(table.path, [])
            return
        rows = dict(table.done)
        shrunk = manifests.micro_batches_by_idx(table.manifest, list(table.done))
        for part in parts:
            for row in part.done.values():
                before = rows.setdefault(row.idx, row)
                if replace(before, seconds=row.seconds) != row:
                    raise ValueError(
                        f"idx {row.idx} of {part.path} is not what {table.path} has; at most one of them is right. "
                        "Keep the one that `certify verify` confirms, and delete the other."
                    )
            changes = manifests.micro_batches_by_idx(part.manifest, list(part.done))
            shrunk += [change for change in changes if change not in shrunk]
        if shrunk:
            table.annotate({"micro_batch": shrunk})
        table.rewrite([rows[idx] for idx in sorted(rows)])
        _remove(table.path, [part.path for part in parts])


def _is_part(file: Path, out: Path) -> bool:
    rank = file.name[len(f"{out.stem}.rank-") : len(file.name) - len(_suffix(out))]
    return rank.isdigit()


def _suffix(out: Path) -> str:
    return out.suffix or ".tsv"  # else ``.rank-2`` would count as the suffix, and all parts would share a manifest


def _remove(out: Path, files: Sequence[Path]) -> None:
    """Delete parts first, then manifests without a part: a part without its manifest would be refused."""
    for file in files:
        os.unlink(file)
    if files:
        sync_folder(out.parent)  # else a power cut could bring a part back after its manifest is deleted
    for beside in out.parent.glob(f"{glob.escape(out.stem)}.rank-*.manifest.json"):
        rank = beside.name[len(f"{out.stem}.rank-") : -len(".manifest.json")]
        if rank.isdigit() and not path_of(out, int(rank)).exists():
            beside.unlink(missing_ok=True)
