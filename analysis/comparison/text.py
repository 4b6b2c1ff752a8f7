"""Comparisons in words: tables for a terminal, verdicts in one sentence, and the bands of a difference curve."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.analysis.comparison.difference import DifferenceCurve
from maxup_smoothing.analysis.comparison.methods import SeedComparison, spread
from maxup_smoothing.analysis.comparison.networks import AtRadius, Comparison, outwards_text, verdict
from maxup_smoothing.analysis.comparison.significance import LEVEL
from maxup_smoothing.certify.statistics.rounding import ceil_text, floor_text, radius_text


def of_networks(found: Comparison, a: str, b: str) -> str:
    """Two trained networks on the same images.

    Args:
        found: The comparison.
        a: Name of the first.
        b: Name of the one that it is held against.
    """
    lines = [
        f"A  {a}: ACR {floor_text(found.acr_a, 4)}",
        f"B  {b}: ACR {floor_text(found.acr_b, 4)}",
        f"{found.images} images, paired; A minus B in points; p is McNemar's exact one, Holm's over these radii",
        "",
        f"{'radius':>7} {'A - B':>7} {'95 % interval':>16} {'A alone':>8} {'B alone':>8} {'p':>8} {'p (Holm)':>9}",
    ]
    for row in found.at:
        interval = outwards_text(100 * row.low, 100 * row.high, 1)
        lines.append(
            f"{radius_text(row.radius):>7} {100 * row.difference:>+7.1f} {interval:>16} {row.only_a:>8} "
            f"{row.only_b:>8} {_p(row.p_value):>8} {_p(row.p_holm):>9}"
        )
    return "\n".join([*lines, "", verdict(found, a, b), _ONE_SEED, ""])


def of_methods(found: SeedComparison, a: str, b: str) -> str:
    """Two methods by several training seeds each.

    Args:
        found: The comparison.
        a: Name of the first.
        b: Name of the one that it is held against.
    """
    paired = "seed by seed (paired t)" if found.paired else "as two samples of seeds (Welch's t)"
    lines = [
        _method("A", a, found.acr_a),
        _method("B", b, found.acr_b),
        f"{found.images} images, compared {paired}; A minus B in points; p (Holm) over these radii",
        "",
        f"{'radius':>7} {'A - B':>7} {'95 % interval':>16} {'p':>8} {'p (Holm)':>9}",
    ]
    for radius, row, adjusted in zip(found.radii, found.at, found.p_holm, strict=True):
        known = not math.isnan(row.low)
        interval = outwards_text(100 * row.low, 100 * row.high, 1) if known else "nothing varies"
        lines.append(
            f"{radius_text(radius):>7} {100 * row.difference:>+7.1f} {interval:>16} {_p(row.p_value):>8} "
            f"{_p(adjusted):>9}"
        )
    return "\n".join([*lines, "", verdict_of_methods(found, a, b), ""])


def verdict_of_methods(found: SeedComparison, a: str, b: str) -> str:
    """What a comparison by seeds says, as one sentence about the names ``a`` and ``b``."""
    change, seeds = found.acr, f"{len(found.acr_a)} and {len(found.acr_b)} training seeds"
    if math.isnan(change.low):
        return f"The ACR of {a} minus that of {b} is {change.difference:+.4f} for every seed; nothing varies ({seeds})."
    interval = f"95 % t interval {outwards_text(change.low, change.high, 4)}, {seeds}"
    shown = []
    for word, sign in (("higher", 1), ("lower", -1)):
        rows = zip(found.radii, found.at, found.p_holm, strict=True)
        at = [radius_text(radius) for radius, row, p in rows if p <= LEVEL and sign * row.difference > 0]
        shown += [f"{word} at r = {', '.join(at)}"] if at else []
    if change.low <= 0 <= change.high:
        acr = f"No difference in ACR is shown between the methods {a} and {b} ({change.difference:+.4f}, {interval})"
    else:
        word = "higher" if change.difference > 0 else "lower"
        acr = f"The method {a} has the {word} ACR, {change.difference:+.4f} against {b} ({interval})"
    none = f"at none of {len(found.radii)} radii is a difference shown"
    accuracy = f"its certified accuracy is {' and '.join(shown)}" if shown else none
    return f"{acr}; {accuracy}."


_ONE_SEED = "This compares two trained networks; a statement about methods takes several training seeds of each."


def _method(letter: str, name: str, acr: tuple[float, ...]) -> str:
    mean, deviation = spread(acr)
    each = ", ".join(floor_text(value, 4) for value in acr)
    return f"{letter}  {name}: ACR {floor_text(mean, 4)}, standard deviation {deviation:.4f} over seeds ({each})"


def _p(value: float) -> str:
    return "-" if math.isnan(value) else "<= .001" if value <= 0.001 else ceil_text(value, 3)


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
