r"""Radii in other norms: what a certified l2 radius proves about changes that are measured in l1 or in linf.

For every vector v of d coordinates ||v||_2 <= ||v||_1 and ||v||_2 <= sqrt(d) ||v||_inf. So the l2 ball of radius r
holds the l1 ball of radius r and the linf ball of radius r / sqrt(d), and no larger one of either kind. A certificate
for the l2 ball therefore is one for both, without another sample and at the same alpha.

*How good that is.* In linf with d large this is near the best that isotropic Gaussian noise can do, and no other noise
of independent coordinates does much better: radii shrink like 1 / sqrt(d) (Blum et al. 2020; Kumar et al. 2020; Yang et
al. 2020). In l1 it is not near the best. Uniform noise, and noise that splits the range of a pixel, prove far more
(Yang et al. 2020; Levine and Feizi 2021).

References:
    Yang et al. (2020), Randomized smoothing of all shapes and sizes; Kumar et al. (2020), Curse of dimensionality on
    randomized smoothing for certifiable robustness; Blum et al. (2020), Random smoothing might be unable to certify
    l-infinity robustness for high-dimensional images; Levine and Feizi (2021), Improved, deterministic smoothing for
    l1 certified robustness.
"""

from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: The norms in which an l2 radius can be stated; the first is its own.
NORMS = ("l2", "l1", "linf")


def radius_in(radius: ArrayLike, norm: str, dimension: int | None = None) -> NDArray[np.float64]:
    """An l2 radius as a radius in another norm, never above the exact value.

    Args:
        radius: Certified l2 radii, float64, at least 0 and finite, any shape.
        norm: One of `NORMS`.
        dimension: Coordinates of an image, C * H * W; only linf needs it.

    Returns:
        float64, shape of ``radius``: the radius itself for l2 and l1, radius / sqrt(dimension) rounded down for linf.

    Raises:
        ValueError: If the norm is unknown, a radius is negative or not finite, or linf has no dimension of at least 1.
    """
    require_norm(norm)
    values = np.asarray(radius, dtype=np.float64)
    if not np.all((values >= 0) & np.isfinite(values)):  # written so that nan fails
        raise ValueError(f"radii must be finite and at least 0, got {radius!r}.")
    if norm != "linf":
        return values.copy()[()]
    if dimension is None or dimension < 1:
        raise ValueError(f"a radius in linf needs the number of coordinates of an image, at least 1; got {dimension}.")
    distinct, inverse = np.unique(values.ravel(), return_inverse=True)
    divided = np.array([_divided(float(value), dimension) for value in distinct], dtype=np.float64)
    return divided[inverse.ravel()].reshape(values.shape)[()]


def require_norm(norm: str) -> None:
    """Refuse a name that is not one of `NORMS`.

    Raises:
        ValueError: With the names.
    """
    if norm not in NORMS:
        raise ValueError(f"the norm must be one of {', '.join(NORMS)}, got {norm!r}.")


def _divided(radius: float, dimension: int) -> float:
    """The largest float near radius / sqrt(dimension) whose square times the dimension is at most radius^2, exactly."""
    found = float(np.nextafter(radius / np.sqrt(float(dimension)), np.inf))
    while Fraction(found) ** 2 * dimension > Fraction(radius) ** 2:
        found = float(np.nextafter(found, 0.0))
    return found
