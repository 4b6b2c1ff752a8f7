"""Statistics of paired images: p-values and intervals for two classifiers on the same images."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from maxup_smoothing.certify.statistics.binomial import two_sided_p_value

#: Level at which `networks.verdict` calls a difference one, and one minus the confidence of all intervals here.
LEVEL = 0.05
_RESAMPLES = 10_000
_EXACT_SIGNS = 12
_AT_ONCE = 2_000_000  # numbers drawn in a piece: a bootstrap of 10,000 images would otherwise take a gigabyte


def mcnemar_p_value(only_a: int, only_b: int) -> float:
    """McNemar's exact two-sided p-value: images on which the tables differ fall either way with probability 1/2.

    Args:
        only_a: Images with the property in A alone, >= 0.
        only_b: Images with it in B alone, >= 0.

    Returns:
        In (0, 1]; 1 where no image differs.
    """
    return float(two_sided_p_value(max(only_a, only_b), only_a + only_b))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """P-values adjusted by Holm's step-down method: those <= x are a family with error rate at most x.

    Args:
        p_values: In [0, 1], shape (k,).

    Returns:
        float64, shape (k,), each at least its p-value and at most 1.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


def paired_interval(only_a: int, only_b: int, images: int) -> tuple[float, float]:
    """95 % interval of a difference of two proportions on the same images: Wald's with half an image in each cell.

    Approximate: its coverage is close to 95 % from a few dozen images on, and it has a width even where none differs.

    Args:
        only_a: Images with the property in A alone.
        only_b: Images with it in B alone; together at most ``images``.
        images: All of them, >= 1.

    References:
        Agresti and Min (2005), Simple improved confidence intervals for comparing matched proportions.
    """
    whole, plus, minus = images + 2, only_a + 0.5, only_b + 0.5
    centre = (plus - minus) / whole
    half = stats.norm.ppf(1 - LEVEL / 2) * np.sqrt(plus + minus - (plus - minus) ** 2 / whole) / whole
    return float(max(centre - half, -1.0)), float(min(centre + half, 1.0))


def mean_interval(values: ArrayLike, *, seed: int = 0) -> tuple[float, float]:
    """95 % BCa bootstrap interval of a mean over images, from 10,000 resamples.

    Of paired differences it is the paired bootstrap: resampling images resamples their differences.

    Args:
        values: One an image, shape (images,).
        seed: Of the generator that draws the resamples: the same interval each time.

    Returns:
        Lower and upper limit; both the value itself where all images have the same, of which resampling learns nothing.

    References:
        Efron (1987), Better bootstrap confidence intervals.
    """
    array = np.asarray(values, dtype=np.float64)
    if np.ptp(array) <= 1e-12 * max(1.0, float(np.abs(array).max())):  # differences are constant up to rounding
        return float(array.min()), float(array.max())
    found = stats.bootstrap(
        (array,),
        np.mean,
        n_resamples=_RESAMPLES,
        batch=max(1, _AT_ONCE // len(array)),
        confidence_level=1 - LEVEL,
        method="BCa",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def sign_flip_p_value(differences: ArrayLike, *, seed: int = 0) -> float:
    """Two-sided p-value of paired differences whose signs, were there no difference, would be as likely the others.

    Exact up to 12 differences that are not 0, from 10,000 random choices of signs beyond.

    Args:
        differences: One an image, shape (images,).
        seed: Of the random signs: the same p-value each time.

    Returns:
        In (0, 1]; 1 where nothing differs.

    References:
        Fisher (1935), The design of experiments, section 21.
    """
    array = np.asarray(differences, dtype=np.float64)
    moved = array[array != 0]
    count = len(moved)
    if count <= _EXACT_SIGNS:
        signs = 1.0 - 2.0 * ((np.arange(2**count)[:, None] >> np.arange(count)) & 1)
        sums = np.abs(signs @ moved)
        return float((sums >= abs(moved.sum()) * (1 - 1e-9)).mean())
    rng, reached = np.random.default_rng(seed), 0
    pieces = -(-_RESAMPLES * count // _AT_ONCE)
    for size in np.diff(np.linspace(0, _RESAMPLES, pieces + 1).astype(int)):
        signs = 1.0 - 2.0 * rng.integers(0, 2, size=(size, count))
        reached += int((np.abs(signs @ moved) >= abs(moved.sum()) * (1 - 1e-9)).sum())
    return (1 + reached) / (1 + _RESAMPLES)
