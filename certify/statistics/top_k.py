r"""Top-k certificates: the l2 radius within which a class stays among the first k of the smoothed classifier.

*Theorem (Jia et al. 2020, theorem 1).* Let l be a class with P(f(x + noise) = l) >= p, noise N(0, sigma^2 I), and let
q_1 >= ... >= q_k bound the probabilities of the k most probable other classes, in this order. For t = 1, ..., k let
s_t be the sum of the t smallest of them, or 1 - p if that is less. Let R be the largest of the R_t with

    Phi(Phi^-1(p) - R_t / sigma) = Phi(Phi^-1(s_t) + R_t / sigma) / t.

Then l is among the first k classes of g at x + delta for ||delta||_2 < R, however ties are broken. For k = 1 this is
the radius of `two_class_radius`.

*Proof.* Let k classes other than l be given, and let S be the t of them that are least probable at x. The j-th least
probable of any k classes is at most as probable as that of the k most probable ones, so P(f in S) <= s_t at x. By the
lemma of Neyman and Pearson, at x + delta the class l has probability at least Phi(Phi^-1(p) - ||delta|| / sigma), and S
at most Phi(Phi^-1(s_t) + ||delta|| / sigma). The least probable class of S has at most a t-th of that. For
||delta|| < R_t it is less probable than l. So among any k other classes one is less probable than l, which means that
fewer than k are at least as probable.

*Bounds from votes.* Jia et al. bound the probabilities of all classes at once. Only k + 1 of the bounds are needed, so
alpha is divided by k + 1 whatever the number of classes. Let F be the k most probable other classes: a fixed set. With
probability at least 1 - alpha the lower bound of l and the upper bounds of all classes in F hold, each at
alpha / (k + 1). Then the upper bound of the j-th largest count c_j among the others is at least the j-th largest
probability: the j most probable classes have counts of which the least is at most c_j, and the upper bound rises with
the count. For k = 1 this is the bound ``joint`` of `certify.statistics.certificate`.

The class l has to be fixed before the votes are drawn: a label is, and so is the class that selection samples chose.

References:
    Jia, Cao, Wang and Gong (2020), Certified robustness for top-k predictions against adversarial perturbations via
    randomized smoothing; Voracek (2024), appendix B, for the argument about the largest count.
"""

# Shapes: N rows; K the k of top-k.

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from maxup_smoothing.certify.statistics.anytime import complement, lower_confidence_sequence, upper_confidence_sequence
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound, upper_confidence_bound
from maxup_smoothing.certify.statistics.radius import two_class_radius

#: The column of a recomputed radius table that holds them.
TOP_K = "top_k"

_CLAIM = re.compile(r"([0-9]{1,9}):([0-9]{1,18}):([0-9.]+(?:e-?[0-9]+)?)")
# ndtri and log_ndtr are right to some 1e-15. A radius is taken only where the inequality holds with this much room, and
# the room of the arguments is that of differences of quantiles, relative to the quantiles and not to the difference.
_ROOM, _ARGUMENT_ROOM, _RESERVE = 1e-12, 1e-13, 1 - 1e-12
_STEPS = 64  # of the bisection: 80 / 2^64 is below a float's last digit


@dataclass(frozen=True)
class TopK:
    """A class stays among the first ``k`` of the smoothed classifier within ``radius``; 0.0 claims nothing."""

    k: int
    label: int
    radius: float


def format_top_k(claim: TopK) -> str:
    """``k:class:radius``."""
    return f"{claim.k}:{claim.label}:{float(claim.radius)!r}"


def parse_top_k(text: str) -> TopK:
    """The inverse of `format_top_k`.

    Raises:
        ValueError: With what was expected.
    """
    if (match := _CLAIM.fullmatch(text)) and int(match[1]) > 0:
        try:
            radius = float(match[3])
        except ValueError:
            radius = math.inf
        if math.isfinite(radius):
            return TopK(int(match[1]), int(match[2]), radius)
    raise ValueError(f"expected k:class:radius such as 3:7:0.8125, got {text[:200]!r}.")


def rivals(counts: Mapping[int, int], own: int, k: int) -> list[int]:
    """The k largest numbers of votes for others than ``own``, from the largest on, with zeros where there are fewer."""
    others = sorted((count for kind, count in counts.items() if kind != own), reverse=True)[:k]
    return others + [0] * (k - len(others))


def top_k_limits(
    own_N: ArrayLike,
    others_NK: ArrayLike,
    n_N: ArrayLike,
    level_N: ArrayLike,
    *,
    anytime: bool = False,
    probability_error_N: ArrayLike = 0.0,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds on the probabilities of a class and of its k most probable rivals, all right with 1 - level together.

    Args:
        own_N: Votes for the class, integers.
        others_NK: The k largest numbers of votes for other classes, from the largest on, 0 where there are no more;
            logits that were not finite are a class like any other.
        n_N: All votes.
        level_N: Failure probability of the bounds together, in (0, 1). For a procedure that looks several times it is
            the level of this look, of which those of all looks sum to alpha; for ``anytime`` it is alpha.
        anytime: Whether the votes may be looked at any time, as with the procedure of that name.
        probability_error_N: How far the law of the samples may be from N(0, sigma^2), in total variation.

    Returns:
        float64: lower bounds (N,) in [0, 1) and upper bounds (N, K) in (0, 1].

    Raises:
        ValueError: If a number is out of range or there is no other class.
    """
    own_N, others_NK, n_N = np.asarray(own_N), np.asarray(others_NK), np.asarray(n_N)
    if others_NK.ndim != 2 or others_NK.shape[1] < 1:
        raise ValueError(f"votes of at least one rival are needed, got shape {others_NK.shape}.")
    level_N = np.broadcast_to(np.asarray(level_N, dtype=np.float64), own_N.shape)
    each_N = np.nextafter(level_N / (others_NK.shape[1] + 1), 0.0)
    if not np.all(each_N > 0):
        raise ValueError(f"alpha is too small to be divided among {others_NK.shape[1] + 1} bounds; raise it.")
    error_N = np.broadcast_to(np.asarray(probability_error_N, dtype=np.float64), own_N.shape)
    if not np.all((error_N >= 0) & (error_N < 1)):
        raise ValueError(f"probability_error must be in [0, 1), got {probability_error_N!r}.")
    lower = lower_confidence_sequence if anytime else lower_confidence_bound
    upper = upper_confidence_sequence if anytime else upper_confidence_bound
    p_N = np.asarray(lower(own_N, n_N, each_N), dtype=np.float64)
    shape = others_NK.shape
    q_NK = np.asarray(
        upper(others_NK, np.broadcast_to(n_N[:, None], shape), np.broadcast_to(each_N[:, None], shape)),
        dtype=np.float64,
    )
    wide_N = error_N > 0
    p_N = np.where(wide_N, np.maximum(np.nextafter(p_N - error_N, -1.0), 0.0), p_N)
    q_NK = np.where(wide_N[:, None], np.minimum(np.nextafter(q_NK + error_N[:, None], 2.0), 1.0), q_NK)
    return p_N, q_NK


def top_k_radius(p_lower: ArrayLike, q_upper: ArrayLike, sigma: float) -> NDArray[np.float64]:
    """Radius within which a class stays among the first k, from bounds; never above the exact one.

    Args:
        p_lower: Lower bounds on the probability of the class, (N,) or a number, float64 in [0, 1).
        q_upper: Upper bounds on those of its k most probable rivals, the most probable first, (N, k) or (k,), float64
            in (0, 1].
        sigma: Standard deviation of the noise, pixel units of [0, 1] images, positive and finite.

    Returns:
        float64, (N,) or a number, in units of ``sigma``; 0.0 where nothing is proved.

    Raises:
        ValueError: If a number is out of range.
    """
    p_N = np.atleast_1d(np.asarray(p_lower, dtype=np.float64))
    q_NK = np.asarray(q_upper, dtype=np.float64).reshape(len(p_N), -1)
    if not (np.all((p_N >= 0) & (p_N < 1)) and np.all((q_NK > 0) & (q_NK <= 1)) and q_NK.shape[1]):
        raise ValueError(f"p_lower must be in [0, 1) and q_upper in (0, 1], got {p_lower!r} and {q_upper!r}.")
    left_N = complement(p_N)
    sum_N, best_N = np.zeros(len(p_N)), np.zeros(len(p_N))
    for t in range(1, q_NK.shape[1] + 1):
        sum_N = q_NK[:, -1] if t == 1 else np.nextafter(sum_N + q_NK[:, -t], np.inf)
        s_N = np.minimum(sum_N, left_N)
        found_N = two_class_radius(p_N, s_N, sigma) if t == 1 else _solved(p_N, s_N, t, sigma)
        best_N = np.maximum(best_N, found_N)
    return best_N if np.ndim(p_lower) else best_N[0]


def top_k_holds(p_lower: float, q_upper: ArrayLike, sigma: float, radius: float) -> bool:
    """Whether bounds prove a radius of `top_k_radius`, up to rounding; cheaper than to compute the largest."""
    sums = np.cumsum(np.asarray(q_upper, dtype=np.float64).ravel()[::-1])
    s_K = np.minimum(sums, complement(p_lower))
    t_K, u = np.arange(1, len(s_K) + 1), radius / sigma
    with np.errstate(invalid="ignore", divide="ignore"):
        mine = special.log_ndtr(_quantile(np.asarray(p_lower)) - u) + np.log(t_K)
        theirs = special.log_ndtr(_quantile(s_K) + u)
    return bool(np.any((s_K < 1) & (mine - theirs >= -1e-9 * (1 + abs(mine) + abs(theirs)))))


def _solved(p_N: NDArray[np.float64], s_N: NDArray[np.float64], t: int, sigma: float) -> NDArray[np.float64]:
    """R_t of the theorem, rounded down, by bisection of the inequality with room for all errors."""
    some_N = (p_N > 0) & (s_N < 1)  # s_N is 1 where p_N is nothing beside 1
    z_p, z_s = _quantile(np.where(some_N, p_N, 0.5)), _quantile(np.where(some_N, s_N, 0.5))

    def holds(u: NDArray[np.float64]) -> NDArray[np.bool_]:
        room = _ARGUMENT_ROOM * (1 + abs(z_p) + abs(z_s) + u)
        mine, theirs = special.log_ndtr(z_p - u - room), special.log_ndtr(z_s + u + room)
        return some_N & (mine + math.log(t) - theirs > _ROOM * (1 + abs(mine) + abs(theirs)))

    low, high = np.zeros(len(p_N)), abs(z_p) + abs(z_s) + 40
    certified = holds(low)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        holding = holds(middle)
        low, high = np.where(holding, middle, low), np.where(holding, high, middle)
    return np.where(certified, np.maximum(np.nextafter(low * sigma * _RESERVE, -1.0), 0.0), 0.0)


def _quantile(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Phi^-1 from the tail that is exact: 1 - p is for p >= 1/2."""
    return np.where(p > 0.5, -special.ndtri(np.minimum(1 - p, 0.5)), special.ndtri(np.minimum(p, 0.5)))
