r"""The samples that a procedure will take, and the probability that it certifies a radius, before it runs.

Where a procedure stops does not depend on the order of the votes between two looks. So the law of the count goes
exactly from look to look: a convolution with the binomial law of the new votes, without the counts that stop. What
stops is not modelled but taken from the rule itself, `Sampling.enough`, as integer thresholds of the count at each look
and radius. The state is the count and how many of the radii earlier looks have proved, since those remain proved.

Where the bound is ``joint`` the votes for the runner-up matter, too; all other votes are then taken for its own.
"""

# Shapes: J looks, R radii that are decided, W counts that are not negligible; I inputs, Z nodes and C cells of an
# integral.

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy  # its parts are loaded when first used: scipy.signal and scipy.stats take a second
from numpy.typing import ArrayLike, NDArray

from maxup_smoothing.certify.statistics.anytime import lower_confidence_sequence, upper_confidence_sequence
from maxup_smoothing.certify.statistics.binomial import LARGEST_N, lower_confidence_bound, upper_confidence_bound
from maxup_smoothing.certify.statistics.certificate import Look
from maxup_smoothing.certify.statistics.procedure import Sampling
from maxup_smoothing.certify.statistics.radius import (
    bisect,
    ceiling_radius,
    certified_radius,
    probability_at,
    two_class_radius,
)

# Counts further from their mean than so many deviations (and votes) have probability below 1e-13, and are left out.
_DEVIATIONS, _VOTES, _NEGLIGIBLE = 7.5, 40, 1e-16
# Of the integral over p, as z = Phi^-1(p): everywhere, and around the z of each radius.
_NODES, _DISTANCES = np.linspace(-3, 5, 41), 0.001 * 2.0 ** np.arange(8)
_TEETH = 24  # steps of the power that are searched below the first found


@dataclass(frozen=True)
class Region:
    """What a count means at one look.

    Attributes:
        n: Samples so far.
        certify: For each radius, ascending, the fewest votes that prove it; n + 1 if none do.
        give_up: For each radius the most votes with which it is given up, -1 if none do; not used at the last look.
    """

    n: int
    certify: NDArray[np.int64]
    give_up: NDArray[np.int64]


@dataclass(frozen=True)
class Expectation:
    """What a procedure does with an input, on average over its votes.

    Attributes:
        samples: Mean number of estimation samples; those of the selection come on top.
        deviation: Its standard deviation.
        certified: Probability that each radius, ascending, is certified.
    """

    samples: float
    deviation: float
    certified: tuple[float, ...]


@lru_cache(maxsize=64)
def regions(sampling: Sampling, error: float = 0.0) -> tuple[Region, ...]:
    """The rule `Sampling.enough` as thresholds of the count, exactly, one region for each look.

    Args:
        sampling: The procedure, without a tolerance.
        error: See ``certify.statistics.certificate.limits``.

    Raises:
        ValueError: If the procedure stops by a tolerance, for which the state would be the radius itself.
    """
    if sampling.tolerance is not None:
        raise ValueError("samples can be predicted for radii to decide, not for a tolerance; leave the tolerance out.")
    radii = decided(sampling)
    n_J1 = np.array([[n] for n, _ in sampling.schedule])
    level_J1 = np.array([[level] for _, level in sampling.schedule])
    proved_JR = _guess(n_J1, radii, lambda k: _bounds_radius(sampling, k, n_J1, level_J1, error))
    plausible_JR = _guess(
        n_J1, radii, lambda k: _bounds_radius(sampling, k, n_J1, sampling.beta, error, plausible=True)
    )
    result = []
    for row, (n, level) in enumerate(sampling.schedule):

        def proves(k: int, radius: float, n: int = n, level: float = level) -> bool:
            return (proved := sampling.proved([Look(n, k, n - k, level)], error)) > 0 and proved >= radius

        def hopes(k: int, radius: float, n: int = n, level: float = level) -> bool:
            return (plausible := sampling.plausible(Look(n, k, n - k, level), error)) > 0 and plausible >= radius

        certify = [_first(proves, radius, n, guess) for radius, guess in zip(radii, proved_JR[row], strict=True)]
        hope = [_first(hopes, radius, n, guess) for radius, guess in zip(radii, plausible_JR[row], strict=True)]
        result.append(Region(n, np.array(certify), np.array(hope) - 1))
    return tuple(result)


def decided(sampling: Sampling) -> tuple[float, ...]:
    """The radii that ``sampling`` decides, ascending, each once."""
    return tuple(sorted(set(sampling.to_decide)))


@lru_cache(maxsize=2**14)
def expectation(sampling: Sampling, p: float, error: float = 0.0) -> Expectation:
    """Exact mean of the samples, and probability of each certificate, up to what floating point neglects.

    Args:
        sampling: The procedure, without a tolerance.
        p: Probability of the selected class under noise, in [0, 1].
        error: See ``certify.statistics.certificate.limits``.

    Raises:
        ValueError: If ``p`` is not a probability, or the procedure stops by a tolerance.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"p must be in [0, 1], got {p}.")
    radii = len(decided(sampling))
    alive_RW, first, drawn, samples, squares = np.eye(radii, 1), 0, 0, 0.0, 0.0
    ended = np.zeros(radii + 1)  # by the number of radii proved
    for region in regions(sampling, error):
        new = region.n - drawn
        samples += new * float(alive_RW.sum())
        squares += (region.n**2 - drawn**2) * float(alive_RW.sum())
        reach = math.ceil(_DEVIATIONS * math.sqrt(new * p * (1 - p))) + _VOTES
        low, high = max(0, math.floor(new * p) - reach), min(new, math.ceil(new * p) + reach)
        law_1W = scipy.stats.binom.pmf(np.arange(low, high + 1), new, p)[None]
        # The Fourier transform leaves noise below zero.
        alive_RW = np.maximum(scipy.signal.convolve(alive_RW, law_1W), 0)
        first, drawn = first + low, region.n
        count_W = first + np.arange(alive_RW.shape[1])
        proved_W = np.searchsorted(region.certify, count_W, side="right")
        moved_RW = np.zeros((radii + 1, len(count_W)))
        for before, law_W in enumerate(alive_RW):
            moved_RW[np.maximum(before, proved_W), np.arange(len(count_W))] += law_W
        ended[-1] += moved_RW[-1].sum()
        alive_RW = moved_RW[:-1]
        if drawn < sampling.most:
            stop_RW = count_W <= region.give_up[:, None]
            ended[:-1] += (alive_RW * stop_RW).sum(axis=1)
            alive_RW = alive_RW * ~stop_RW
        kept = np.flatnonzero(alive_RW.max(axis=0) > _NEGLIGIBLE)
        if len(kept) == 0:
            break
        alive_RW, first = alive_RW[:, kept[0] : kept[-1] + 1], first + int(kept[0])
    else:
        ended[:-1] += alive_RW.sum(axis=1)
    deviation = math.sqrt(max(0.0, squares - samples**2))
    return Expectation(samples, deviation, tuple(float(ended[index + 1 :].sum()) for index in range(radii)))


def samples_after_votes(sampling: Sampling, n_a: ArrayLike, n: ArrayLike, error: float = 0.0) -> NDArray[np.float64]:
    """Samples to expect for inputs of which some votes are known: means over the Jeffreys posteriors of their p.

    Near the p that just certifies a radius they go as one over the squared distance. Nodes of the integral double that
    distance, and between two the geometric mean of the ends is the mean of such a function exactly.

    Args:
        sampling: The procedure, without a tolerance.
        n_a: Votes for the selected class, in [0, n], shape (I,).
        n: Votes of each input, one number or shape (I,). When they were stopped may depend on themselves: the
            likelihood of p is the same.
        error: See ``certify.statistics.certificate.limits``.

    Returns:
        Mean number of estimation samples, shape (I,).
    """
    votes_I2 = np.stack(np.broadcast_arrays(n_a, n), axis=1)
    if sampling.procedure == "fixed":
        return np.full(len(votes_I2), float(sampling.most))
    # Of a million inputs most share their votes with another one.
    votes_I2, inverse = np.unique(votes_I2, axis=0, return_inverse=True)
    k_I1, n_I1 = votes_I2[:, :1], votes_I2[:, 1:]
    around = np.concatenate([-_DISTANCES, [0.0], _DISTANCES])
    z_Z = np.unique(np.concatenate([_NODES, *(radius / sampling.sigma + around for radius in decided(sampling))]))
    below_IZ = scipy.special.betainc(k_I1 + 0.5, n_I1 - k_I1 + 0.5, scipy.special.ndtr(z_Z))
    mass_IC = np.diff(below_IZ, prepend=0, append=1)  # Z + 1 cells, the outer ones with a node at one end only
    needed_C = mass_IC.max(axis=0) > 1e-5
    samples_Z = np.ones(len(z_Z))
    for index in np.flatnonzero(needed_C[:-1] | needed_C[1:]):
        samples_Z[index] = expectation(sampling, float(scipy.special.ndtr(z_Z[index])), error).samples
    ends = np.concatenate([samples_Z[:1], samples_Z]), np.concatenate([samples_Z, samples_Z[-1:]])
    mean_C = np.where(needed_C, np.sqrt(ends[0] * ends[1]), 0.0)
    mean_I: NDArray[np.float64] = mass_IC @ mean_C / mass_IC[:, needed_C].sum(axis=1)
    return mean_I[inverse.ravel()]


def unanimous_n(radius: float, sampling: Sampling) -> int | None:
    """Smallest `Sampling.n` whose unanimous vote certifies ``radius``.

    Args:
        radius: Not negative; 0 asks for any certificate.
        sampling: Everything but n, radii and looks.

    Returns None if not even 1e9 samples suffice.
    """

    def reaches(n: int) -> bool:
        if sampling.procedure == "fixed" and sampling.bound != "joint":
            return (ceiling := ceiling_radius(n, sampling.alpha, sampling.sigma)) > 0 and ceiling >= radius
        try:
            return dataclasses.replace(sampling, n=n, radii=None, looks=None).ceiling >= radius
        except ValueError:  # so few samples certify nothing
            return False

    n = bisect(1, LARGEST_N + 1, reaches)
    return None if n > LARGEST_N else n


def n_for_power(radius: float, true_radius: float, *, alpha: float, sigma: float, wanted: float = 0.99) -> int | None:
    """Samples, looked at once, that certify ``radius`` with probability ``wanted``.

    A few votes may be lost; how many rises with n in steps, and the power falls between two of them: more samples can
    have less power. The result is the fewest with the power wanted, right at a step.

    Args:
        radius: The radius to certify.
        true_radius: Of the input, more than ``radius``.
        alpha: Failure probability, in (0, 1).
        sigma: Standard deviation of the noise.
        wanted: The power, in (0, 1).

    Returns:
        n, in [1, 1e9]; None if not even 1e9 samples suffice.

    Raises:
        ValueError: If ``true_radius`` is not above ``radius``.
    """
    if not true_radius > radius:
        raise ValueError(f"true_radius must be more than radius = {radius}, got {true_radius}.")
    p0, q = probability_at(radius, sigma), float(scipy.special.ndtr(-true_radius / sigma))

    def at_step(lost: int) -> int:
        return bisect(lost + 1, LARGEST_N + 1, lambda n: bool(lower_confidence_bound(n - lost, n, alpha) >= p0))

    def suffices(lost: int) -> bool:
        n = at_step(lost)
        return n > LARGEST_N or bool(scipy.stats.binom.cdf(lost, n, q) >= wanted)

    lost = bisect(0, LARGEST_N, suffices)
    # The power at the steps rises but for the rounding of n to integers.
    n = next(at_step(fewer) for fewer in range(max(0, lost - _TEETH), lost + 1) if suffices(fewer))
    return None if n > LARGEST_N else n


def _bounds_radius(
    sampling: Sampling,
    k_JR: NDArray[np.int64],
    n_J1: NDArray[np.int64],
    level: NDArray[np.float64] | float,
    error: float,
    plausible: bool = False,
) -> NDArray[np.float64]:
    """The radius proved, or plausible, for many counts at once; a guess up to its last digits."""
    anytime = sampling.procedure == "anytime"
    lower = lower_confidence_sequence if anytime else lower_confidence_bound
    upper = upper_confidence_sequence if anytime else upper_confidence_bound
    joint = sampling.bound == "joint"
    n_JR = np.broadcast_to(n_J1, k_JR.shape)
    if plausible:
        p_a = upper(k_JR, n_JR, level) - error
        p_b = lower(n_JR - k_JR, n_JR, level) + error if joint else 1 - p_a
    else:
        p_a = lower(k_JR, n_JR, level / (2 if joint else 1)) - error
        p_b = np.minimum(1 - p_a, upper(n_JR - k_JR, n_JR, level / 2) + error) if joint else 1 - p_a
    p_a, p_b = np.clip(p_a, 0, 1 - 2.0**-53), np.clip(p_b, 2.0**-53, 1)
    return two_class_radius(p_a, p_b, sampling.sigma) if joint else certified_radius(p_a, sampling.sigma)


def _guess(
    n_J1: NDArray[np.int64], radii: Sequence[float], radius: Callable[[NDArray[np.int64]], NDArray[np.float64]]
) -> NDArray[np.int64]:
    """The first counts (J, R) whose radius is positive and reaches each of ``radii``, by bisection of all at once."""
    low = np.zeros((len(n_J1), len(radii)), dtype=np.int64)
    high = low + n_J1 + 1
    while np.any(low < high):
        middle = np.minimum((low + high) // 2, n_J1)
        reached = radius(middle)
        holds = (reached > 0) & (reached >= np.asarray(radii)) | (low >= high)
        low, high = np.where(holds, low, middle + 1), np.where(holds, np.minimum(middle, high), high)
    return high


def _first(holds: Callable[[int, float], bool], radius: float, n: int, guess: int) -> int:
    """The first count in 0, ..., n from which ``holds`` is true, n + 1 if nowhere, near a good guess."""
    k = int(guess)
    while k > 0 and holds(k - 1, radius):
        k -= 1
    while k <= n and not holds(k, radius):
        k += 1
    return k
