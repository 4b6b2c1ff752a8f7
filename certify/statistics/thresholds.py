"""Decisions as integers: how many votes certify a radius, and how few show that no more samples will.

Each threshold is found by bisection on the very bound that is reported, so that a decision and the printed radius
cannot disagree by more than the last digits of that bound. Those may break its order at neighbouring counts; a count
above the threshold certifies all the same, since the exact bound rises and the computed one at the threshold, already
large enough, is below the exact one.
"""

import math
from collections.abc import Callable
from functools import lru_cache

from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound, upper_confidence_bound
from maxup_smoothing.certify.statistics.radius import certified_radius

# Above twice the relative error of a computed quantile, by which certified_radius may step back as p rises.
_STEP_BACK = 1 + 1e-14


@lru_cache(maxsize=4096)
def certify_threshold(n: int, level: float, p0: float) -> int:
    """Fewest votes among ``n`` whose lower bound reaches ``p0``.

    Args:
        n: Samples, in [1, 1e9].
        level: Alpha of this look, in (0, 1).
        p0: Probability to be shown, in (0, 1]; `probability_at` for that of a radius.

    Returns:
        The smallest k with lower_confidence_bound(k, n, level) >= p0; n + 1 if no vote suffices.

    Raises:
        ValueError: If an argument is out of range.
    """
    _require_probability(p0)
    return bisect(0, n + 1, lambda k: bool(lower_confidence_bound(k, n, level) >= p0))


@lru_cache(maxsize=4096)
def futility_threshold(n: int, level: float, p0: float) -> int:
    """Most votes among ``n`` whose upper bound stays below ``p0``: with so few, giving up costs little power.

    Args:
        n: Samples, in [1, 1e9].
        level: Beta of this look, in (0, 1).
        p0: Probability to be shown, in (0, 1].

    Returns:
        The largest k with upper_confidence_bound(k, n, level) < p0; -1 if there is none.

    Raises:
        ValueError: If an argument is out of range.
    """
    _require_probability(p0)
    return bisect(0, n + 1, lambda k: bool(upper_confidence_bound(k, n, level) >= p0)) - 1


@lru_cache(maxsize=4096)
def probability_at(radius: float, sigma: float) -> float:
    """Probability of the top class that certifies ``radius``: at least Phi(radius / sigma), rounded up.

    It is above the exact value by what `certified_radius` holds back, about 1e-12 of the quantile, so that every p from
    the result on has certified_radius(p, sigma) >= radius, and what is counted at a radius is also printed so.

    Args:
        radius: [0, 1] pixel units, not negative; 0 asks for any certificate, as p > 1/2 does.
        sigma: Standard deviation of the noise, positive and finite.

    Returns:
        In (1/2, 1]; 1.0, which no bound reaches, where no float below 1 suffices: from about 8.2 sigma on.

    Raises:
        ValueError: If an argument is out of range.
    """
    if not (radius >= 0 and math.isfinite(radius)):
        raise ValueError(f"radius must be finite and not negative, got {radius}.")
    # The floats from 1/2 to 1 are 1/2 + j 2^-53.
    steps = 1 + bisect(
        0, 2**52 - 1, lambda j: bool(certified_radius(0.5 + (j + 1) * 2.0**-53, sigma) >= radius * _STEP_BACK)
    )
    return 0.5 + steps * 2.0**-53


def bisect(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The smallest of low, ..., high - 1 from which ``holds`` is true; ``high`` if it is nowhere."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _require_probability(p0: float) -> None:
    if not 0 < p0 <= 1:
        raise ValueError(f"p0 must be in (0, 1], got {p0}.")
