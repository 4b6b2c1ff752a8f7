"""The law that the noise handed to f must have: exact probabilities of its values, its moments and its tail."""

# Shapes: J values or bins, in ascending order.

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from maxup_smoothing.certify.noise.grid import BITS, LEVELS, noise_table

GREY = 128  # of the image that noise is added to: far from both ends of what sums are clipped to
_BINS, _REACH = 32, 9  # of normal noise: bins a deviation, and deviations until the last one

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Law:
    """The law of z, one coordinate of the noise in units of sigma.

    Attributes:
        codes: From z to whole numbers; those in [0, J) are possible values, or the bins that they lie in.
        probabilities: Of each code, shape (J,).
        moments: E z^k, k = 0 ... 8.
        tail: P(abs z >= size).
    """

    codes: Callable[[NDArray[np.float32]], NDArray[np.int64]]
    probabilities: Floats
    moments: tuple[float, ...]
    tail: Callable[[float], float]

    def variance(self, power: int) -> float:
        """Of z^power, for powers up to 4."""
        return self.moments[2 * power] - self.moments[power] ** 2


def exact_law(sigma: float) -> Law:
    """Of ``certify.noise.exact``: round(255 e) of e ~ N(0, sigma^2), clipped as the sum with a grey image is."""
    table = noise_table(sigma)
    thresholds = np.concatenate([[0], table.thresholds, [2**BITS]]).astype(np.uint64)
    integers = np.arange(len(table.thresholds) + 1) + table.lowest
    clipped = integers.clip(-table.clip - GREY, LEVELS + table.clip - GREY)
    first = int(clipped[0])
    # Differences of whole numbers: the smallest probability keeps its digits.
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
    """Of ``certify.noise.floating``: N(0, 1), up to the rounding of float32."""
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
