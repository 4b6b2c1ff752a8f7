r"""The discretised Gaussian on the grid of 8-bit images, as a table of 63-bit thresholds.

Take an image x of whole numbers 0 ... 255 and e ~ N(0, sigma^2). Then round(255 (x / 255 + e)) = x + N, where
N = round(255 e) is a whole number with P(N <= j) = Phi((j + 1/2) / (255 sigma)). Consider a classifier that rounds and
clips its input before anything else. Given x + N, it sees exactly Gaussian noise, and the theorem holds for it.

With u uniform on 0 ... 2^63 - 1, N = #{j: T_j <= u} - M has P(N <= j) = T_j / 2^63, where T_j is
2^63 Phi((j + 1/2) / (255 sigma)), rounded to the nearest integer. `NoiseTable.total_variation` bounds its error.

Sums are clipped to [-K, 255 + K] with K = ceil(6 * 255 sigma). Values of N beyond +-(255 + K) therefore give the same
sums as the ends, and the table, j = -M ... M - 1 with M = 255 + K, joins them without any error.
"""

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.certify.noise.philox import uniforms

_T = TypeVar("_T", bound=np.generic)

LEVELS = 255
BITS = 63
#: Range of sigma. Below it nearly all samples equal the image; above it sigma was probably given in 0-255 units.
SMALLEST_SIGMA, LARGEST_SIGMA = 0.001, 4.0
_PRECISION = 192  # bits after the point
_INVERSE_SQRT_2PI = Fraction("0.398942280401432677939946059934381868475858631164934657665925829670657925899302")
_LARGEST_Z_SQUARED = Fraction(87)  # Phi(-sqrt(87)) < 2^-66, whose threshold is 0
# Entries are off by at most 1/2 + 2^-50 units of 2^-63: see `_threshold`.
_ENTRY_ERROR = Fraction(1, 2) + Fraction(1, 2**50)


@dataclass(frozen=True, eq=False)
class NoiseTable:
    """The law of N for one sigma.

    Attributes:
        thresholds: The T_j, uint64, ascending. Those of 0 or 2^63 are left out: no u lies below 0 or reaches 2^63.
        lowest: The value of N for a u below all thresholds.
        clip: The number K; sums are clipped to [-K, 255 + K].
    """

    thresholds: NDArray[np.uint64]
    lowest: int
    clip: int

    @cached_property
    def values(self) -> NDArray[np.float32]:
        """Network inputs, indexed by (number of thresholds up to u) + pixel: the clipped sum / 255, correctly rounded.

        All versions look the input up here. It is thus a function of the sum alone, and has the same bits in each.
        """
        sums = np.arange(len(self.thresholds) + LEVELS + 1) + self.lowest
        return _frozen(sums.clip(-self.clip, LEVELS + self.clip).astype(np.float32) / np.float32(LEVELS))

    def total_variation(self, dimension: int) -> float:
        """A bound on the difference of any event's probability between d sampled and d exact coordinates.

        The law of one coordinate differs by half the sum of |P'(N = j) - P(N = j)|. That is at most the sum of the
        errors of all thresholds, including those rounded to 0 and 2^63. For d coordinates it is at most d times that.
        """
        thresholds = 2 * (LEVELS + self.clip)
        return math.nextafter(float(dimension * thresholds * _ENTRY_ERROR / 2**BITS), math.inf)

    def integers(
        self, seed: int, input_id: int, stage: int, start: int, stop: int, dimension: int
    ) -> NDArray[np.int64]:
        """N as it is defined: int64, (stop - start, dimension). The fast versions are tested against it."""
        u = uniforms(seed, input_id, stage, start, stop, dimension)
        return np.searchsorted(self.thresholds, u, side="right").astype(np.int64) + self.lowest


@lru_cache(maxsize=32)
def noise_table(sigma: float) -> NoiseTable:
    """The table for a sigma. The shortest decimal of the float is meant: 0.12 is 3/25, not the nearest binary fraction.

    Args:
        sigma: Standard deviation in [0, 1] pixel units, from 0.001 to 4.

    Raises:
        ValueError: If ``sigma`` is out of range.
    """
    if not SMALLEST_SIGMA <= sigma <= LARGEST_SIGMA:
        raise ValueError(
            f"sigma must be in [{SMALLEST_SIGMA}, {LARGEST_SIGMA:g}] for exact noise, in units of [0, 1] pixels, "
            f"got {sigma}."
        )
    spread = LEVELS * Fraction(repr(float(sigma)))
    clip = math.ceil(6 * spread)
    upper = [_threshold((j + Fraction(1, 2)) / spread) for j in range(LEVELS + clip)]
    # T_(-j-1) = 2^63 - T_j, because Phi(-z) = 1 - Phi(z).
    full = np.array([2**BITS - t for t in reversed(upper)] + upper, dtype=np.uint64)
    possible = (full > 0) & (full < 2**BITS)
    lowest = int((full == 0).sum()) - LEVELS - clip
    return NoiseTable(_frozen(full[possible]), lowest, clip)


def _threshold(z: Fraction) -> int:
    r"""2^63 Phi(z), rounded to the nearest integer, for z >= 0.

    Phi(z) = 1/2 + z / sqrt(2 pi) * sum_k (-q)^k / (k! (2k + 1)), q = z^2 / 2, summed in integers scaled by 2^192.
    Rounding a term down makes an error below 1 unit, which the later factors q / i turn into at most q^k / k!. Over all
    terms (fewer than 300) and all their roundings this is below 300 e^q < 2^72 units for q <= 43.5. The rest of the
    series is below its first omitted term, which is less than one unit. So the sum is off by less than 2^-119, and the
    threshold before rounding is off by less than 2^63 * 10 * 2^-119 < 2^-50.
    """
    if z * z > _LARGEST_Z_SQUARED:
        return 2**BITS
    q = z * z / 2
    term, total, k = 1 << _PRECISION, 0, 0
    while term:
        total += -(term // (2 * k + 1)) if k % 2 else term // (2 * k + 1)
        k += 1
        term = term * q.numerator // (q.denominator * k)
    phi = Fraction(1, 2) + z * _INVERSE_SQRT_2PI * Fraction(total, 1 << _PRECISION)
    return math.floor(phi * 2**BITS + Fraction(1, 2))


def _frozen(array: NDArray[_T]) -> NDArray[_T]:
    array.flags.writeable = False  # the cache shares it among all callers
    return array
