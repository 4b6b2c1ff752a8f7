r"""Rule E: bounds on a proportion that hold at every number of samples at once, so looking again costs nothing.

For the hypothesis p <= p0, and k votes of n, let

    E_n(p0) = average of (q/p0)^k ((1-q)/(1-p0))^(n-k) over q from the Jeffreys prior, Beta(1/2, 1/2), cut to q > p0.

One trial multiplies each ratio by p q/p0 + (1-p)(1-q)/(1-p0) on average, which rises with p and is 1 at p = p0. So
under every p <= p0 the ratio is a nonnegative supermartingale that starts at 1, and so is the average. By Ville's
inequality P(E_n(p0) >= 1/alpha at any n) <= alpha.

E_n(p0) exceeds 1 only below k/n, above which the likelihood f falls, and there it falls as p0 rises. Write
p0 = sin^2(t/2). Then the prior is uniform in t on (0, pi), with survival S and hazard h = 1/(pi - t), which rises.
And g = (log f)' = n (k/n - p0) / sqrt(p0 (1 - p0)) falls, as its derivative shows. With integrals over s from t on,

    E = 1 + integral of f'(s) S(s) / (f(t) S(t))    <=  1 + g(t) I    by parts,
    E = integral of f(s) h(s) S(s) / (f(t) S(t))    >=  h(t) I        by definition,

where I is the integral of f(s) S(s) / (f(t) S(t)) up to k/n. So dE/dt = h (E - 1) - g E <= h g I - g h I = 0. A
rejected p0 has all smaller ones rejected with it. So a bound above p means that p itself, one fixed hypothesis, was
rejected. That has probability at most alpha over all n together.

References:
    Ville (1939); Robbins (1970); Waudby-Smith and Ramdas (2024); the two-sided mixture in Voracek (2024), algorithm 2.
"""

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from maxup_smoothing.certify.statistics.binomial import LARGEST_N, lower_confidence_bound, require_alpha

# Errors of log E, with room. Those of its large terms (lgamma, logarithms, their sum) are below 1e-15 of them. That of
# the posterior tail is below 1e-10; wherever it is used, it is far from underflow.
_RELATIVE_RESERVE, _TAIL_RESERVE = 4e-15, 1e-9
# In log odds, log E is nearly the convex -log f, whose slope is n p - k. So Newton's steps from the left of the
# solution, which are themselves rejected values, never cross it. The last excess over log(1/alpha) is below what a
# radius shows.
_STEPS, _EXCESS = 12, 1e-6


def log_e_value(n_a: ArrayLike, n: ArrayLike, p0: ArrayLike) -> NDArray[np.float64]:
    """Logarithm of the evidence E_n against the hypothesis p <= p0, never above the exact value.

    Args:
        n_a: Successes, integers in [0, n], any shape.
        n: Trials, integers in [1, 1e9], broadcast against ``n_a``.
        p0: Largest proportion of the hypothesis, in (0, 1), broadcast against ``n_a``.

    Returns:
        float64 of the common shape (a float for scalars); -inf where ``n_a / n <= p0``: no evidence, and the formula
        would divide two numbers that underflow there.

    Raises:
        ValueError: If ``n_a`` or ``n`` are not integers or any argument is out of range.
    """
    k, n, p = np.asarray(n_a), np.asarray(n), np.asarray(p0, dtype=np.float64)
    if not (np.issubdtype(k.dtype, np.integer) and np.issubdtype(n.dtype, np.integer)):
        raise ValueError(f"n_a and n must be integers, got {k.dtype} and {n.dtype}.")
    if np.any(n < 1) or np.any(n > LARGEST_N) or np.any(k < 0) or np.any(k > n):
        raise ValueError(f"n must be in [1, {LARGEST_N}] and n_a in [0, n], got n_a={k}, n={n}.")
    if not np.all((p > 0) & (p < 1)):  # written so that nan fails
        raise ValueError(f"p0 must be in (0, 1), got {p0!r}.")
    a, b = k + 0.5, n - k + 0.5
    # B(a, b) / (B(1/2, 1/2) p0^k (1 - p0)^(n - k)), the ratio of the untruncated mixture
    large = [special.gammaln(a), special.gammaln(b), -special.gammaln(n + 1.0), -k * np.log(p), -(n - k) * np.log1p(-p)]
    leads = k / n > p
    posterior = np.where(leads, special.betaincc(a, b, p), 1.0)
    prior = np.arcsin(np.sqrt(1 - p)) * (2 / math.pi)
    value = sum(large) + (np.log(posterior) - np.log(prior) - math.log(math.pi))
    reserve = _RELATIVE_RESERVE * sum(map(np.abs, large)) + _TAIL_RESERVE
    return np.where(leads, value - reserve, -np.inf)[()]


def lower_confidence_sequence(n_a: ArrayLike, n: ArrayLike, alpha: ArrayLike) -> NDArray[np.float64]:
    """Lower bound on a proportion: with probability at least 1 - alpha it holds at all n at once.

    Args:
        n_a: Successes among the first ``n`` trials, integers in [0, n], any shape.
        n: Trials so far, integers in [1, 1e9], broadcast against ``n_a``.
        alpha: Failure probability of the whole sequence, in (0, 1), broadcast against ``n_a``.

    Returns:
        float64 of the common shape (a float for scalars), in [0, 1): a p0 whose computed evidence, itself a lower
        bound, was found to reach 1/alpha, or 0.0 where none was found; exactly 0.0 where ``n_a == 0``.

    Raises:
        ValueError: If ``n_a`` or ``n`` are not integers or any argument is out of range.
    """
    k, n, alpha = np.broadcast_arrays(n_a, n, np.asarray(alpha, dtype=np.float64))
    require_alpha(alpha)
    some, tiny = np.where(k == 0, 1, k), np.finfo(np.float64).tiny
    needed = np.nextafter(-np.log(alpha), np.inf)
    # Left of k/n in log odds; a bound at a thousandth of alpha is about where 1/alpha is reached, and never beyond k/n.
    log_odds = special.logit(lower_confidence_bound(some, n, np.maximum(alpha * 1e-3, tiny)))
    low = np.zeros(k.shape)
    for _ in range(_STEPS):
        p = np.clip(special.expit(log_odds), tiny, math.nextafter(1.0, 0.0))
        evidence = log_e_value(some, n, p)
        low = np.where(evidence >= needed, np.maximum(low, p), low)
        excess = evidence - needed - _EXCESS / 2
        if np.all(abs(excess) <= _EXCESS / 2):
            break
        log_odds = log_odds + excess / (some - n * p)
    return np.where(k == 0, 0.0, low)[()]


def upper_confidence_sequence(k: ArrayLike, n: ArrayLike, alpha: ArrayLike) -> NDArray[np.float64]:
    """Upper bound on a proportion: with probability at least 1 - alpha it holds at all n at once.

    Args:
        k: Successes among the first ``n`` trials, integers in [0, n], any shape.
        n: Trials so far, integers in [1, 1e9], broadcast against ``k``.
        alpha: Failure probability of the whole sequence, in (0, 1), broadcast against ``k``.

    Returns:
        float64 of the common shape (a float for scalars), in (0, 1]: 1 minus the lower bound of the failures.

    Raises:
        ValueError: If ``k`` or ``n`` are not integers or any argument is out of range.
    """
    return complement(lower_confidence_sequence(np.asarray(n) - np.asarray(k), n, alpha))


def complement(lower: ArrayLike) -> NDArray[np.float64]:
    """1 - ``lower``, float64 in [0, 1], rounded up: an upper bound on 1 - p where ``lower`` is a lower bound on p."""
    lower = np.asarray(lower, dtype=np.float64)
    upper = 1 - lower  # exact from 1/2 on; below, 1 - upper is exact and shows on which side upper was rounded
    return np.where(1 - upper > lower, np.nextafter(upper, 1.0), upper)[()]


def geometric_looks(start: int = 100, growth: float = 1.1) -> Iterator[int]:
    """Numbers of samples at which to look, without end: a matter of cost alone, since any look is allowed.

    Args:
        start: First look, at least 1.
        growth: Ratio of a look to the one before, rounded up to whole samples; at least 1.

    Yields:
        Strictly increasing sample numbers.

    Raises:
        ValueError: If an argument is out of range.
    """
    if start < 1 or not (growth >= 1 and math.isfinite(growth)):
        raise ValueError(f"start and growth must be at least 1, got start={start}, growth={growth}.")
    look = start
    while True:
        yield look
        look = max(look + 1, math.ceil(look * growth))
