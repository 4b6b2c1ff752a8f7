"""What the bands of a difference curve show, in words: from which radius on, and where it is ahead without a proof."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.analysis.comparison.difference import DifferenceCurve
from maxup_smoothing.analysis.comparison.networks import AtRadius
from maxup_smoothing.analysis.comparison.significance import LEVEL
from maxup_smoothing.certify.statistics.rounding import ceil_text, floor_text, radius_text


def band_text(curve: DifferenceCurve, rows: Sequence[AtRadius], a: str, b: str) -> str:
    """What is shown over all radii at once, what only at single ones, and what only by the table of ``rows``.

    Args:
        curve: A minus B.
        rows: The same comparison at the radii of a table, with p-values corrected over these alone.
        a: Name of the first.
        b: Name of the other.
    """
    shown = {a: curve.band_low > 0, b: curve.band_high < 0}
    ahead = {a: curve.difference > 0, b: curve.difference < 0}
    single = {a: curve.low > 0, b: curve.high < 0}
    sentences = []
    for name, where in shown.items():
        if where.any():
            sentences.append(f"Over all radii at once, {name} is shown to certify more {_where(curve, where)}.")
    if not sentences:
        sentences.append("Over all radii at once, no difference is shown.")
    for name in (a, b):
        rest = ahead[name] & ~shown[name]
        if not rest.any():
            continue
        points = ceil_text(100 * float(np.abs(curve.difference[rest]).max()), 1)
        text = f"{name} is ahead {_where(curve, rest)}, by at most {points} points, without that being shown over all"
        alone = rest & single[name]
        hint = f"; the interval at a radius by itself leaves 0 {_where(curve, alone)}" if alone.any() else ""
        sentences.append(f"{text}{hint}.")
    only_table = [row.radius for row in rows if row.p_holm <= LEVEL and not _at(curve, row.radius, shown[a] | shown[b])]
    if only_table:
        radii = ", ".join(map(radius_text, only_table))
        sentences.append(
            f"At r = {radii} the table shows a difference and the wide band does not: the table is corrected over its "
            f"{len(rows)} radii, the band over all of them."
        )
    return " ".join(sentences)


def _at(curve: DifferenceCurve, radius: float, mask: NDArray[np.bool_]) -> bool:
    """What holds at a radius: at the first step that is not below it; False beyond the curve."""
    place = int(np.searchsorted(curve.radius, radius, side="left"))
    return place < len(mask) and bool(mask[place])


def _where(curve: DifferenceCurve, mask: NDArray[np.bool_]) -> str:
    """Where a property holds, in words: ``from r = 0.604 on``, ``from r = 0.604 on, in places from 0.543 on``."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(int)))
    # The value at a radius holds from just above the radius before it.
    stretches = [(float(curve.radius[max(0, i - 1)]), float(curve.radius[j - 1])) for i, j in edges.reshape(-1, 2)]
    (first, _), (low, high) = stretches[0], stretches[-1]
    start, end = ceil_text(first, 3), floor_text(high, 3)
    if high == curve.radius[-1]:
        on = f"from r = {ceil_text(low, 3)} on"
        return on if len(stretches) == 1 else f"{on}, and in places from {start} on"
    return f"from r = {start} to {end}" if len(stretches) == 1 else f"in places between r = {start} and {end}"
