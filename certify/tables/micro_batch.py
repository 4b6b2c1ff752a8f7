"""What a manifest's notes say of memory that ran out: with how many rows at a time which images were certified.

While a table is written, its notes count: from so many rows of the table on. Where tables are put together, which sorts
their rows, the count is replaced by the images themselves.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables import slices


def last(manifest: Mapping[str, Any]) -> int | None:
    """With how many rows at a time a table's last rows were made, None if with whole batches."""
    changes = _changes(manifest)
    rows = changes[-1].get("rows") if changes else None
    return rows if type(rows) is int else None


def by_idx(manifest: Mapping[str, Any], indices: Sequence[int]) -> list[dict[str, Any]]:
    """The changes, each with the images that it is about.

    Args:
        manifest: Of a table.
        indices: The table's idx, in the order of its rows.
    """
    changes = _changes(manifest)
    counted = [change for change in changes if isinstance(change.get("after_rows"), int)]
    starts = [int(change["after_rows"]) for change in counted]
    found = [change for change in changes if "idx" in change]
    for change, (start, stop) in zip(counted, itertools.pairwise([*starts, len(indices)]), strict=True):
        if images := sorted(indices[start:stop]):
            found.append({"rows": change.get("rows"), "idx": slices.text(images)})
    return found


def _changes(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    told = manifests.told(manifest, "notes", "micro_batch")
    return [change for change in told if isinstance(change, dict)] if isinstance(told, list) else []
