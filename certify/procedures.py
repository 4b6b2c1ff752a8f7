"""CERTIFY and PREDICT of Cohen et al. (2019), from votes to answers; no network here, and no torch."""

# Shapes: K classes; V = K + 1 kinds of vote, the last for logits that were not finite.

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certify.binomial import LARGEST_N, lower_confidence_bound, two_sided_p_value
from certify.radius import ABSTAIN, certified_radius, min_samples_to_certify, min_samples_to_predict


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What CERTIFY proved about one input.

    Attributes:
        predict: The class, or ``ABSTAIN``.
        radius: No perturbation of smaller l2 norm changes g's class; [0, 1] pixel units; 0.0 on abstention.
        p_a_lower: Lower confidence bound on the probability of the selected class.
        n_a: Votes for the selected class among the estimation samples.
        counts: int64, (K + 1,): estimation votes; the last entry counts logits that were not finite.
    """

    predict: int
    radius: float
    p_a_lower: float
    n_a: int
    counts: NDArray[np.int64]


def certificate(
    selection_V: NDArray[np.int64],
    estimation_V: NDArray[np.int64],
    alpha: float,
    sigma: float,
    probability_error: float = 0.0,
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

    References:
        Cohen et al. (2019), section 3.2.2.
    """
    selected = int(selection_V[:-1].argmax())
    n_a = int(estimation_V[selected])
    p_a_lower = float(lower_confidence_bound(n_a, int(estimation_V.sum()), alpha))
    if probability_error:
        p_a_lower = max(0.0, float(np.nextafter(p_a_lower - probability_error, 0.0)))
    radius = float(certified_radius(p_a_lower, sigma))
    certified = p_a_lower > 0.5  # at exactly 1/2 the radius is 0, and Cohen's "below 1/2 abstains" says nothing more
    return Certificate(
        predict=selected if certified else ABSTAIN, radius=radius, p_a_lower=p_a_lower, n_a=n_a, counts=estimation_V
    )


def prediction(votes_V: NDArray[np.int64], alpha: float) -> int:
    """Cohen's PREDICT from the votes of n samples: the most frequent class, or ``ABSTAIN``.

    A class other than g's is returned with probability at most alpha.

    Args:
        votes_V: int64, (K + 1,); the last entry counts logits that were not finite, and is a rival like any class.
        alpha: Failure probability, in (0, 1).

    References:
        Cohen et al. (2019), section 3.2.1; Hung and Fithian (2019).
    """
    order = votes_V.argsort(kind="stable")[::-1]
    first, second = int(votes_V[order[0]]), int(votes_V[order[1]])
    if order[0] == len(votes_V) - 1 or two_sided_p_value(first, first + second) > alpha:
        return ABSTAIN
    return int(order[0])


def require_certifiable(sigma: float, n0: int, n: int, alpha: float) -> None:
    """Refuse settings under which no input could ever be certified.

    Raises:
        ValueError: With the fix.
    """
    require_sigma(sigma)
    _require_alpha(alpha)
    if n0 < 1:
        raise ValueError(f"n0, the selection samples, must be at least 1, got {n0}.")
    _require_at_most(n)
    needed = min_samples_to_certify(alpha)
    if n < needed:
        raise ValueError(f"n = {n} samples cannot certify anything at alpha = {alpha:g}; at least {needed} are needed.")


def require_predictable(sigma: float, n: int, alpha: float) -> None:
    """Refuse settings under which PREDICT could only abstain.

    Raises:
        ValueError: With the fix.
    """
    require_sigma(sigma)
    _require_alpha(alpha)
    _require_at_most(n)
    needed = min_samples_to_predict(alpha)
    if n < needed:
        raise ValueError(
            f"with n = {n} samples PREDICT always abstains at alpha = {alpha:g}; at least {needed} are needed."
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


def _require_at_most(n: int) -> None:
    if n > LARGEST_N:
        raise ValueError(f"n = {n} is more than {LARGEST_N}, up to which the bound's accuracy was checked; lower it.")


def _require_alpha(alpha: float) -> None:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}.")
