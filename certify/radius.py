"""From a lower bound on the top class's probability to a certified l2 radius, rounded towards zero."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from certify.binomial import lower_confidence_bound, two_sided_p_value

#: The prediction that is none: the votes do not support any class at the chosen level.
ABSTAIN = -1

# Above the relative error of ndtri and of two products (together below 1e-15) by far, and below what anyone measures.
_RESERVE = 1 - 1e-12


def certified_radius(p_a_lower: ArrayLike, sigma: float) -> NDArray[np.float64]:
    r"""Radius of the l2 ball in which the smoothed classifier keeps its class: at most sigma * Phi^-1(p_a_lower).

    If f returns class A with probability at least ``p_a_lower`` > 1/2 under noise N(0, sigma^2 I), then no perturbation
    of l2 norm below the result changes the majority class. The computed value never exceeds the exact one.

    Args:
        p_a_lower: Lower confidence bound on the top class's probability, float64 in [0, 1), any shape.
        sigma: Standard deviation of the noise, pixel units of [0, 1] images, positive and finite.

    Returns:
        float64, shape of ``p_a_lower``, in units of ``sigma``; 0.0 where ``p_a_lower <= 1/2``: no certificate.

    Raises:
        ValueError: If ``sigma`` is not positive and finite, or ``p_a_lower`` is outside [0, 1) or in low precision.

    References:
        Cohen et al. (2019), theorem 1 with the runner-up bounded by 1 - p_a_lower.
    """
    p = np.asarray(p_a_lower)
    # float32(0.99999999) is 1, an infinite radius; float32(0.99993092) is already off in the sixth digit of the radius.
    if p.dtype in (np.float16, np.float32):
        raise ValueError(f"p_a_lower must be float64, got {p.dtype}: its rounding alone changes radii.")
    p = p.astype(np.float64)
    if not np.all((p >= 0) & (p < 1)):  # written so that nan fails
        raise ValueError(f"p_a_lower must be in [0, 1), got {p_a_lower!r}: probability 1 would be an infinite radius.")
    if not (sigma > 0 and math.isfinite(sigma)):
        raise ValueError(f"sigma must be positive and finite, got {sigma}.")
    # Phi^-1(p) = -Phi^-1(1 - p), and 1 - p is exact for p >= 1/2: the tail is where ndtri keeps its digits.
    quantile = -special.ndtri(np.minimum(1 - p, 0.5))
    radius = np.nextafter(quantile * sigma * _RESERVE, 0.0)
    return np.where(p > 0.5, radius, 0.0)[()]


def ceiling_radius(n: int, alpha: float, sigma: float) -> float:
    """Largest radius that ``n`` votes can certify: all of them for one class, about sigma * Phi^-1(alpha^(1/n)).

    Args:
        n: Estimation samples, at least 1.
        alpha: One-sided failure probability, in (0, 1).
        sigma: Standard deviation of the noise, positive and finite.

    Returns:
        The very float that `certified_radius` gives for n of n votes; 0.0 where so few votes cannot certify.

    Raises:
        ValueError: If an argument is out of range.
    """
    return float(certified_radius(lower_confidence_bound(n, n, alpha), sigma))


def min_samples_to_certify(alpha: float) -> int:
    """Fewest estimation samples whose unanimous vote certifies a positive radius; with fewer, everything abstains.

    Args:
        alpha: One-sided failure probability, in (0, 1).

    Returns:
        The smallest n with lower_confidence_bound(n, n, alpha) > 1/2, near log2(1/alpha): 10 at alpha = 0.001.

    Raises:
        ValueError: If ``alpha`` is outside (0, 1).
    """
    n = 1
    while lower_confidence_bound(n, n, alpha) <= 0.5:  # at most 1075 rounds: alpha >= 2^-1074
        n += 1
    return n


def min_samples_to_predict(alpha: float) -> int:
    """Fewest samples whose unanimous vote PREDICT returns; with fewer, it always abstains.

    Args:
        alpha: Failure probability, in (0, 1).

    Returns:
        The smallest n with two_sided_p_value(n, n) <= alpha, log2(2/alpha) rounded up: 11 at alpha = 0.001.

    Raises:
        ValueError: If ``alpha`` is outside (0, 1).
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}.")
    n = 1
    while two_sided_p_value(n, n) > alpha:
        n += 1
    return n
