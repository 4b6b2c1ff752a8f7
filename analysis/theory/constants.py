r"""Moments of the largest of m independent standard normal numbers, to 1e-12, and two approximations of its mean.

.. math:: E[M_m^p] = \int z^p \, m \, \varphi(z) \, \Phi(z)^{m-1} \, dz

The constant on trial is the one that training uses, ``train.objectives.gradient_penalty.expected_maximum``. What is
here is the yardstick: good to 1e-12 for every m up to 10^6, and with the second moment that the curvature term needs.

References:
    David and Nagaraja (2003), Order Statistics, chapters 3 and 4; Blom (1958), Statistical estimates and transformed
    beta-variables.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.special import log_ndtr, ndtri

LARGEST_M = 10**6
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(40)  # for pieces of length 1


@cache
def moment(m: int, power: int) -> float:
    """E[M_m^power], to 1e-12.

    Args:
        m: How many numbers, in [1, 10^6].
        power: 1 for c_m, 2 for the second moment.

    Raises:
        ValueError: If m or the power is outside its range.
    """
    if not 1 <= m <= LARGEST_M:
        raise ValueError(f"m must lie in [1, {LARGEST_M}], got {m}.")
    if power not in (1, 2):
        raise ValueError(f"power must be 1 or 2, got {power}.")

    # Around the median, where the mass is; beyond 12 of it lies less than 1e-24.
    edges = float(ndtri(0.5 ** (1 / m))) + np.arange(-12.0, 13.0)
    z = edges[:-1, None] + (_NODES + 1) / 2
    # In logarithms: a cdf close to 1 has lost the digits that its millionth power needs.
    density = np.exp(math.log(m) - z**2 / 2 - math.log(2 * math.pi) / 2 + (m - 1) * log_ndtr(z))
    return math.fsum((z**power * density * _WEIGHTS / 2).ravel())


def root_log(m: int) -> float:
    """Sqrt(2 log m): the leading term of c_m for m to infinity, and 62 % too large at m = 4."""
    return math.sqrt(2 * math.log(m))


def blom(m: int) -> float:
    """Blom's approximation of c_m, the normal quantile of (m - 3/8) / (m + 1/4)."""
    return float(ndtri((m - 0.375) / (m + 0.25)))


@dataclass(frozen=True, kw_only=True)
class Moments:
    """A line of the table of constants: c_m, E[M_m²], the variance of M_m, and both approximations of c_m."""

    m: int
    mean: float
    second: float
    variance: float
    root_log: float
    blom: float


def table(ms: Sequence[int]) -> list[Moments]:
    """The constants of each m, in the order given."""
    return [
        Moments(
            m=m,
            mean=moment(m, 1),
            second=moment(m, 2),
            variance=moment(m, 2) - moment(m, 1) ** 2,
            root_log=root_log(m),
            blom=blom(m),
        )
        for m in ms
    ]
