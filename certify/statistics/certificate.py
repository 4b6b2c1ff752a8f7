"""CERTIFY of Cohen et al. (2019), from looks at the votes to a certificate; no torch. PREDICT is in `prediction`."""

# Shapes: K classes; V = K + 1 kinds of vote, the last for logits that were not finite.

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.certify.statistics.anytime import complement, lower_confidence_sequence, upper_confidence_sequence
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound, upper_confidence_bound
from maxup_smoothing.certify.statistics.radius import ABSTAIN, require_positive_sigma, two_class_radius

#: How often the votes are looked at: once (Cohen et al.), on a schedule (rule GS), whenever one likes (rule E).
PROCEDURES = ("fixed", "sequential", "anytime")
#: How the runner-up is bounded: by what the selected class leaves, or also by its own votes. The procedure decides
#: which bound on a proportion both take, see `_bounds`.
BOUNDS = ("clopper-pearson", "joint")

# Beyond it, 8.2 sigma, no number of votes that this package counts proves a radius; 1 itself would be an infinite one.
_CERTAIN = math.nextafter(1.0, 0.0)


@dataclass(frozen=True)
class Look:
    """The votes when looked at, the selected class having been fixed before the first of them.

    Attributes:
        n: Samples so far, at least 1.
        n_a: Votes for the selected class among them.
        n_b: Votes for the most frequent other kind of vote; logits that were not finite are a kind.
        level: Alpha spent at this look; for ``anytime``, alpha itself at every look.

    Raises:
        ValueError: If there are more votes than samples, or a negative number of them.
    """

    n: int
    n_a: int
    n_b: int
    level: float

    def __post_init__(self) -> None:
        if min(self.n_a, self.n_b) < 0 or self.n_a + self.n_b > self.n:
            raise ValueError(f"votes n_a={self.n_a} and n_b={self.n_b} must be parts of n={self.n} samples.")


def limits(looks: Sequence[Look], *, procedure: str, bound: str, probability_error: float = 0.0) -> tuple[float, float]:
    r"""Bounds on the probabilities of the selected class and of its runner-up, from all looks so far.

    They are p_a >= p_a_lower, and that every other kind of vote has probability at most p_b_upper. After every look at
    once they hold with probability at least 1 - (the sum of the levels, or the one level of ``anytime``).

    ``joint`` spends half of each level on each bound. It needs no correction for the number of classes. The runner-up B
    is one fixed class, the largest count among the others is at least B's, and the upper bound rises with the count.

    Args:
        looks: All looks so far, in order; none gives the trivial bounds.
        procedure: One of `PROCEDURES`; ``fixed`` has a single look.
        bound: One of `BOUNDS`.
        probability_error: How far the law of the samples may be from N(0, sigma^2), in total variation; it widens both
            bounds.

    Returns:
        ``(p_a_lower, p_b_upper)``: the largest lower bound in [0, 1) and the smallest upper bound in (0, 1], which is
        never above 1 - p_a_lower, rounded up.

    Raises:
        ValueError: If a name is unknown, ``fixed`` was looked at twice, the levels of ``anytime`` differ, or a number
            is out of range.

    References:
        Cohen et al. (2019), section 3.2.2; Voracek (2024), appendix B, for the joint bound.
    """
    _require(procedure, bound, probability_error)
    levels = {look.level for look in looks}
    if procedure == "fixed" and len(looks) > 1:
        raise ValueError(f"procedure fixed allows one look, got {len(looks)}; use sequential or anytime.")
    if procedure == "anytime" and len(levels) > 1:
        raise ValueError(f"the looks of procedure anytime share one level, got {sorted(levels)}.")
    lower, upper = _bounds(procedure)
    parts = 2 if bound == "joint" else 1
    p_a_lower = max((lower(look.n_a, look.n, look.level / parts) for look in looks), default=0.0)
    p_a_lower = _less(p_a_lower, probability_error)
    p_b_upper = float(complement(p_a_lower))
    if bound == "joint":
        of_votes = min((upper(look.n_b, look.n, look.level / parts) for look in looks), default=1.0)
        p_b_upper = min(p_b_upper, _more(of_votes, probability_error))
    return p_a_lower, p_b_upper


def optimistic(
    last: Look, *, procedure: str, bound: str, beta: float, probability_error: float = 0.0
) -> tuple[float, float]:
    """The best bounds that `limits` may still reach, judged by the last look; the futility rule uses their radius.

    More samples bring p_a_lower above the first, or p_b_upper below the second, only if a bound at level ``beta`` was
    wrong or theirs will be. Giving up on that ground costs power, never soundness; what earlier looks proved stays.

    Args:
        last: The last look; its level is not used.
        procedure: One of `PROCEDURES`.
        bound: One of `BOUNDS`.
        beta: Failure probability of each of the two bounds, in (0, 1), for this look (all looks if ``anytime``).
        probability_error: As in `limits`, which will subtract it.

    Returns:
        ``(p_a_upper, p_b_lower)``, within [0, 1 - 2^-53] and [2^-53, 1] so that their radius is finite.

    Raises:
        ValueError: If a name is unknown or a number is out of range.
    """
    _require(procedure, bound, probability_error)
    lower, upper = _bounds(procedure)
    p_a_upper = _less(upper(last.n_a, last.n, beta), probability_error)
    p_b_lower = _more(lower(last.n_b, last.n, beta), probability_error) if bound == "joint" else 1 - p_a_upper
    return min(p_a_upper, _CERTAIN), max(p_b_lower, 1 - _CERTAIN)


def _less(p: float, probability_error: float) -> float:
    return max(0.0, float(np.nextafter(p - probability_error, 0.0))) if probability_error else p


def _more(p: float, probability_error: float) -> float:
    return min(1.0, float(np.nextafter(p + probability_error, np.inf))) if probability_error else p


def _cached(bound: Callable[[int, int, float], NDArray[np.float64]]) -> Callable[[int, int, float], float]:
    # Most inputs are easy: their counts come again and again, and a cached bound costs a hundredth of a new one.
    return lru_cache(maxsize=2**16)(lambda k, n, level: float(bound(k, n, level)))


_FIXED = _cached(lower_confidence_bound), _cached(upper_confidence_bound)
_ANYTIME = _cached(lower_confidence_sequence), _cached(upper_confidence_sequence)


def _bounds(procedure: str) -> tuple[Callable[[int, int, float], float], Callable[[int, int, float], float]]:
    return _ANYTIME if procedure == "anytime" else _FIXED


def _require(procedure: str, bound: str, probability_error: float) -> None:
    if procedure not in PROCEDURES:
        raise ValueError(f"procedure must be one of {', '.join(PROCEDURES)}, got {procedure!r}.")
    if bound not in BOUNDS:
        raise ValueError(f"bound must be one of {', '.join(BOUNDS)}, got {bound!r}.")
    if not 0 <= probability_error < 1:  # written so that nan fails
        raise ValueError(f"probability_error must be in [0, 1), got {probability_error}.")


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What CERTIFY proved about one input.

    Attributes:
        predict: The class, or ``ABSTAIN``.
        radius: No perturbation of smaller l2 norm changes g's class; [0, 1] pixel units; 0.0 on abstention.
        selected: The class that was tried, from the selection samples.
        p_a_lower: Lower confidence bound on its probability.
        p_b_upper: Upper confidence bound on that of every other class.
        counts: int64, (K + 1,): estimation votes; the last entry counts logits that were not finite.
        procedure: How often the votes were looked at; see ``certify.statistics.certificate.PROCEDURES``.
        bound: How the runner-up was bounded; see ``certify.statistics.certificate.BOUNDS``.
        looks: The looks at the votes, all of them.
    """

    predict: int
    radius: float
    selected: int
    p_a_lower: float
    p_b_upper: float
    counts: NDArray[np.int64]
    procedure: str
    bound: str
    looks: tuple[Look, ...]

    @property
    def n(self) -> int:
        """Estimation samples."""
        return self.looks[-1].n

    @property
    def n_a(self) -> int:
        """Votes for the selected class among them."""
        return self.looks[-1].n_a


def look_at(counts_V: NDArray[np.int64], selected: int, level: float) -> Look:
    """A look at the votes (K + 1,); logits that were not finite are a rival like any class."""
    n_a = int(counts_V[selected])
    return Look(int(counts_V.sum()), n_a, int(np.delete(counts_V, selected).max()), level)


def certificate_of(
    looks: Sequence[Look],
    selected: int,
    counts_V: NDArray[np.int64],
    *,
    sigma: float,
    procedure: str,
    bound: str,
    probability_error: float,
) -> Certificate:
    """The certificate of a class fixed beforehand, from all looks at its votes; see ``limits``."""
    p_a_lower, p_b_upper = limits(looks, procedure=procedure, bound=bound, probability_error=probability_error)
    # At equal bounds the radius is 0, and an abstention says as much.
    return Certificate(
        predict=selected if p_a_lower > p_b_upper else ABSTAIN,
        radius=float(two_class_radius(p_a_lower, p_b_upper, sigma)),
        selected=selected,
        p_a_lower=p_a_lower,
        p_b_upper=p_b_upper,
        counts=counts_V,
        procedure=procedure,
        bound=bound,
        looks=tuple(looks),
    )


def require_sigma(sigma: float) -> None:
    """Refuse a sigma that is not positive, or that looks like 0-255 units.

    Raises:
        ValueError: With the fix.
    """
    require_positive_sigma(sigma)
    if sigma > 4:
        raise ValueError(
            f"sigma = {sigma:g} looks like 0-255 units; it is in [0, 1] pixel units: pass {sigma / 255:.4g} if so."
        )
