"""Merges radius tables of the same classifier, data and settings into one, such as tables from several machines."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from maxup_smoothing.certify.distributed import shards
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.radius_table import read_rows, section, write_rows
from maxup_smoothing.certify.tables.row import Row
from maxup_smoothing.data.runtime.atomic import file_sha256


def merge_tables(
    paths: Sequence[str | os.PathLike[str]], out: str | os.PathLike[str], *, overwrite: bool = False
) -> None:
    """Write the rows of all tables, sorted by idx, and a manifest whose protocol lists the parts.

    Shards of one protocol become the table of that protocol. ``certify run`` can then add missing images to it, and
    ``certify verify`` accepts it; the notes of its manifest describe each part.

    If several tables have the same idx, their rows must agree except for the time; the first row is taken.

    Args:
        paths: At least two radius tables. Their manifests must agree in everything but the protocol and the notes. That
            includes the seed of the noise, from which each idx has its own stream.
        out: The new table, in another file.
        overwrite: Whether to replace ``out`` if it exists.

    Raises:
        ValueError: If tables differ in a setting or a row, are damaged or lack a manifest. Nothing is written then.
        OSError: If files cannot be read or written.
    """
    files = [Path(path) for path in paths]
    if len({file.resolve() for file in files}) < max(2, len(files)):
        raise ValueError(f"give two or more tables, each once; got {', '.join(map(str, files)) or 'none'}.")
    found: dict[int, tuple[Path, Row]] = {}
    parts: list[dict[str, Any]] = []
    shared: list[dict[str, Any]] = []
    protocols: list[dict[str, Any]] = []
    shrunk: list[dict[str, Any]] = []
    for file in files:
        rows, manifest = read_rows(file)
        if manifest is None:
            raise ValueError(
                f"{file} has no {manifests.manifest_path(file).name}, so its settings are unknown; put that file back."
            )
        shared.append(_shared(manifest))
        _require_same(files[0], shared[0], file, shared[-1])
        parts.append(_part(file, rows, manifest))
        protocols.append(section(manifest, "protocol"))
        shrunk += manifests.micro_batches_by_idx(manifest, [row.idx for row in rows])
        for row in rows:
            other, before = found.setdefault(row.idx, (file, row))
            if replace(before, seconds=row.seconds) != row:
                raise ValueError(
                    f"idx {row.idx} differs between {other} and {file} in {_differing(before, row)}, though their "
                    "manifests agree: at most one of them is right; certify it again."
                )
    indices = sorted(found)
    merged = {**shared[0], "protocol": {"name": "merged", "indices": manifests.slices_text(indices), "parts": parts}}
    if (protocol := shards.whole(protocols)) is not None:
        merged |= {"protocol": protocol, "notes": _notes(parts, protocols, shrunk)}
    write_rows(out, merged, [found[idx][1] for idx in indices], sources=files, overwrite=overwrite)


def _shared(manifest: dict[str, Any]) -> dict[str, Any]:
    """The entries of a manifest that must agree: all but the images and the source files of recomputed rows.

    The merged manifest records those two for each part.
    """
    kept = {name: value for name, value in manifest.items() if name != "notes"} | {"protocol": {}}
    if "recomputed" in kept:
        steps = kept["recomputed"]
        kept["recomputed"] = [{name: step[name] for name in step if name != "table_sha256"} for step in steps]
    return kept


def _require_same(first: Path, old: dict[str, Any], file: Path, new: dict[str, Any]) -> None:
    if (differing := manifests.difference(old, new)) is not None:
        raise ValueError(
            f"{first} was certified with {differing.told(f'{file} with')}; only tables of the same "
            "settings can be merged."
        )


def _part(file: Path, rows: Sequence[Row], manifest: dict[str, Any]) -> dict[str, Any]:
    part = {"table": file.name, "sha256": file_sha256(file), "rows": len(rows), **section(manifest, "protocol")}
    part |= {name: manifest[name] for name in ("recomputed", "notes") if name in manifest}
    return part


def _notes(
    parts: Sequence[dict[str, Any]], protocols: Sequence[dict[str, Any]], shrunk: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """The notes of merged shards: those of the first shard, for a run that adds images, and those of each part."""
    notes: dict[str, Any] = {**section(parts[0], "notes"), "parts": list(parts)}
    notes["images"] = shards.asked(protocols, [manifests.told(part, "notes", "images") for part in parts])
    threads = [manifests.told(part, "notes", "threads") for part in parts]
    notes["threads"] = threads[0] if all(number == threads[0] for number in threads) else threads
    notes["micro_batch"] = shrunk or None
    digests = [manifests.told(part, "notes", "images_sha256") for part in parts]
    notes["images_sha256"] = {idx: one for told in digests for idx, one in (told or {}).items()} or None
    return {name: value for name, value in notes.items() if value is not None}


def _differing(before: Row, row: Row) -> str:
    names = [name for name in vars(row) if name != "seconds" and getattr(before, name) != getattr(row, name)]
    return ", ".join(f"{name} ({getattr(before, name)} and {getattr(row, name)})" for name in names[:2])
