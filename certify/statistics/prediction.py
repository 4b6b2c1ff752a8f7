r"""PREDICT: the class of the smoothed classifier g from votes, with a fixed number of samples or as few as it takes.

Rule of one look (Cohen et al. 2019, section 3.2.1). Let A be the class with most votes n_A, and n_B the most votes of
any other. Return A if the two-sided binomial p-value of n_A among n_A + n_B at probability 1/2 is at most alpha, else
abstain. Although A is chosen from the same votes, the probability of returning a class that is not the most probable
one is at most alpha: this is what Hung and Fithian (2019) prove for the winner of a multinomial sample.

Rule of several looks. Numbers of samples n_1 < n_2 < … and levels alpha_1, alpha_2, … with a sum of at most alpha are
fixed before the first sample. At look j the rule above is applied to all n_j samples at level alpha_j, and the first
look that does not abstain gives the answer. If that answer is wrong, the rule erred at some look, so

    P(wrong answer) <= sum_j P(the rule errs at look j) <= sum_j alpha_j <= alpha,

whatever the dependence between the looks.
"""

# Shapes: V = K + 1 kinds of vote, the last for logits that were not finite.

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.certify.statistics.binomial import LARGEST_N, require_alpha, two_sided_p_value
from maxup_smoothing.certify.statistics.certificate import require_sigma
from maxup_smoothing.certify.statistics.radius import ABSTAIN, min_samples_to_predict
from maxup_smoothing.certify.statistics.sequential import Schedule

PROCEDURES = ("fixed", "sequential")

# Shares of alpha: of the first look, at which unanimous votes decide; of the last, so that little power is lost against
# one look at n; and of all looks between them. Each look has 7/5 of the samples of the one before.
_FIRST, _BETWEEN, _LAST = 0.15, 0.35, 0.5


@dataclass(frozen=True, kw_only=True)
class PredictionSettings:
    """How PREDICT samples, before the noise is known.

    Attributes:
        n: Samples for each input; at most, if ``sequential``.
        alpha: Probability, at most, of a class that is not the smoothed classifier's.
        procedure: "fixed" or "sequential".
    """

    n: int
    alpha: float
    procedure: str = "fixed"

    def at(self, sigma: float) -> "PredictionSampling":
        """These settings for a noise.

        Raises:
            ValueError: If one of them is out of range, or n samples always abstain.
        """
        return PredictionSampling(sigma=sigma, n=self.n, alpha=self.alpha, procedure=self.procedure)


@dataclass(frozen=True, kw_only=True)
class PredictionSampling(PredictionSettings):
    """How PREDICT samples, and the noise.

    Attributes:
        sigma: Standard deviation of the noise in [0, 1] pixel units.

    Raises:
        ValueError: If a setting is out of range, or n samples always abstain.
    """

    sigma: float

    def __post_init__(self) -> None:
        """Check every setting."""
        require_sigma(self.sigma)
        require_alpha(self.alpha)
        if self.procedure not in PROCEDURES:
            raise ValueError(f"procedure must be one of {', '.join(PROCEDURES)}, got {self.procedure!r}.")
        if self.n > LARGEST_N:
            raise ValueError(
                f"n = {self.n} is more than {LARGEST_N}, up to which the bound's accuracy was checked; lower it."
            )
        needed = min_samples_to_predict(self.alpha)
        if self.n < needed:
            raise ValueError(
                f"with n = {self.n} samples PREDICT always abstains at alpha = {self.alpha:g}; at least {needed} are "
                "needed."
            )

    @cached_property
    def schedule(self) -> tuple[tuple[int, float], ...]:
        """Numbers of samples at which the votes are looked at, and the level of each look."""
        if self.procedure == "fixed":
            return ((self.n, self.alpha),)
        plan = schedule(self.n, self.alpha)
        return tuple(zip(plan.looks, plan.levels(self.alpha), strict=True))

    @property
    def expected(self) -> int:
        """Samples of an input on average, roughly."""
        return self.n if self.procedure == "fixed" else min(self.n, 100)

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        settings = {"procedure": "predict", "sigma": self.sigma, "n": self.n, "alpha": self.alpha}
        if self.procedure == "sequential":
            settings |= {"procedure": "predict-sequential", "looks": [list(look) for look in self.schedule]}
        return settings


def prediction(votes_V: NDArray[np.int64], alpha: float) -> int:
    """The most frequent class of n samples, or ``ABSTAIN``: one look of the rule at the top of this module.

    Args:
        votes_V: int64, (K + 1,); the last entry counts logits that were not finite, and is a rival like any class.
        alpha: Probability, at most, of a class that is not g's, in (0, 1).
    """
    order = votes_V.argsort(kind="stable")[::-1]
    first, second = int(votes_V[order[0]]), int(votes_V[order[1]])
    if order[0] == len(votes_V) - 1 or two_sided_p_value(first, first + second) > alpha:
        return ABSTAIN
    return int(order[0])


def schedule(n: int, alpha: float) -> Schedule:
    """Looks from the fewest samples that can decide to ``n``, and their shares of alpha.

    At alpha = 0.001 and n = 1000 there are 14 looks, the first at 14 samples. They take 14 samples on average if the
    class has all votes, 22 if it has 0.95 of them and one other class the rest, and 57 at 0.8.

    Args:
        n: Most samples, at least as many as one look at ``alpha`` needs.
        alpha: Probability of a wrong answer over all looks, in (0, 1).
    """
    looks = [min_samples_to_predict(_FIRST * alpha)]
    while looks[-1] * 7 // 5 < 0.85 * n:
        looks.append(looks[-1] * 7 // 5)
    if looks[0] >= n:
        return Schedule(looks=(n,), shares=(1.0,))
    between = len(looks) - 1
    first = _FIRST if between else 1 - _LAST
    return Schedule(looks=(*looks, n), shares=(first, *[_BETWEEN / between] * between, _LAST))
