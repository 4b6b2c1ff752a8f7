"""CERTIFY and PREDICT of Cohen et al. (2019), from votes to answers; no network here, and no torch."""

# Shapes: K classes; V = K + 1 kinds of vote, the last for logits that were not finite.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.certify.statistics.looks import Look, limits
from maxup_smoothing.certify.statistics.radius import ABSTAIN, two_class_radius


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
        procedure: How often the votes were looked at; see ``certify.statistics.looks.PROCEDURES``.
        bound: How the runner-up was bounded; see ``certify.statistics.looks.BOUNDS``.
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


def certificate(
    selection_V: NDArray[np.int64],
    estimation_V: NDArray[np.int64],
    alpha: float,
    sigma: float,
    probability_error: float = 0.0,
    bound: str = "clopper-pearson",
) -> Certificate:
    """Cohen's CERTIFY from the votes of its two stages.

    The class is the most frequent of the selection samples. With probability at least 1 - alpha over the estimation
    samples the certificate is true or an abstention.

    Args:
        selection_V: int64, (K + 1,), votes of the n0 selection samples; the last entry (no class) cannot win.
        estimation_V: int64, (K + 1,), votes of n fresh samples.
        alpha: Failure probability, in (0, 1).
        sigma: Standard deviation of the noise, positive.
        probability_error: How far the law of the samples may be from N(0, sigma^2), in total variation; subtracted
            from the bound.
        bound: One of ``certify.statistics.looks.BOUNDS``.

    References:
        Cohen et al. (2019), section 3.2.2.
    """
    selected = int(selection_V[:-1].argmax())
    looks = [look_at(estimation_V, selected, alpha)]
    return certificate_of(
        looks, selected, estimation_V, sigma=sigma, procedure="fixed", bound=bound, probability_error=probability_error
    )


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
    """The certificate of a class fixed beforehand, from all looks at its votes; see ``statistics.looks.limits``."""
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
    if not (sigma > 0 and np.isfinite(sigma)):
        raise ValueError(f"sigma must be a positive number, got {sigma}.")
    if sigma > 4:
        raise ValueError(
            f"sigma = {sigma:g} looks like 0-255 units; it is in [0, 1] pixel units: pass {sigma / 255:.4g} if so."
        )


def require_alpha(alpha: float) -> None:
    """Refuse an alpha that is no probability.

    Raises:
        ValueError: With the fix.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}.")
