"""Statistics of the theory check, on data whose truth is known."""

import math

import numpy as np
import pytest
from statsmodels.stats.weightstats import DescrStatsW

from maxup_smoothing.analysis.theory.regression import (
    Interval,
    across_images,
    aligned,
    coefficient,
    limit,
    mean_interval,
    order,
    ratio_interval,
)

SIGMAS = np.array([1e-3, 2e-3, 4e-3, 8e-3, 16e-3])


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.991, 1.009, "holds"),
        (0.98, 1.02, "undecided"),
        (0.98, 1.0, "undecided"),
        (1.0, 1.02, "undecided"),
        (1.011, 1.02, "fails"),
        (0.9, 0.989, "fails"),
        (math.nan, math.nan, "undecided"),
    ],
)
def test_interval_inside_the_margin_holds_and_one_outside_fails(low: float, high: float, word: str) -> None:
    assert Interval(value=(low + high) / 2, low=low, high=high).word(1, 0.01) == word


@pytest.mark.parametrize("shift", [0.0, 0.004, 0.006, 0.008, 0.012])
def test_interval_inside_the_margin_is_equivalence_by_two_one_sided_tests(shift: float) -> None:
    values = 1 + shift + 0.02 * np.random.default_rng(3).standard_normal(60)
    p_value, *_ = DescrStatsW(values).ttost_mean(0.99, 1.01)
    assert (mean_interval(values).word(1, 0.01) == "holds") == (p_value < 0.025)


def test_ratio_needs_no_exception_for_images_without_a_gradient() -> None:
    law = np.array([1.0, 2.0, 0.0, 4.0])
    found = ratio_interval(1.1 * law, law)
    assert (found.value, found.low, found.high) == pytest.approx((1.1, 1.1, 1.1))
    assert ratio_interval(1.1 * law + [0.1, 0, 0.1, -0.2], law).low < 1.1


def test_ratio_interval_covers_as_often_as_it_says(seed: int) -> None:
    random, covered = np.random.default_rng(seed), 0
    for _ in range(400):
        law = random.uniform(0.5, 1.5, 40)
        found = ratio_interval(law * (1 + 0.2 * random.standard_normal(40)), law)
        covered += found.low < 1 < found.high
    # Of 400 intervals at 95 %, fewer than 350 or more than 400 cover with probability below 1e-8; at 90 %, 360 would.
    assert covered > 350


def test_limit_and_bend_of_exact_data_are_exact() -> None:
    group = np.random.default_rng(0).standard_normal(20)
    expected, slope, bend = 2.0, 1.03, 5.0
    # D - sigma max g'z has the mean (slope - 1) expected sigma + bend sigma^2, and noise of order sigma^2.
    first = (slope - 1) * expected * SIGMAS[:, None] + (bend + group - group.mean()) * SIGMAS[:, None] ** 2
    found = limit(first, SIGMAS, expected)
    assert found.slope.value == pytest.approx(slope, abs=1e-12)
    assert found.bend.value == pytest.approx(bend, abs=1e-9)
    assert found.bend.low < bend < found.bend.high


def test_errors_know_that_the_sigmas_share_their_noise() -> None:
    group = np.random.default_rng(0).standard_normal(200)
    first = group * SIGMAS[:, None] ** 2
    found = limit(first, SIGMAS, 1.0)
    # Noise that is c sigma^2 in each group is a bend of c, so its error is that of a mean of 200, not of 1000.
    assert found.bend_error == pytest.approx(group.std(ddof=1) / math.sqrt(200), rel=0.02)


@pytest.mark.parametrize("power", [2, 3])
def test_order_of_a_power_is_its_exponent(power: int, seed: int) -> None:
    noise = 0.3 * np.random.default_rng(seed).standard_normal((5, 200))
    found = order((1 + noise) * SIGMAS[:, None] ** power, SIGMAS, 0.0)
    assert found is not None
    # The slope's standard error is 0.01; it is off by 0.1 with probability below 1e-15.
    assert found.value == pytest.approx(power, abs=0.1)
    assert 0 < found.high - found.low < 0.2


def test_order_is_not_made_of_chance_or_rounding(seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal((5, 200))
    # Three means beyond 4 standard errors by chance: probability 1e-12.
    assert order(noise * SIGMAS[:, None] ** 2, SIGMAS, 0.0) is None
    exact = (1 + 1e-3 * noise) * SIGMAS[:, None] ** 2
    assert order(exact, SIGMAS, 0.0) is not None
    assert order(exact, SIGMAS, float(SIGMAS[2] ** 2) * 1.5) is None
    assert order(exact * np.array([1, 1, 1, -1, -1])[:, None], SIGMAS, 0.0) is None


def test_remainders_of_both_signs_do_not_cancel_and_chance_is_not_counted_as_size(seed: int) -> None:
    noise = np.random.default_rng(seed).standard_normal((5, 50, 200))
    signs = np.where(np.arange(50) % 2, 1.0, -1.0)[:, None]
    assert aligned(3 * signs + noise).mean() == pytest.approx(3, abs=0.1)
    # Mean of 50 x 100 numbers a sigma; five sigmas: standard error 0.014 at most, 7 of them here.
    assert abs(aligned(noise)[0].mean()) < 0.1


def test_coefficient_is_not_pulled_towards_zero_by_errors_of_the_trace(seed: int) -> None:
    random = np.random.default_rng(seed)
    true = random.standard_normal(5000)
    error = np.full(5000, 0.5)
    found = coefficient(true, 0 * error, true + 0.5 * random.standard_normal(5000), error, freedom=100)
    assert found is not None
    # Standard error 0.011 with the variance of the denominator; without the correction the value would be 0.8.
    assert found.value == pytest.approx(1, abs=0.09)
    assert coefficient(true, error, 0.1 * true, error, freedom=100) is None
    assert coefficient(*[np.array([])] * 4, freedom=100) is None


def test_line_over_images_is_recovered() -> None:
    expected = np.linspace(0.5, 2, 20)
    found = across_images(0.1 + 0.9 * expected, expected)
    assert found.slope.value == pytest.approx(0.9)
    assert found.intercept.value == pytest.approx(0.1)
    assert found.r_squared == pytest.approx(1)
