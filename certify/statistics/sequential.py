r"""Rule GS: group-sequential Clopper-Pearson, looking at the votes several times for one alpha.

Before any sample is drawn, alpha is divided among the looks. At look j, with all n_j samples so far and the class fixed
beforehand, the bound is L_j = lower_confidence_bound(k_j, n_j, alpha_j). By the union bound

    P(L_j > p at any look) <= sum_j alpha_j <= alpha,

whatever the dependence between the looks, so the largest L_j so far is a bound after every look, and no rule for when
to stop can make it false. Looking nine times with the whole of alpha instead errs with probability of 5 to 7 alpha.

Most of alpha is kept for the last look, where the radii near the limit of n are decided. Having 70 % of it there costs
0.3 % of the largest radius.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from maxup_smoothing.certify.statistics.binomial import require_alpha
from maxup_smoothing.certify.statistics.rounding import rounded_down

#: Probability (beta) with which an input may be given up although more samples would have certified it. It is divided
#: equally among the looks: give up where the upper bound at beta / looks stays below what is to be shown. This is a
#: rule of cost, not of soundness: whatever beta is, it loses power but adds no false certificate.
FUTILITY = 0.05

_SHARE_OF_LAST = Fraction(7, 10)
_FIRST_LOOK = 200
# What the shares' own rounding to floats may add to their sum; `Schedule.levels` divides it out again.
_ROUNDING = Fraction(1, 10**12)


@dataclass(frozen=True)
class Schedule:
    """When to look at the votes, and how much of alpha each look may spend.

    Attributes:
        looks: Samples drawn up to each look, strictly increasing, at least 1.
        shares: Part of alpha spent at each look, positive; their sum is at most 1, up to the rounding of floats.

    Raises:
        ValueError: With the fix.
    """

    looks: tuple[int, ...]
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.looks or len(self.looks) != len(self.shares):
            raise ValueError(
                f"a schedule needs at least one look and one share for each, got {len(self.looks)} looks and "
                f"{len(self.shares)} shares."
            )
        if self.looks[0] < 1 or any(later <= earlier for earlier, later in itertools.pairwise(self.looks)):
            raise ValueError(f"looks must be at least 1 and strictly increasing, got {self.looks}; sort them.")
        if not all(0 < share <= 1 for share in self.shares):
            raise ValueError(f"shares must be in (0, 1], got {self.shares}; leave out a look that spends nothing.")
        if sum(map(Fraction, self.shares)) > 1 + _ROUNDING:
            raise ValueError(f"shares must sum to at most 1, got {math.fsum(self.shares):.6g}; divide them by that.")

    def levels(self, alpha: float) -> tuple[float, ...]:
        """Alpha of each look, rounded down: in exact arithmetic their sum is at most ``alpha``.

        Args:
            alpha: Failure probability of all looks together, in (0, 1).

        Returns:
            One positive float per look; ``alpha`` itself for a single look with share 1.

        Raises:
            ValueError: If ``alpha`` is outside (0, 1), or too small for its parts to be floats.
        """
        require_alpha(alpha)
        shares = [Fraction(share) for share in self.shares]
        unit = Fraction(alpha) / max(Fraction(1), sum(shares, Fraction(0)))
        levels = tuple(rounded_down(unit * share) for share in shares)
        if not min(levels) > 0:
            raise ValueError(f"alpha = {alpha} is too small to be divided among {len(levels)} looks; raise it.")
        return levels


def schedule(n: int, looks: Sequence[int] | None = None) -> Schedule:
    """Schedule that ends at ``n`` samples: 70 % of alpha for the last look, all of it if there is no other.

    Args:
        n: Most samples, at least 1.
        looks: When to look, strictly increasing, the last at ``n``; those before the last share 30 % of alpha equally.
            By default 200, 500, 1000, 2000, 5000, ... below ``n``, then ``n``; the looks from 10 000 on weigh 5, the
            earlier ones 3 in the division of the 30 %.

    Returns:
        The schedule; for n = 100 000, looks 200 to 100 000 with shares .03 (five times), .05 (three times), .70.

    Raises:
        ValueError: With the fix, if ``n`` or ``looks`` are not as described.
    """
    if n < 1:
        raise ValueError(f"n, the most samples, must be at least 1, got {n}.")
    if looks is not None and (not looks or looks[-1] != n):
        raise ValueError(f"the last look must be at n = {n}, got looks {list(looks)}; append {n} or change n.")
    early = list(_default_looks(n)) if looks is None else list(looks[:-1])
    if not early:
        return Schedule(looks=(n,), shares=(1.0,))
    weights = [Fraction(5 if looks is None and look >= 10_000 else 3) for look in early]
    unit = (1 - _SHARE_OF_LAST) / sum(weights, Fraction(0))
    shares = [*(weight * unit for weight in weights), _SHARE_OF_LAST]
    return Schedule(looks=(*early, n), shares=tuple(float(share) for share in shares))


def _default_looks(n: int) -> Iterator[int]:
    for exponent in itertools.count(2):
        for digit in (1, 2, 5):
            look = digit * 10**exponent
            if look >= n:
                return
            if look >= _FIRST_LOOK:
                yield look
