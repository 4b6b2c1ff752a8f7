r"""Pairs of answers: from bounds on a certified classifier f to bounds on another one, f', that is deployed.

Both classify the same m noisy copies of an image. Let A be the class that was certified and zeta the probability, under
the noise, that f answers A and f' does not. Whatever f' answers elsewhere,

    P(f' = A) >= P(f = A and f' = A) = p_A - zeta.

Only the pairs that are *lost*, f = A and f' != A, count against the certificate; that f' may answer A where f does not
is no loss. For the joint bound every other class B needs an upper bound, too. P(f' = B) <= p_B + P(f' = B and f != B),
so lost are then all pairs that differ with f' != A. They contain both events, for every B at once, and one bound serves
both probabilities. Lost pairs are Binomial(m, zeta), of which the upper Clopper-Pearson bound is taken at a level of
its own. By the union bound both statements hold with probability 1 - (the levels of the votes) - (this level), whether
or not votes and pairs share their noise.

*The law of the noise.* It may differ from N(0, sigma^2) by the total variation that certification has taken off p_A.
Votes and pairs are drawn under one and the same law Q. Under Q the inequality above is exact, and its left side alone
is carried over from Q to N(0, sigma^2). So the total variation is taken off once, as it was, and not again for zeta.
This needs the same source of noise for both, which `certify.transfer.run` sees to.

References:
    Ugare et al. (2024), IRS: the same idea for classifiers that are approximations of each other.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.certify.statistics.anytime import complement
from maxup_smoothing.certify.statistics.binomial import LARGEST_N, upper_confidence_bound

#: The column of a radius table that holds them.
TRANSFER = "transfer"

_PAIRS = re.compile(r"([0-9]{1,10}):([0-9]{1,10}):([0-9]{1,10}):([0-9.]+(?:e-?[0-9]+)?)")


@dataclass(frozen=True)
class Pairs:
    """Answers of f and f' to the same noisy copies.

    Attributes:
        n: Pairs; 0 where the votes alone decided that nothing can be certified.
        differing: Those in which the answers differ.
        lost: Those that count against the certificate, see the module.
        level: Alpha spent on the bound on zeta.

    Raises:
        ValueError: If a part is larger than the whole, or the level no probability.
    """

    n: int
    differing: int
    lost: int
    level: float

    def __post_init__(self) -> None:
        if not 0 <= self.lost <= self.differing <= self.n <= LARGEST_N:
            raise ValueError(
                f"lost={self.lost} pairs must be a part of differing={self.differing}, these of n={self.n}, and n at "
                f"most {LARGEST_N}."
            )
        if not 0 < self.level < 1:  # written so that nan fails
            raise ValueError(f"the level of the pairs must lie between 0 and 1, got {self.level}.")

    @property
    def zeta_upper(self) -> float:
        """Upper confidence bound on the probability of a lost pair; 1.0 where there are no pairs."""
        return _upper(self.lost, self.n, self.level) if self.n else 1.0

    def carried(self, p_a_lower: float, p_b_upper: float, bound: str) -> tuple[float, float]:
        """Bounds on f', from those on f: ``(p_a_lower, p_b_upper)``, rounded outwards.

        Args:
            p_a_lower: Of the certified class under f, in [0, 1).
            p_b_upper: Of every other class under f, in (0, 1].
            bound: One of ``certify.statistics.certificate.BOUNDS``, for which pairs were counted as lost.
        """
        zeta = self.zeta_upper
        lower = max(0.0, float(np.nextafter(p_a_lower - zeta, -1.0)))
        upper = float(complement(lower))
        if bound == "joint":
            upper = min(upper, float(np.nextafter(p_b_upper + zeta, np.inf)))
        return lower, upper


def lost_pairs(
    certified_M: NDArray[np.int64], deployed_M: NDArray[np.int64], selected: int, bound: str
) -> tuple[int, int]:
    """Pairs that differ, and those of them that are lost.

    Args:
        certified_M: Answers of f to m noisy copies; logits that were not finite are an answer like any class.
        deployed_M: Those of f' to the same copies.
        selected: The class that was certified.
        bound: One of ``certify.statistics.certificate.BOUNDS``.
    """
    differing_M = certified_M != deployed_M
    of_votes_M = np.full_like(differing_M, True) if bound == "joint" else certified_M == selected
    return int(differing_M.sum()), int((differing_M & of_votes_M & (deployed_M != selected)).sum())


def format_pairs(pairs: Pairs) -> str:
    """``n:differing:lost:level``."""
    return f"{pairs.n}:{pairs.differing}:{pairs.lost}:{float(pairs.level)!r}"


def parse_pairs(text: str) -> Pairs:
    """The inverse of `format_pairs`.

    Raises:
        ValueError: With what was expected.
    """
    if match := _PAIRS.fullmatch(text):
        try:
            return Pairs(int(match[1]), int(match[2]), int(match[3]), float(match[4]))
        except ValueError:
            pass
    raise ValueError(f"expected pairs:differing:lost:level such as 10000:4:1:0.0005, got {text[:200]!r}.")


@lru_cache(maxsize=4096)  # most images have no lost pair
def _upper(lost: int, n: int, level: float) -> float:
    return float(upper_confidence_bound(lost, n, level))
