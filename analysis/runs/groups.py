"""Parts of a radius table, each as a run of its own: by class, or by how hard another classifier found the image.

An average over a data set hides that one class has no certificate at all, or that a method gained on images that were
easy before. Any figure or table of runs shows these parts side by side.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from maxup_smoothing.analysis.runs.run import Run
from maxup_smoothing.certify.tables.summary import contributions, summarize


def by_class(run: Run, class_names: Sequence[str] | None = None) -> list[Run]:
    """The run's images of each class that occurs, in the classes' order.

    Args:
        run: Any.
        class_names: One a class; by default the numbers are shown.

    Raises:
        ValueError: If a label has no name.
    """
    labels = run.table["label"]
    if class_names is not None and int(labels.max()) >= len(class_names):
        raise ValueError(f"{run.name} has the label {int(labels.max())}, but there are {len(class_names)} class names.")
    return [
        _part(run, labels == label, str(label) if class_names is None else class_names[int(label)])
        for label in sorted(set(labels))
    ]


def by_difficulty(run: Run, reference: Run) -> list[Run]:
    """The run's images in three groups: those the reference did not certify, and the two halves of those it did.

    The groups are chosen by the reference alone. To divide a run by its own radii would show chance as skill, so it is
    refused.

    Args:
        run: Whose images are divided.
        reference: Another classifier's table over the same images.

    Returns:
        The groups that have images, the hardest first; halves are cut at the median radius.

    Raises:
        ValueError: If the reference is about other images or labels, or has the same rows.
    """
    own, other = (found.table.set_index("idx").sort_index() for found in (run, reference))
    if not own.index.equals(other.index) or not own["label"].equals(other["label"]):
        raise ValueError(f"{reference.name} is about other images than {run.name}; certify both on the same ones.")
    if own[["predict", "radius"]].equals(other[["predict", "radius"]]):
        raise ValueError(f"{reference.name} has the same rows as {run.name}; judge difficulty by another classifier.")
    radius = pd.Series(contributions(reference.table), index=reference.table["idx"])
    radius = radius.reindex(run.table["idx"]).set_axis(run.table.index)
    certified = radius[radius > 0]
    middle = float(certified.median()) if len(certified) else 0.0
    groups = [
        (radius <= 0, f"not certified by {reference.name}"),
        ((radius > 0) & (radius < middle), f"less certified half of {reference.name}"),
        ((radius > 0) & (radius >= middle), f"more certified half of {reference.name}"),
    ]
    return [_part(run, mask, name) for mask, name in groups if mask.any()]


def extremes(table: pd.DataFrame, count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The hardest and the easiest images, ``count`` of each at most.

    Hardest first are wrong predictions by falling radius (the surest mistakes), then abstentions, then right ones by
    rising radius; easiest are right ones by falling radius. Ties go by ``idx``.

    Args:
        table: Rows as `certify.tables.radius_table.read` returns them.
        count: At least 1.
    """
    right, radius = table["correct"].to_numpy() == 1, table["radius"].to_numpy(np.float64)
    signed = np.where(right, radius, -radius)
    order = np.lexsort((table["idx"].to_numpy(), signed))
    backwards = np.lexsort((table["idx"].to_numpy(), -signed))
    easiest = backwards[right[backwards]]
    return table.iloc[order[:count]], table.iloc[easiest[:count]]


def _part(run: Run, mask: pd.Series, name: str) -> Run:
    table = run.table[mask]
    return replace(run, name=f"{name} ({len(table)})", table=table, summary=summarize(table))
