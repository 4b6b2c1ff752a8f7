"""The difference of two certified-accuracy curves over the same images, with bands that hold at a radius and at all.

Whoever reads a difference off a curve picks the radius after looking. So a wider band, which covers the whole curve at
once, stands beside the interval at each radius.
"""

# Shapes: R radii, N images, T resamples.

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from maxup_smoothing.analysis.comparison.networks import checked_pair
from maxup_smoothing.analysis.comparison.significance import LEVEL, paired_interval
from maxup_smoothing.certify.tables.summary import contributions

_RESAMPLES = 2000
_AT_ONCE = 100  # resamples in a piece: 10,000 images with as many radii take some 50 MB


@dataclass(frozen=True)
class DifferenceCurve:
    """Certified accuracy of A minus that of B, in [-1, 1], as an exact step function; all arrays (R,).

    ``radius`` are 0 and all radii at which one of the two curves steps; the value at ``radius[i]`` holds from just
    above ``radius[i-1]`` up to it, so these are all radii there are. ``low`` and ``high`` bound the difference at each
    radius by itself (95 %), ``band_low`` and ``band_high`` at all of them at once (95 %, approximate).
    """

    radius: NDArray[np.float64]
    difference: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    band_low: NDArray[np.float64]
    band_high: NDArray[np.float64]


def difference_curve(
    a: pd.DataFrame, b: pd.DataFrame, *, seed: int = 0, different_sigma: bool = False
) -> DifferenceCurve:
    """The difference curve from 0 to the largest certified radius, without a grid.

    The band is the difference plus or minus a common multiple of its standard error at each radius: the 95 % quantile,
    over 2,000 resamples of the images, of the largest deviation in standard errors. The standard error has half an
    image added to each cell of discordant images, as in the pointwise interval, so it does not vanish.

    Args:
        a: Rows as `certify.tables.radius_table.read` returns them.
        b: The table that it is held against.
        seed: Of the resamples: the same band each time.
        different_sigma: Compare also models under different noise.

    Raises:
        ValueError: If the tables cannot be compared, see `comparison.networks.checked_pair`, or nothing is certified.

    References:
        Agresti and Min (2005) for the interval. The band: Efron and Tibshirani (1993), section 16, applied to the
        largest of many studentised differences.
    """
    a, b = checked_pair(a, b, different_sigma=different_sigma)
    # Of wrong and abstained images, -1: certified at no radius, not even at 0.
    reach_a, reach_b = (np.where(one["correct"].to_numpy() == 1, contributions(one), -1.0) for one in (a, b))
    radius_R = np.unique(np.concatenate([[0.0], reach_a, reach_b]))
    radius_R = radius_R[radius_R >= 0]
    if radius_R[-1] == 0:
        raise ValueError("neither table certifies an image, so there is no curve to draw.")
    images = len(reach_a)
    only_a_R, only_b_R = _alone(reach_a, reach_b, radius_R), _alone(reach_b, reach_a, radius_R)
    difference_R = (only_a_R - only_b_R) / images
    pairs, place_R = np.unique(np.stack([only_a_R, only_b_R], axis=1), axis=0, return_inverse=True)
    limits = np.array([paired_interval(int(x), int(y), images) for x, y in pairs])
    low_R, high_R = limits[place_R.ravel()].T
    share_R = (only_a_R + only_b_R + 1) / (images + 2)
    error_R = np.sqrt((share_R - ((only_a_R - only_b_R) / (images + 2)) ** 2) / (images + 2))
    deviations = _largest_deviations(reach_a, reach_b, radius_R, difference_R, error_R, seed)
    reach = float(np.quantile(deviations, 1 - LEVEL))
    return DifferenceCurve(
        radius_R,
        difference_R,
        low_R,
        high_R,
        # The interval at one radius lies within the band of all, also where their approximations differ.
        np.minimum(low_R, np.maximum(difference_R - reach * error_R, -1)),
        np.maximum(high_R, np.minimum(difference_R + reach * error_R, 1)),
    )


def _alone(own: NDArray[np.float64], other: NDArray[np.float64], radius_R: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many images one table certifies at each radius where the other does not, (R,)."""
    # Image i counts at the radii in (other_i, own_i].
    ahead = own > other
    certified = np.sort(own[ahead]), np.sort(other[ahead])
    at_least, both = (ahead.sum() - np.searchsorted(one, radius_R, side="left") for one in certified)
    return np.asarray(at_least - both, dtype=np.int64)


def _largest_deviations(
    reach_a: NDArray[np.float64],
    reach_b: NDArray[np.float64],
    radius_R: NDArray[np.float64],
    difference_R: NDArray[np.float64],
    error_R: NDArray[np.float64],
    seed: int,
) -> NDArray[np.float64]:
    """Largest deviation of resampled differences from the observed ones, in standard errors, (T,)."""
    rng, images = np.random.default_rng(seed), len(reach_a)
    # In the order of falling radii, the weights of the images certified at a radius are the first so many.
    sides = []
    for reach in (reach_a, reach_b):
        order = np.argsort(-reach, kind="stable")
        sides.append((order, images - np.searchsorted(reach[order[::-1]], radius_R, side="left")))
    found = []
    for start in range(0, _RESAMPLES, _AT_ONCE):
        size = min(_AT_ONCE, _RESAMPLES - start)
        weight_TN = rng.multinomial(images, np.full(images, 1 / images), size=size)
        certified_a, certified_b = (_first(weight_TN[:, order])[:, count_R] for order, count_R in sides)
        resampled_TR = (certified_a - certified_b) / images
        found.append((np.abs(resampled_TR - difference_R) / error_R).max(1))
    return np.concatenate(found)


def _first(weight_TN: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sums of the first 0, 1, … N weights, (T, N + 1)."""
    return np.pad(np.cumsum(weight_TN, axis=1), ((0, 0), (1, 0)))
