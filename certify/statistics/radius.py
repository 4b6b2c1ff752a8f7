"""From a lower bound on the top class's probability to a certified l2 radius, rounded towards zero."""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from maxup_smoothing.certify.statistics.binomial import (
    lower_confidence_bound,
    require_alpha,
    two_sided_p_value,
)

#: The prediction that is none: the votes do not support any class at the chosen level.
ABSTAIN = -1

# Above the relative error of ndtri and of two products (together below 1e-15) by far, and below what anyone measures.
_RESERVE = 1 - 1e-12


def is_right(predict: int, label: int) -> bool:
    """Whether a prediction is the label: never for images without one (label -1), nor for an abstention."""
    return predict == label and predict != ABSTAIN


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
    p = _float64("p_a_lower", p_a_lower)
    if not np.all((p >= 0) & (p < 1)):  # written so that nan fails
        raise ValueError(f"p_a_lower must be in [0, 1), got {p_a_lower!r}: probability 1 would be an infinite radius.")
    require_positive_sigma(sigma)
    # Phi^-1(p) = -Phi^-1(1 - p), and 1 - p is exact for p >= 1/2: the tail is where ndtri keeps its digits.
    quantile = -special.ndtri(np.minimum(1 - p, 0.5))
    radius = np.nextafter(quantile * sigma * _RESERVE, 0.0)
    return np.where(p > 0.5, radius, 0.0)[()]


def two_class_radius(p_a_lower: ArrayLike, p_b_upper: ArrayLike, sigma: float) -> NDArray[np.float64]:
    r"""Radius from bounds on both classes: at most sigma/2 (Phi^-1(p_a_lower) - Phi^-1(p_b_upper)).

    Let f return class A with probability at least ``p_a_lower`` and every other class with at most ``p_b_upper`` under
    noise N(0, sigma^2 I). Then no perturbation of l2 norm below the result changes the most probable class, even where
    A has no majority. The computed value never exceeds the exact one.

    Args:
        p_a_lower: Lower confidence bound on the top class's probability, float64 in [0, 1), any shape.
        p_b_upper: Upper confidence bound on the runner-up's, float64 in (0, 1], broadcast against ``p_a_lower``.
        sigma: Standard deviation of the noise, pixel units of [0, 1] images, positive and finite.

    Returns:
        float64 of the common shape, in units of ``sigma``; 0.0 where ``p_a_lower <= p_b_upper``: no certificate.
        Where ``p_b_upper`` is 1 - p_a_lower it is the very float of `certified_radius`.

    Raises:
        ValueError: If ``sigma`` is not positive and finite, or a probability is out of range or in low precision.

    References:
        Cohen et al. (2019), theorem 1.
    """
    p_a, p_b = _float64("p_a_lower", p_a_lower), _float64("p_b_upper", p_b_upper)
    if not (np.all((p_a >= 0) & (p_a < 1)) and np.all((p_b > 0) & (p_b <= 1))):  # written so that nan fails
        raise ValueError(
            f"p_a_lower must be in [0, 1) and p_b_upper in (0, 1], got {p_a_lower!r} and {p_b_upper!r}: probability 1 "
            "of one class or 0 of the other would be an infinite radius."
        )
    require_positive_sigma(sigma)
    certified = p_a > p_b
    z_a, z_b = _quantile(np.where(certified, p_a, 0.5)), _quantile(np.where(certified, p_b, 0.5))
    # Quantiles of one sign cancel, and their errors do not shrink with the difference: one relative to it is too small.
    cancelled = np.where(z_a * z_b > 0, np.minimum(abs(z_a), abs(z_b)), 0.0)
    quantile = np.maximum((z_a - z_b) / 2 - cancelled * (1 - _RESERVE), 0.0)
    return np.nextafter(quantile * sigma * _RESERVE, 0.0)[()]


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


def min_samples_to_predict(alpha: float) -> int:
    """Fewest samples whose unanimous vote PREDICT returns; with fewer, it always abstains.

    Args:
        alpha: Failure probability, in (0, 1).

    Returns:
        The smallest n with two_sided_p_value(n, n) <= alpha, log2(2/alpha) rounded up: 11 at alpha = 0.001.

    Raises:
        ValueError: If ``alpha`` is outside (0, 1).
    """
    require_alpha(alpha)
    n = 1
    while two_sided_p_value(n, n) > alpha:
        n += 1
    return n


def _quantile(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """Phi^-1 of p in (0, 1), from the tail that is exact: 1 - p is for p >= 1/2."""
    return np.where(p > 0.5, -special.ndtri(np.minimum(1 - p, 0.5)), special.ndtri(np.minimum(p, 0.5)))


def _float64(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values)
    # float32(0.99999999) is 1, an infinite radius; float32(0.99993092) is already off in the sixth digit of the radius.
    if array.dtype in (np.float16, np.float32):
        raise ValueError(f"{name} must be float64, got {array.dtype}: its rounding alone changes radii.")
    return array.astype(np.float64)


# Above twice the relative error of a computed quantile, by which certified_radius may step back as p rises.
_STEP_BACK = 1 + 1e-14


@lru_cache(maxsize=4096)
def probability_at(radius: float, sigma: float) -> float:
    """Probability of the top class that certifies ``radius``: at least Phi(radius / sigma), rounded up.

    It is above the exact value by what `certified_radius` holds back, about 1e-12 of the quantile. So every p from the
    result on has certified_radius(p, sigma) >= radius, and what is counted at a radius is also printed so.

    Args:
        radius: [0, 1] pixel units, not negative; 0 asks for any certificate, as p > 1/2 does.
        sigma: Standard deviation of the noise, positive and finite.

    Returns:
        In (1/2, 1]; 1.0, which no bound reaches, where no float below 1 suffices: from about 8.2 sigma on.

    Raises:
        ValueError: If an argument is out of range.
    """
    if not (radius >= 0 and math.isfinite(radius)):
        raise ValueError(f"radius must be finite and not negative, got {radius}.")
    # The floats from 1/2 to 1 are 1/2 + j 2^-53.
    steps = 1 + bisect(
        0, 2**52 - 1, lambda j: bool(certified_radius(0.5 + (j + 1) * 2.0**-53, sigma) >= radius * _STEP_BACK)
    )
    return 0.5 + steps * 2.0**-53


def bisect(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The smallest of low, ..., high - 1 from which ``holds`` is true; ``high`` if it is nowhere."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def require_positive_sigma(sigma: float) -> None:
    """Refuse a standard deviation that is not positive and finite.

    Raises:
        ValueError: With what came.
    """
    if not (sigma > 0 and math.isfinite(sigma)):
        raise ValueError(f"sigma must be positive and finite, got {sigma}.")
