"""Two training methods, each by the radius tables of several training seeds.

Another seed gives another network, and networks of one method differ by more than their images tell. So a statement
about methods takes the seed as its unit: one number a trained network, and a t interval over those.
"""

# Shapes: S seeds, R radii.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from maxup_smoothing.analysis.comparison.networks import checked_pair
from maxup_smoothing.analysis.comparison.significance import LEVEL, holm
from maxup_smoothing.certify.tables.summary import average_certified_radius, certified_accuracy


@dataclass(frozen=True, kw_only=True)
class MeanDifference:
    """Mean over the seeds of A minus that of B, its 95 % t interval and two-sided p-value.

    ``p_value`` and limits are nan where nothing varies, since a t interval then knows no scale.
    """

    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class SeedComparison:
    """A against B on the same ``images``, one network a seed.

    ``acr_a`` and ``acr_b`` have an ACR a seed; ``acr`` compares them, and ``at`` the certified accuracies at ``radii``,
    with p-values adjusted by Holm's method in ``p_holm``. ``paired`` tells whether seeds were compared one by one.
    """

    images: int
    paired: bool
    acr_a: tuple[float, ...]
    acr_b: tuple[float, ...]
    acr: MeanDifference
    radii: tuple[float, ...]
    at: tuple[MeanDifference, ...]
    p_holm: tuple[float, ...]


def compare_seeds(
    a: Sequence[pd.DataFrame],
    b: Sequence[pd.DataFrame],
    radii: Sequence[float],
    *,
    paired: bool,
    different_sigma: bool = False,
) -> SeedComparison:
    """Compare two methods by the tables of their trained networks.

    Args:
        a: At least two tables as `certify.tables.radius_table.read` returns them, one a training seed.
        b: Those of the other method.
        radii: Where certified accuracies are compared, chosen before looking, numbers >= 0.
        paired: Whether a and b have the same seeds in the same order, and a seed means the same initial weights and
            noise in both. Then differences are taken seed by seed; otherwise the interval is Welch's.
        different_sigma: Compare also models under different noise.

    Raises:
        ValueError: If a method has fewer than two tables, pairs do not match in number, or any two tables are about
            different images or were certified differently; see `compare_tables`.

    References:
        Student (1908); Welch (1947); Holm (1979).
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(
            f"a statement about methods takes at least two training seeds of each, got {len(a)} and {len(b)}; train "
            "more, or compare one network with one."
        )
    if paired and len(a) != len(b):
        raise ValueError(f"paired seeds need as many tables of each method, got {len(a)} and {len(b)}.")
    for other in [*a[1:], *b]:
        checked_pair(a[0], other, different_sigma=different_sigma)
    acr_a, acr_b = ([average_certified_radius(table) for table in tables] for tables in (a, b))
    accuracy_a_SR, accuracy_b_SR = (
        np.array([certified_accuracy(table, radii)["accuracy"].to_numpy(np.float64) for table in tables])
        for tables in (a, b)
    )
    at = [mean_difference(accuracy_a_SR[:, i], accuracy_b_SR[:, i], paired=paired) for i in range(len(radii))]
    p_values = np.array([found.p_value for found in at])
    # Where nothing varies there is no p-value; it counts in the family all the same, which the data must not shrink.
    adjusted = np.where(np.isnan(p_values), np.nan, holm(np.nan_to_num(p_values, nan=1.0)))
    return SeedComparison(
        images=len(a[0]),
        paired=paired,
        acr_a=tuple(acr_a),
        acr_b=tuple(acr_b),
        acr=mean_difference(acr_a, acr_b, paired=paired),
        radii=tuple(map(float, radii)),
        at=tuple(at),
        p_holm=tuple(adjusted.tolist()),
    )


def mean_difference(a_S: ArrayLike, b_S: ArrayLike, *, paired: bool) -> MeanDifference:
    """Mean of ``a_S`` minus that of ``b_S``, with Student's interval of the pairs or Welch's of two samples.

    Args:
        a_S: One number a seed, at least two.
        b_S: The same of the other method; as many, in the same order, if ``paired``.
        paired: See above.
    """
    a, b = np.asarray(a_S, dtype=np.float64), np.asarray(b_S, dtype=np.float64)
    # By hand, since scipy's tests warn where one of two samples does not vary, which is not a fault here.
    parts = [a - b] if paired else [a, b]
    squares = np.array([part.var(ddof=1) / len(part) for part in parts])
    freedom = squares.sum() ** 2 / max(sum(s**2 / (len(p) - 1) for s, p in zip(squares, parts, strict=True)), 1e-300)
    difference, error = float(a.mean() - b.mean()), float(np.sqrt(squares.sum()))
    if error <= 1e-12:  # rounding alone: accuracies are multiples of 1 / images
        return MeanDifference(difference=difference, low=np.nan, high=np.nan, p_value=np.nan)
    half = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * error
    return MeanDifference(
        difference=difference,
        low=difference - half,
        high=difference + half,
        p_value=float(2 * stats.t.sf(abs(difference) / error, freedom)),
    )


def spread(values_S: ArrayLike) -> tuple[float, float]:
    """Mean and standard deviation over the seeds (n - 1 in the denominator); nan for one seed."""
    values: NDArray[np.float64] = np.asarray(values_S, dtype=np.float64)
    return float(values.mean()), float(values.std(ddof=1)) if len(values) > 1 else float("nan")
