"""Changes of 8-bit images within an exact budget."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from maxup_smoothing.certify.attack.projection import budget, rounded, squares
from maxup_smoothing.certify.attack.threat_model import goals_of

DIRECTIONS = arrays.arrays(np.float64, 12, elements=st.floats(-1, 1, width=32))
IMAGES = arrays.arrays(np.uint8, 12, elements=st.integers(0, 255))


@settings(max_examples=200, deadline=None)
@given(direction=DIRECTIONS, image=IMAGES, epsilon=st.floats(0, 4))
def test_no_change_exceeds_epsilon_and_none_that_fits_is_left_out(
    direction: NDArray[np.float64], image: NDArray[np.uint8], epsilon: float
) -> None:
    most = budget(epsilon)
    attacked = rounded(direction, image, most)
    change = attacked.astype(int) - image.astype(int)
    spent = squares(image, attacked)
    assert spent == int((change**2).sum()) <= most
    assert Fraction(spent) <= (Fraction(epsilon) * 255) ** 2  # the distance is at most epsilon, exactly
    w = np.abs(direction) / max(np.abs(direction).max(), 1e-300)
    assert np.all(change[w < 1e-6] == 0)
    assert np.all(change * direction >= 0)
    could = (w >= 1e-6) & (np.where(direction > 0, attacked < 255, attacked > 0))
    assert np.all(2 * np.abs(change[could]) + 1 > most - spent)


@settings(max_examples=100, deadline=None)
@given(direction=arrays.arrays(np.float64, 3, elements=st.floats(-1, 1, width=32)), most=st.integers(0, 40))
def test_the_gain_is_nearly_that_of_the_best_whole_numbered_change(direction: NDArray[np.float64], most: int) -> None:
    image = np.full(3, 128, dtype=np.uint8)
    gain = float((rounded(direction, image, most).astype(int) - 128) @ direction)
    grid = np.stack(np.meshgrid(*[np.arange(-6, 7)] * 3), -1).reshape(-1, 3)
    best = float((grid[(grid**2).sum(1) <= most] @ direction).max())
    # A knapsack filled in the order of gain by cost lacks at most the one item that did not fit.
    assert best - np.abs(direction).max() * 1.000001 <= gain <= best + 1e-12


def test_equal_coordinates_spend_the_budget_though_they_do_not_all_move() -> None:
    image = np.zeros(784, dtype=np.uint8)
    assert squares(image, rounded(np.ones(784), image, 500)) == 500
    assert squares(image, rounded(np.ones(784), image, 784 + 3 * 10)) == 784 + 3 * 10


def test_pixels_at_the_end_of_their_range_leave_the_budget_to_others() -> None:
    image = np.array([255, 250, 100], dtype=np.uint8)
    assert rounded(np.array([1.0, 1.0, 0.1]), image, budget(0.2)).tolist() == [255, 255, 150]


def test_a_direction_that_says_nothing_moves_nothing() -> None:
    image = np.arange(4, dtype=np.uint8)
    for direction in ([0.0] * 4, [np.nan, 1.0, 0.0, 0.0], [np.inf, 1.0, 0.0, 0.0]):
        assert rounded(np.array(direction), image, 100).tolist() == image.tolist()


def test_the_budget_is_exact_where_floating_point_is_not() -> None:
    assert budget(1 / 255) in (0, 1)
    assert budget(1 / 255) == int((Fraction(1 / 255) * 255) ** 2 // 1)
    assert budget(0.2) == 2601  # 51 squared: the float 0.2 is a little above
    assert budget(np.nextafter(0.2, 0)) == 2600


@pytest.mark.parametrize(
    ("radii", "factors", "message"),
    [
        ([-0.1], [], "--radii must be at least 0"),
        ([], [0.0], "--radius-factors must be positive"),
        ([], [], "attack at 1 to 1000 radii, got 0"),
        ([number / 8 for number in range(1001)], [], "got 1001"),
    ],
)
def test_goals_that_make_no_sense_are_refused(radii: list[float], factors: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        goals_of(radii, factors)
