r"""Exact bounds on a binomial proportion, rounded so that they stay bounds in floating point.

Every certificate rests on `lower_confidence_bound`. `scipy.special.betaincinv` finds it up to an error that grows with
n: the tail beyond its answer was up to 1 + 3e-9 times alpha at n = 1e5, 1 + 1e-6 times at 1e9, and 17 times in one of
a million random cases (k = 280839909 of n = 280840908). The tail itself, `betainc`, was accurate to 3e-11 up to 1e9
(against 40-digit sums). So an answer is taken only if the tail beyond it is at most (1 - 1e-9) alpha, and is moved
outwards until it is; `tests/certify/statistics/test_binomial.py` repeats a part of that.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

#: Most trials for which the accuracy of the tail was checked.
LARGEST_N = 10**9
_SOLVED, _ACCEPTED = 1 - 2e-9, 1 - 1e-9  # the room between them keeps most answers from being moved at all


def lower_confidence_bound(k: ArrayLike, n: ArrayLike, alpha: ArrayLike) -> NDArray[np.float64]:
    r"""One-sided Clopper-Pearson lower bound on a binomial proportion.

    P(bound <= p) >= 1 - alpha for every true p, where k ~ Binomial(n, p).

    Args:
        k: Successes, integers in [0, n], any shape.
        n: Trials, integers in [1, 1e9], broadcast against ``k``.
        alpha: One-sided failure probability, in (0, 1), broadcast against ``k``.

    Returns:
        float64, shape of ``k`` (a float for a scalar ``k``), in [0, 1); exactly 0.0 where ``k == 0``.

    Raises:
        ValueError: If ``k`` or ``n`` are not integers, ``alpha`` is outside (0, 1) or any ``k`` outside [0, n].

    References:
        Clopper and Pearson (1934); Cohen et al. (2019), section 3.2.2.
    """
    k, n, alpha = _checked(k, n, alpha)
    some = np.maximum(k, 1)  # betaincinv(0, ...) is nan
    start = special.betaincinv(some, n - some + 1, alpha * _SOLVED)
    bound = _moved(start, -1, lambda p: special.betainc(some, n - some + 1, p), alpha)
    return np.where(k == 0, 0.0, bound)[()]


def upper_confidence_bound(k: ArrayLike, n: ArrayLike, alpha: ArrayLike) -> NDArray[np.float64]:
    r"""One-sided Clopper-Pearson upper bound on a binomial proportion.

    P(bound >= p) >= 1 - alpha for every true p, where k ~ Binomial(n, p).

    Args:
        k: Successes, integers in [0, n], any shape.
        n: Trials, integers in [1, 1e9], broadcast against ``k``.
        alpha: One-sided failure probability, in (0, 1), broadcast against ``k``.

    Returns:
        float64, shape of ``k`` (a float for a scalar ``k``), in (0, 1]; exactly 1.0 where ``k == n``.

    Raises:
        ValueError: If ``k`` or ``n`` are not integers, ``alpha`` is outside (0, 1) or any ``k`` outside [0, n].
    """
    k, n, alpha = _checked(k, n, alpha)
    some = np.minimum(k, n - 1)
    # The complemented inverse, not 1 - lower bound of the failures: that would cancel for small proportions.
    start = special.betainccinv(some + 1, n - some, alpha * _SOLVED)
    bound = _moved(start, +1, lambda p: special.betaincc(some + 1, n - some, p), alpha)
    return np.where(k == n, 1.0, bound)[()]


def proportion_interval(
    k: ArrayLike, n: ArrayLike, confidence: float = 0.95
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two-sided Clopper-Pearson interval: it covers the true proportion with probability at least ``confidence``.

    Args:
        k: Successes, integers in [0, n], any shape.
        n: Trials, integers in [1, 1e9], broadcast against ``k``.
        confidence: In (0, 1); half of the rest is spent on each side.

    Returns:
        Lower and upper limits, float64, each of the shape of ``k``.

    Raises:
        ValueError: If ``k`` or ``n`` are not integers, ``confidence`` is outside (0, 1) or any ``k`` outside [0, n].
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must be in (0, 1), got {confidence}.")
    alpha = (1 - confidence) / 2
    return lower_confidence_bound(k, n, alpha), upper_confidence_bound(k, n, alpha)


def two_sided_p_value(k: ArrayLike, n: ArrayLike) -> NDArray[np.float64]:
    """Two-sided exact p-value of the hypothesis that two classes are equally likely.

    PREDICT returns the winner of the top two only if this is at most alpha. Then it returns a class other than the
    smoothed classifier's with probability at most alpha. The second side pays for naming the winner after the vote.

    Args:
        k: Votes of the more frequent class, integers in [n/2, n], any shape.
        n: Votes of both classes, integers >= 0, broadcast against ``k``; no votes are no evidence, p = 1.

    Returns:
        float64 in (0, 1], shape of ``k``: min(1, 2 P(Binomial(n, 1/2) >= k)).

    Raises:
        ValueError: If ``k`` or ``n`` are not integers or any ``k`` is outside [n/2, n].

    References:
        Hung and Fithian (2019); Cohen et al. (2019), section 3.2.1.
    """
    k, n = _integers("k", k), _integers("n", n)
    if np.any(n < 0) or np.any(2 * k < n) or np.any(k > n):
        raise ValueError(f"k must be the larger part of n votes, in [n/2, n], got k={k}, n={n}.")
    some = np.maximum(k, 1)  # only n = 0 has k = 0
    tail = special.betainc(some, np.maximum(n - some + 1, 1), 0.5)
    return np.where(n == 0, 1.0, np.minimum(1.0, 2 * tail))[()]


def require_alpha(alpha: ArrayLike) -> None:
    """Refuse an alpha, or one of several, that is not a probability.

    Raises:
        ValueError: With what came.
    """
    level = np.asarray(alpha, dtype=np.float64)
    if not np.all((level > 0) & (level < 1)):  # written so that nan fails
        raise ValueError(f"alpha must be in (0, 1), got {level}.")


def _moved(
    start: NDArray[np.floating],
    direction: int,
    tail: Callable[[NDArray[np.float64]], NDArray[np.floating]],
    alpha: NDArray[np.float64],
) -> NDArray[np.float64]:
    """``start``, moved down (-1) or up (+1) by doubling steps where the tail beyond it is too large."""
    trivial = float(max(direction, 0))
    bound = np.where(np.isnan(start), trivial, start.astype(np.float64))  # no answer is met below alpha = 1e-200
    step = 2.0**-53
    while np.any(loose := tail(bound) > alpha * _ACCEPTED):
        # Steps are relative to the nearer end, since near 1 it is the distance to 1 that makes the radius.
        moved = bound + direction * step * np.minimum(bound, 1 - bound)
        bound = np.where(loose, np.clip(np.nextafter(moved, trivial), 0.0, 1.0), bound)
        step *= 2
    return bound


def _checked(
    k: ArrayLike, n: ArrayLike, alpha: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    k, n = _integers("k", k), _integers("n", n)
    alpha = np.asarray(alpha, dtype=np.float64)
    if np.any(n < 1) or np.any(n > LARGEST_N):
        raise ValueError(f"n must be in [1, {LARGEST_N}], got {n}.")
    if np.any(k < 0) or np.any(k > n):
        raise ValueError(f"k must be in [0, n], got k={k}, n={n}.")
    require_alpha(alpha)
    return k, n, alpha


def _integers(name: str, values: ArrayLike) -> NDArray[np.int64]:
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(f"{name} must be integers, got {array.dtype} {values!r}.")
    return array.astype(np.int64)
