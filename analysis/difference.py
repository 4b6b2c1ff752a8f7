"""The difference of two certified-accuracy curves over the same images, with bands that hold at a radius and at all.

Reading a difference off a curve picks the radius after looking, so beside the interval at each radius by itself stands
a wider band, which covers the whole curve at once.
"""

# Shapes: R radii, N images, T resamples.

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from analysis.compare import checked_pair, contributions
from analysis.figures import COLOURS, GREY, new_axes, plain
from analysis.pairs import LEVEL, paired_interval

_RESAMPLES = 2000
_AT_ONCE = 250  # resamples in a piece: their weights take 20 MB for 10,000 images


@dataclass(frozen=True)
class DifferenceCurve:
    """Certified accuracy of A minus that of B at radii on a grid, in [-1, 1]; all arrays (R,).

    ``low`` and ``high`` bound it at each radius by itself (95 %), ``band_low`` and ``band_high`` on the whole grid at
    once (95 %, approximate).
    """

    radius: NDArray[np.float64]
    difference: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    band_low: NDArray[np.float64]
    band_high: NDArray[np.float64]


def difference_curve(
    a: pd.DataFrame,
    b: pd.DataFrame,
    *,
    points: int = 256,
    seed: int = 0,
    different_sigma: bool = False,
) -> DifferenceCurve:
    """The difference curve on an even grid from 0 to the largest certified radius.

    The band is the difference plus or minus a common multiple of its standard error at each radius: the 95 % quantile,
    over 2,000 resamples of the images, of the largest deviation in standard errors. The standard error has half an
    image added to each cell of discordant images, as in the pointwise interval, so it does not vanish.

    Args:
        a: Rows as `certify.table.read` returns them.
        b: The table that it is held against.
        points: Of the grid, at least 2.
        seed: Of the resamples: the same band each time.
        different_sigma: Compare also models under different noise.

    Raises:
        ValueError: If the tables cannot be compared, see `analysis.compare.checked_pair`, or nothing is certified.

    References:
        Agresti and Min (2005) for the interval. The band: Efron and Tibshirani (1993), section 16, applied to the
        largest of many studentised differences.
    """
    a, b = checked_pair(a, b, different_sigma=different_sigma)
    certified_a, certified_b = contributions(a), contributions(b)
    right_a, right_b = (table["correct"].to_numpy() == 1 for table in (a, b))
    end = float(max(certified_a.max(), certified_b.max()))
    if end == 0:
        raise ValueError("neither table certifies an image, so there is no curve to draw.")
    radius_R = np.linspace(0.0, end, points)  # whose last point is the end exactly
    shown_a = right_a[:, None] & (certified_a[:, None] >= radius_R)
    shown_b = right_b[:, None] & (certified_b[:, None] >= radius_R)
    change_NR = shown_a.astype(np.float32) - shown_b
    images = len(change_NR)
    only_a_R, only_b_R = (change_NR > 0).sum(0), (change_NR < 0).sum(0)
    difference_R = (only_a_R - only_b_R) / images
    limits = [paired_interval(int(x), int(y), images) for x, y in zip(only_a_R, only_b_R, strict=True)]
    low_R, high_R = np.array(limits).T
    share_R = (only_a_R + only_b_R + 1) / (images + 2)
    error_R = np.sqrt((share_R - ((only_a_R - only_b_R) / (images + 2)) ** 2) / (images + 2))
    reach = float(np.quantile(_largest_deviations(change_NR, difference_R, error_R, seed), 1 - LEVEL))
    return DifferenceCurve(
        radius_R,
        difference_R,
        low_R,
        high_R,
        # The interval at one radius lies within the band of all, also where their approximations differ.
        np.minimum(low_R, np.maximum(difference_R - reach * error_R, -1)),
        np.maximum(high_R, np.minimum(difference_R + reach * error_R, 1)),
    )


def limits_of(curves: Sequence[DifferenceCurve]) -> tuple[float, float]:
    """The ends of a scale in points that holds 0 and the bands of all curves, at least one, with some room."""
    low = min(0.0, *(100 * float(curve.band_low.min()) for curve in curves))
    high = max(0.0, *(100 * float(curve.band_high.max()) for curve in curves))
    room = 0.06 * (high - low)
    return low - room, high + room


def draw_difference(curve: DifferenceCurve, a: str, b: str, *, limits: tuple[float, float] | None = None) -> Figure:
    """The difference over the radius, above 0 where ``a`` is better, with both bands.

    Args:
        curve: The difference.
        a: Name of the first.
        b: Name of the one that it is compared with.
        limits: Ends of the scale in points, for several figures of one scale; by default `limits_of` this curve.
    """
    figure, axes = new_axes(float(curve.radius[-1]), "certified accuracy, difference in points")
    axes.set_axisbelow("line")  # the grid lies on the bands, which are opaque: so the legend shows what is seen
    axes.set_ylim(limits or limits_of([curve]))
    axes.axhline(0, color=GREY, linewidth=1)
    for lower, upper, strength, name in (
        (curve.band_low, curve.band_high, 0.16, "95 % band, all radii at once"),
        (curve.low, curve.high, 0.4, "95 % interval, each radius by itself"),
    ):
        axes.fill_between(
            curve.radius,
            100 * lower,
            100 * upper,
            step="pre",
            color=_on_white(COLOURS[0], strength),
            linewidth=0,
            label=name,
        )
    axes.plot(
        curve.radius,
        100 * curve.difference,
        color=COLOURS[0],
        drawstyle="steps-pre",
        linewidth=1.6,
        label=plain(f"{a} − {b}"),
    )
    figure.legend(loc="outside lower left", frameon=False, fontsize=9, ncols=1)
    figure.suptitle(plain(f"above 0: {a} certifies more; below: {b} does"), x=0.01, ha="left", fontsize=10)
    return figure


def _on_white(colour: str, strength: float) -> str:
    """The opaque colour that a colour of this strength makes on white."""
    red, green, blue = (1 - strength * (1 - part) for part in to_rgb(colour))
    return to_hex((red, green, blue))


def _largest_deviations(
    change_NR: NDArray[np.float32], difference_R: NDArray[np.float64], error_R: NDArray[np.float64], seed: int
) -> NDArray[np.float64]:
    """Largest deviation of resampled differences from the observed ones, in standard errors, (T,)."""
    rng, images = np.random.default_rng(seed), len(change_NR)
    found = []
    for start in range(0, _RESAMPLES, _AT_ONCE):
        size = min(_AT_ONCE, _RESAMPLES - start)
        weight_TN = rng.multinomial(images, np.full(images, 1 / images), size=size).astype(np.float32)
        resampled_TR = weight_TN @ change_NR / images
        found.append((np.abs(resampled_TR - difference_R) / error_R).max(1))
    return np.concatenate(found)
