"""Decisions as integers: how many votes certify a radius, how few show that no more samples will, and from which n on.

Each is found by bisection on the very bound that is reported. The tests compare what procedures decide with these.
"""

from functools import lru_cache

from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound, upper_confidence_bound
from maxup_smoothing.certify.statistics.radius import bisect


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


def min_samples_to_certify(alpha: float) -> int:
    """Fewest estimation samples whose unanimous vote certifies a positive radius; with fewer, everything abstains.

    Args:
        alpha: One-sided failure probability, in (0, 1).

    Returns:
        The smallest n with lower_confidence_bound(n, n, alpha) > 1/2, near log2(1/alpha): 10 at alpha = 0.001.

    Raises:
        ValueError: If ``alpha`` is outside (0, 1).
    """
    n = 1
    while lower_confidence_bound(n, n, alpha) <= 0.5:  # at most 1075 rounds: alpha >= 2^-1074
        n += 1
    return n


def _require_probability(p0: float) -> None:
    if not 0 < p0 <= 1:
        raise ValueError(f"p0 must be in (0, 1], got {p0}.")
