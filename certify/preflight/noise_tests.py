"""The law of the noise, and tests of drawn noise against it: values, moments, tail, repeated rows, correlations.

Each test gives a p-value: the probability of a deviation at least as large as the one seen, if the law is right.
"""

# Shapes: R samples of D coordinates, in units of sigma; V = R * D values; J values or bins of a law, ascending.

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy import special, stats

from maxup_smoothing.certify.noise.grid import BITS, LEVELS, noise_table

GREY = 128  # pixel value of the image that noise is added to: far from both limits at which sums are clipped
_BINS, _REACH = 32, 9  # for normal noise: bins per standard deviation, and standard deviations that they reach

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Law:
    """The law of z, one coordinate of the noise in units of sigma.

    Attributes:
        codes: Maps z to whole numbers. Those in [0, J) number the possible values, or bins of values.
        probabilities: Probability of each code, shape (J,).
        moments: The moments E z^k for k = 0 ... 8.
        tail: The function P(abs z >= size) of a size.
    """

    codes: Callable[[NDArray[np.float32]], NDArray[np.int64]]
    probabilities: Floats
    moments: tuple[float, ...]
    tail: Callable[[float], float]

    def variance(self, power: int) -> float:
        """The variance of z^power, for powers up to 4."""
        return self.moments[2 * power] - self.moments[power] ** 2


def exact_law(sigma: float) -> Law:
    """The law of ``certify.noise.exact``: round(255 e) with e ~ N(0, sigma^2), clipped as its sum with a grey image."""
    table = noise_table(sigma)
    thresholds = np.concatenate([[0], table.thresholds, [2**BITS]]).astype(np.uint64)
    integers = np.arange(len(table.thresholds) + 1) + table.lowest
    clipped = integers.clip(-table.clip - GREY, LEVELS + table.clip - GREY)
    first = int(clipped[0])
    # Differences of whole numbers, so that the smallest probabilities keep all their digits.
    probabilities = np.bincount(clipped - first, weights=np.diff(thresholds) / 2.0**BITS).astype(np.float64)
    values = (np.arange(len(probabilities)) + first) / (LEVELS * sigma)

    def codes(z: NDArray[np.float32]) -> NDArray[np.int64]:
        scaled = z.astype(np.float64) * (LEVELS * sigma)
        whole = np.rint(scaled)
        return np.where(np.abs(scaled - whole) < 0.01, whole - first, -1).astype(np.int64)  # -1 is off the grid

    return Law(
        codes=codes,
        probabilities=probabilities,
        moments=tuple(float((probabilities * values**power).sum()) for power in range(9)),
        tail=lambda size: float(probabilities[np.abs(values) >= size].sum()),
    )


def normal_law() -> Law:
    """The law of ``certify.noise.floating``: N(0, 1), up to the rounding of float32."""
    edges = np.arange(-_REACH * _BINS, _REACH * _BINS + 1) / _BINS
    tails = special.ndtr(-np.abs(edges))
    inner = np.where(edges[1:] <= 0, np.diff(tails), -np.diff(tails))
    probabilities = np.concatenate([[tails[0]], inner, [tails[-1]]])

    def codes(z: NDArray[np.float32]) -> NDArray[np.int64]:
        found = np.floor(z.astype(np.float64) * _BINS) + _REACH * _BINS + 1
        return np.nan_to_num(found.clip(0, len(probabilities) - 1), nan=-1).astype(np.int64)

    return Law(
        codes=codes,
        probabilities=probabilities,
        moments=(1.0, 0.0, 1.0, 0.0, 3.0, 0.0, 15.0, 0.0, 105.0),
        tail=lambda size: float(2 * special.ndtr(-size)),
    )


#: Probability of a false alarm of all tests together: a test fails if its p-value is below this over their number.
ALARM = 1e-6
#: Fewest values: with fewer, the normal approximations are too rough at such small p-values.
LEAST = 100_000
_FEWEST = 10  # smallest expected count in a cell of the chi-square test
_CORRELATED = 2**22  # largest number of values whose correlations are computed


@dataclass(frozen=True)
class Outcome:
    """One test: its name, its p-value, and what it saw."""

    name: str
    p_value: float
    seen: str


def outcomes(z_RD: NDArray[np.float32], streams_R: NDArray[np.int64], law: Law) -> list[Outcome]:
    """Run all tests on drawn noise.

    Args:
        z_RD: Noise in units of sigma, at least ``LEAST`` values, with the samples in the order of drawing.
        streams_R: A number for each sample that stands for its input, stage and seed.
        law: The law that each coordinate must have, independently of all others.
    """
    finite = bool(np.isfinite(z_RD).all())
    if not finite:
        return [Outcome("finite", 0.0, f"{int((~np.isfinite(z_RD)).sum())} values are not finite")]
    return [
        _values(z_RD, law),
        *_moments(z_RD, law),
        *_largest(z_RD, law),
        _duplicates(z_RD, streams_R, law),
        _correlations("correlation", z_RD, law, 1),
        _correlations("correlation of squares", z_RD, law, 2),
        *_margins(z_RD, law),
    ]


def failed(found: list[Outcome]) -> list[Outcome]:
    """The failed tests. Correct noise fails any of them with a probability of at most ``ALARM``."""
    return [outcome for outcome in found if not outcome.p_value >= ALARM / len(found)]


def _values(z_RD: NDArray[np.float32], law: Law) -> Outcome:
    """Chi-square test of the values; neighbouring values share a cell if few are expected."""
    codes = law.codes(z_RD.ravel())
    possible = (codes >= 0) & (codes < len(law.probabilities))
    if not possible.all():
        return Outcome("values", 0.0, f"{int((~possible).sum())} of {codes.size} values cannot occur in such noise")
    counts = np.bincount(codes, minlength=len(law.probabilities))
    expected = law.probabilities * codes.size
    cells = np.minimum(np.floor(np.cumsum(expected) / _FEWEST), np.floor((codes.size - _FEWEST) / _FEWEST))
    _, cell = np.unique(cells, return_inverse=True)
    seen, wanted = np.bincount(cell, weights=counts), np.bincount(cell, weights=expected)
    wanted *= codes.size / wanted.sum()
    statistic = float(((seen - wanted) ** 2 / wanted).sum())
    p_value = float(special.chdtrc(len(seen) - 1, statistic)) if len(seen) > 1 else 1.0
    return Outcome("values", p_value, f"chi-square {statistic:.0f} in {len(seen)} cells")


def _moments(z_RD: NDArray[np.float32], law: Law) -> list[Outcome]:
    sums = np.zeros(4)
    for z_D in np.array_split(z_RD.ravel(), max(1, z_RD.size // 2**18)):
        power = z = z_D.astype(np.float64)
        for number in range(4):
            sums[number] += power.sum()
            power = power * z
    means = sums / z_RD.size
    found = []
    for number, name in enumerate(("mean", "variance", "skewness", "kurtosis"), start=1):
        deviation = (means[number - 1] - law.moments[number]) / np.sqrt(law.variance(number) / z_RD.size)
        seen = f"mean of z^{number} {means[number - 1]:.5f}, {law.moments[number]:.5f} expected"
        found.append(Outcome(name, _two_sided(float(deviation)), seen))
    return found


def _largest(z_RD: NDArray[np.float32], law: Law) -> list[Outcome]:
    """Exact tests of the largest value: P(largest <= size) = (1 - P(abs z > size))^V, by logarithms as V is large."""
    size = float(np.abs(z_RD).max())
    at_least, more = law.tail(size * (1 - 1e-5)), law.tail(size * (1 + 1e-5))
    seen = f"the largest of {z_RD.size} is {size:.3f} sigma"
    return [
        Outcome("tail cut off", float(np.exp(z_RD.size * np.log1p(-more))), seen),
        Outcome("tail too long", float(-np.expm1(z_RD.size * np.log1p(-min(at_least, 1 - 1e-16)))), seen),
    ]


def _duplicates(z_RD: NDArray[np.float32], streams_R: NDArray[np.int64], law: Law) -> Outcome:
    """Test for equal samples; by Markov's inequality P(at least k equal pairs) <= (expected number of them) / k."""
    rows = np.ascontiguousarray(z_RD).view(np.dtype((np.void, z_RD.shape[1] * 4))).ravel()
    hashes = np.array([hash(row.tobytes()) for row in rows])
    order = np.argsort(hashes, kind="stable")
    same = np.flatnonzero(np.diff(hashes[order]) == 0)
    if not len(same):
        return Outcome("duplicates", 1.0, "no sample occurs twice")
    apart = streams_R[order[same]] != streams_R[order[same + 1]]
    shown = same[int(apart.argmax())]  # a pair of different streams, if there is one
    first, second = order[shown], order[shown + 1]
    equal = len(same)  # equal neighbours in the sorted order: at most the number of equal pairs
    pairs = len(rows) * (len(rows) - 1) / 2
    expected = pairs * float((law.probabilities**2).sum()) ** z_RD.shape[1]
    where = "of one stream" if streams_R[first] == streams_R[second] else "of different inputs, stages or seeds"
    seen = f"{equal} of {len(rows)} samples repeat an earlier one, such as {first} and {second}, {where}"
    return Outcome("duplicates", min(1.0, expected / equal), seen)


def _correlations(name: str, z_RD: NDArray[np.float32], law: Law, power: int) -> Outcome:
    """Test the largest correlation between values at any distance in the order of drawing.

    Distance 1 is the next pixel, and D the same pixel of the next sample. Larger ones reach other streams.
    """
    flat = z_RD.ravel()[: scipy.fft.prev_fast_len(min(z_RD.size, _CORRELATED), real=True)]
    centred = flat**power - np.float32(law.moments[power])
    spectrum = scipy.fft.rfft(centred)
    products = scipy.fft.irfft(spectrum.real**2 + spectrum.imag**2, n=len(flat))
    half = products[1 : (len(flat) + 1) // 2]  # the correlation is circular, so the other half is the same
    distance = int(np.abs(half).argmax())
    correlation = float(half[distance]) / (len(flat) * law.variance(power))
    p_value = min(1.0, len(half) * _two_sided(correlation * np.sqrt(len(flat))))
    return Outcome(name, p_value, f"{correlation:+.4f} at a distance of {distance + 1}, the largest of {len(half)}")


def _margins(z_RD: NDArray[np.float32], law: Law) -> list[Outcome]:
    """Test whether some pixels, or some samples, have noise of another mean or size than the others."""
    found = []
    for axis, which in ((0, "pixels"), (1, "samples")):
        number = z_RD.shape[axis]
        for power, what in ((1, "mean"), (2, "size")):
            sums = (z_RD.astype(np.float64) ** power - law.moments[power]).sum(axis=axis)
            squares = sums**2 / (number * law.variance(power))  # each has mean 1
            # Each has variance 2 + the excess kurtosis of its sum; a scaled chi-square law has this mean and variance.
            factor = (2 + _excess(law, power) / number) / 2
            p_value = float(special.chdtrc(len(squares) / factor, float(squares.sum()) / factor))
            low = float(special.chdtr(len(squares) / factor, float(squares.sum()) / factor))
            seen = f"{squares.mean():.4f} times the variance expected of {len(squares)} {which}' {what}"
            found.append(Outcome(f"{what} by {which}", min(1.0, 2 * min(p_value, low)), seen))
    return found


def _excess(law: Law, power: int) -> float:
    """Excess kurtosis of z^power, for powers 1 and 2."""
    mean, moments = law.moments[power], [law.moments[power * k] for k in range(5)]
    fourth = moments[4] - 4 * mean * moments[3] + 6 * mean**2 * moments[2] - 3 * mean**4
    return fourth / law.variance(power) ** 2 - 3


def _two_sided(deviation: float) -> float:
    return float(2 * stats.norm.sf(abs(deviation)))
