"""Changes of 8-bit images: whole numbers whose l2 norm is exact and within a budget."""

# Shapes: D coordinates of an image.

from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

LEVELS = 255
_HALVINGS = 60  # of the scale: to the last bits of a float64
_NOTHING = 1e-6  # of the largest change: what is smaller is rounding of floating point


def budget(epsilon: float) -> int:
    """The largest sum of squares of a whole-numbered change, in 1/255, whose l2 norm is at most ``epsilon``; exact."""
    square = (Fraction(epsilon) * LEVELS) ** 2
    return square.numerator // square.denominator


def squares(image: NDArray[np.uint8], attacked: NDArray[np.uint8]) -> int:
    """Sum of squares of the change from one image to another, in (1/255)^2."""
    return int(((attacked.astype(np.int64) - image.astype(np.int64)) ** 2).sum())


def rounded(change_D: NDArray[np.floating], image_D: NDArray[np.uint8], most: int) -> NDArray[np.uint8]:
    """The image moved along a direction by whole numbers, as far as a budget and [0, 255] allow.

    The change is nearly the one that gains most in the direction w, of all whole-numbered changes within the budget. A
    step from k to k + 1 in coordinate i gains |w_i| and costs 2k + 1. So the steps with the largest |w_i| / (2k + 1)
    are taken, which are those of round(s |w_i|) for some scale s. What is left at the largest s that fits is spent step
    by step in the same order. A change at which rounding to the nearest would leave nothing is so spent on its largest
    coordinates.

    Args:
        change_D: (D,), the direction; its length does not matter.
        image_D: uint8, (D,).
        most: Largest sum of squares of the change, at least 0; see `budget`.

    Returns:
        uint8, (D,): the image itself where the direction is 0 or not finite.
    """
    direction_D = np.asarray(change_D, dtype=np.float64)
    largest = float(np.abs(direction_D).max(initial=0.0))
    if most < 1 or not 0 < largest < np.inf:
        return image_D.copy()
    w_D = np.abs(direction_D) / largest
    w_D[w_D < _NOTHING] = 0
    room_D = np.where(direction_D > 0, LEVELS - image_D.astype(np.int64), image_D.astype(np.int64))
    room_D[w_D == 0] = 0

    def steps(scale: float) -> NDArray[np.int64]:
        return np.minimum(np.rint(np.minimum(scale * w_D, LEVELS)).astype(np.int64), room_D)

    low, high = 0.0, LEVELS / _NOTHING
    steps_D = _largest(steps, low, high, most)
    left = most - int((steps_D**2).sum())
    while True:
        cost_D = 2 * steps_D + 1
        able = np.flatnonzero((steps_D < room_D) & (cost_D <= left))
        if not len(able):
            break
        order = able[np.argsort(-w_D[able] / cost_D[able], kind="stable")]
        taken = order[np.cumsum(cost_D[order]) <= left]  # at least the first of them fits
        left -= int(cost_D[taken].sum())
        steps_D[taken] += 1
    moved_D = image_D.astype(np.int64) + np.where(direction_D > 0, steps_D, -steps_D)
    return moved_D.astype(np.uint8)


def _largest(steps: Callable[[float], NDArray[np.int64]], low: float, high: float, most: int) -> NDArray[np.int64]:
    """The steps at the largest scale whose squares sum to ``most`` at most, by bisection."""
    if int((steps(high) ** 2).sum()) <= most:
        return steps(high)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if int((steps(middle) ** 2).sum()) <= most:
            low = middle
        else:
            high = middle
    return steps(low)
