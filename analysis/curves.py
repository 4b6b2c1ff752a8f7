"""Certified accuracy as a function of the radius: an exact step function with a confidence band."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from maxup_smoothing.certify.tables.summary import certified_accuracy


@dataclass(frozen=True)
class Curve:
    """A step function: ``accuracy[i]`` holds from just above ``radius[i-1]`` up to and including ``radius[i]``.

    ``low`` and ``high`` bound it at each radius by itself with the confidence asked for; over all radii at once the
    coverage is smaller.
    """

    radius: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def step_curve(table: pd.DataFrame, end: float, confidence: float = 0.95) -> Curve:
    """The certified accuracy over all radii in [0, end], without a grid: a step at every certified radius.

    Args:
        table: Rows as `certify.tables.radius_table.read` returns them.
        end: Last radius of the curve, positive.
        confidence: Of the pointwise Clopper-Pearson band, in (0, 1).

    Raises:
        ValueError: If the table has no rows, or ``end`` is not positive and finite.
    """
    if not 0 < end < np.inf:
        raise ValueError(f"the largest radius of a figure must be positive and finite, got {end}.")
    proved = table["radius"].to_numpy(np.float64)[table["correct"].to_numpy() == 1]
    radius = np.unique([0.0, *proved[proved < end], end])
    at = certified_accuracy(table, radius.tolist(), confidence)
    accuracy, low, high = (at[name].to_numpy(np.float64) for name in ("accuracy", "low", "high"))
    return Curve(radius, accuracy, low, high)


def recorded_curve(table: pd.DataFrame, end: float) -> Curve:
    """A curve as a file records it, at radii up to ``end``; it has no band, and ends where it is told no further.

    Between two radii it is the accuracy at the larger one, which it cannot be below.

    Args:
        table: ``radius``, rising, and ``accuracy``, as `certify.logs` reads a curve.
        end: Last radius of the curve, positive.
    """
    radius, accuracy = (table[name].to_numpy(np.float64) for name in ("radius", "accuracy"))
    last = int(np.searchsorted(radius, end, side="left"))  # the first that is not before the end
    shown = slice(0, min(last + 1, len(radius)))
    return Curve(np.minimum(radius[shown], end), accuracy[shown], accuracy[shown], accuracy[shown])
