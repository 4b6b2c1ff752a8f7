from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from thresholds import certify_threshold, futility_threshold

from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound, upper_confidence_bound
from maxup_smoothing.certify.statistics.radius import certified_radius, probability_at
from maxup_smoothing.certify.statistics.sequential import FUTILITY, Schedule, schedule

# Shapes: k + 1 possible counts at a look.
CAPPED = schedule(1000, looks=[50, 100, 200, 500, 1000])


def miscoverage(looks: tuple[int, ...], levels: tuple[float, ...], p: float) -> float:
    """P(L_j > p at any look), exactly: the law of the count goes from look to look, without the paths that erred."""
    alive, drawn, lost = np.ones(1), 0, 0.0
    for look, level in zip(looks, levels, strict=True):
        new = look - drawn
        alive, drawn = np.convolve(alive, stats.binom.pmf(np.arange(new + 1), new, p)), look
        wrong = lower_confidence_bound(np.arange(look + 1), look, level) > p
        lost += alive[wrong].sum()
        alive = np.where(wrong, 0.0, alive)
    return lost


def suprema(looks: tuple[int, ...], levels: tuple[float, ...], count: int) -> NDArray[np.float64]:
    """Proportions just below a bound, where the miscoverage has its local suprema, and some in between."""
    bounds = [
        lower_confidence_bound(np.unique(np.linspace(1, look, count).astype(int)), look, level)
        for look, level in zip(looks, levels, strict=True)
    ]
    return np.concatenate([np.linspace(0.01, 0.99, 33), np.nextafter(np.concatenate(bounds), 0)])


@pytest.mark.parametrize("alpha", [0.001, 0.05])
def test_the_running_maximum_exceeds_p_with_probability_at_most_alpha(alpha: float) -> None:
    levels = CAPPED.levels(alpha)
    errors = [miscoverage(CAPPED.looks, levels, p) for p in suprema(CAPPED.looks, levels, 60)]
    assert max(errors) <= alpha * (1 + 1e-9)
    assert max(errors) > 0.8 * alpha  # little is wasted, so a level slightly too large would show


def test_peeking_with_all_of_alpha_at_every_look_errs_several_times_as_often() -> None:
    # The mistake that the schedule exists to prevent; the exact computation above would catch it.
    alpha = 0.001
    peeking = (alpha,) * len(CAPPED.looks)
    errors = [miscoverage(CAPPED.looks, peeking, p) for p in [0.3, 0.6915, 0.8413, 0.9332]]
    assert min(errors) > 2 * alpha
    assert max(errors) > 3 * alpha


def test_peeking_at_the_nine_default_looks_errs_six_times_as_often() -> None:
    # Mean over the thresholds of radii 0.25 to 1 at sigma = 0.5: single ones jump with the discreteness of the counts.
    looks, alpha = schedule(100_000).looks, 0.01
    errors = [reach_any(looks, [certify_threshold(n, alpha, p) for n in looks], p) for p in at_radii()]
    assert 4 * alpha < np.mean(errors) < 7 * alpha
    levels = schedule(100_000).levels(alpha)
    spent = [
        reach_any(looks, [certify_threshold(n, level, p) for n, level in zip(looks, levels, strict=True)], p)
        for p in at_radii()
    ]
    assert 0.8 * alpha < np.mean(spent)
    assert max(spent) <= alpha * (1 + 1e-9)


def at_radii() -> list[float]:
    return [probability_at(radius, 0.5) for radius in (0.25, 0.5, 0.75, 1.0)]


def reach_any(looks: tuple[int, ...], thresholds: list[int], p: float) -> float:
    """P(the count reaches its threshold at any look); counts 12 deviations off their mean, below 1e-30, left out."""
    alive, first, drawn, lost = np.ones(1), 0, 0, 0.0
    for look, threshold in zip(looks, thresholds, strict=True):
        new = look - drawn
        reach = 12 * np.sqrt(new * p * (1 - p)) + 12
        low, high = max(0, int(new * p - reach)), min(new, int(new * p + reach))
        alive = np.convolve(alive, stats.binom.pmf(np.arange(low, high + 1), new, p))
        first, drawn = first + low, look
        cut = max(0, threshold - first)
        lost += alive[cut:].sum()
        alive = alive[:cut]
    return lost


def test_the_default_schedule_is_the_published_table() -> None:
    default = schedule(100_000)
    assert default.looks == (200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)
    assert default.shares == (0.03, 0.03, 0.03, 0.03, 0.03, 0.05, 0.05, 0.05, 0.70)
    assert default.levels(0.001) == pytest.approx([share * 0.001 for share in default.shares], rel=1e-15)


# Smallest k with P(Bin(n_j, p0) >= k) <= alpha_j by another implementation, at sigma = 0.5 and alpha = 0.001.
@pytest.mark.parametrize(
    ("radius", "thresholds"),
    [
        (0.25, [164, 387, 750, 1466, 3588, 7094, 14083, 34975, 69613]),
        (0.50, [188, 453, 887, 1747, 4310, 8555, 17027, 42384, 84504]),
        (0.75, [199, 488, 964, 1910, 4736, 9428, 18800, 46876, 93571]),
        (1.00, [201, 500, 994, 1980, 4927, 9829, 19626, 48991, 97875]),
    ],
)
def test_votes_that_certify_a_radius_at_each_look(radius: float, thresholds: list[int]) -> None:
    default = schedule(100_000)
    p0 = probability_at(radius, 0.5)
    pairs = zip(default.looks, default.levels(0.001), strict=True)
    assert [certify_threshold(n, level, p0) for n, level in pairs] == thresholds


# Mean radius at the last look, sigma = 0.5 and alpha = 0.001: exact sums by another implementation.
@pytest.mark.parametrize(
    ("p", "mean"),
    [(0.6, 0.1203), (0.8, 0.4136), (0.9, 0.6322), (0.99, 1.1445), (0.999, 1.4992), (0.9999, 1.7449), (1.0, 1.8995)],
)
def test_mean_radius_at_the_last_look(p: float, mean: float) -> None:
    n, level = 100_000, schedule(100_000).levels(0.001)[-1]
    k = np.arange(int(stats.binom.ppf(1e-12, n, p)), int(stats.binom.isf(1e-12, n, p)) + 1)
    radius = certified_radius(lower_confidence_bound(k, n, level), 0.5)
    assert radius @ stats.binom.pmf(k, n, p) == pytest.approx(mean, abs=6e-5)


def test_other_caps_keep_the_default_looks_below_them() -> None:
    assert schedule(150) == Schedule(looks=(150,), shares=(1.0,))
    assert schedule(200) == schedule(200, looks=[200]) == Schedule(looks=(200,), shares=(1.0,))
    assert schedule(1001) == Schedule(looks=(200, 500, 1000, 1001), shares=(0.1, 0.1, 0.1, 0.7))
    # 30 % in proportion to 3 : 3 : 3 : 3 : 3 : 5
    assert schedule(15_000).shares == (0.045, 0.045, 0.045, 0.045, 0.045, 0.075, 0.7)
    larger = schedule(10**6)
    assert larger.looks == (*schedule(100_000).looks, 200_000, 500_000, 1_000_000)
    assert larger.shares[-2:] == pytest.approx((0.3 * 5 / 45, 0.7))


def test_own_looks_share_alike_what_the_last_one_leaves() -> None:
    assert schedule(900, looks=[100, 300, 900]) == Schedule(looks=(100, 300, 900), shares=(0.15, 0.15, 0.7))


@given(st.integers(1, 10**9), st.floats(1e-12, 1, exclude_max=True))
def test_the_levels_never_spend_more_than_alpha(n: int, alpha: float) -> None:
    spent = sum(map(Fraction, schedule(n).levels(alpha)))
    assert spent <= Fraction(alpha)
    assert spent >= Fraction(alpha) * (1 - Fraction(1, 10**12))


def test_shares_whose_floats_sum_to_more_than_one_still_spend_at_most_alpha() -> None:
    tenths = Schedule(looks=tuple(range(1, 11)), shares=(0.1,) * 10)
    assert sum(map(Fraction, tenths.shares)) > 1
    assert sum(map(Fraction, tenths.levels(0.001))) <= Fraction(0.001)
    assert schedule(10).levels(0.001) == (0.001,)


def test_giving_up_loses_at_most_beta_of_the_power() -> None:
    # p0 itself is true, the hardest case: P(the upper bound falls below it at any look) <= beta.
    looks, p0 = CAPPED.looks, probability_at(0.5, 0.5)
    gives_up = [futility_threshold(n, FUTILITY / len(looks), p0) for n in looks]
    for n, most in zip(looks, gives_up, strict=True):
        assert upper_confidence_bound(most, n, FUTILITY / len(looks)) < p0
        assert upper_confidence_bound(most + 1, n, FUTILITY / len(looks)) >= p0
    failures = [n - most for n, most in zip(looks, gives_up, strict=True)]
    assert 0.2 * FUTILITY < reach_any(looks, failures, 1 - p0) <= FUTILITY


@given(st.integers(1, 10**5), st.floats(1e-6, 0.3), st.floats(0.01, 1), st.floats(0.1, 1))
def test_a_threshold_separates_the_votes_whose_reported_radius_suffices(
    n: int, level: float, radius: float, sigma: float
) -> None:
    p0 = probability_at(radius, sigma)
    k = certify_threshold(n, level, p0)
    if k <= n:
        assert certified_radius(lower_confidence_bound(k, n, level), sigma) >= radius
    if k > 0:
        assert certified_radius(lower_confidence_bound(k - 1, n, level), sigma) < radius * (1 + 1e-12)


def test_the_probability_of_a_radius_is_rounded_up() -> None:
    for radius, sigma in [(0.25, 0.5), (1.0, 0.5), (0.1, 1.0), (3.0, 0.7), (1e-9, 1.0)]:
        p0 = probability_at(radius, sigma)
        assert p0 >= stats.norm.cdf(radius / sigma)
        assert stats.norm.sf(radius / sigma * (1 + 2e-12)) <= 1 - p0 + 2.0**-52
        assert certified_radius(p0, sigma) >= radius
    assert probability_at(0.0, 0.5) == np.nextafter(0.5, 1)
    assert probability_at(10.0, 1.0) == 1.0
    assert certify_threshold(10**9, 0.001, 1.0) == 10**9 + 1


def test_no_vote_may_suffice_and_none_may_be_too_few() -> None:
    assert certify_threshold(9, 0.001, 0.5) == 10
    assert futility_threshold(5, 0.05, 0.1) == -1


@pytest.mark.parametrize(
    ("looks", "shares", "message"),
    [
        ((), (), "at least one look"),
        ((1, 2), (1.0,), "2 looks and 1 shares"),
        ((0, 2), (0.5, 0.5), "strictly increasing"),
        ((2, 2), (0.5, 0.5), "strictly increasing"),
        ((1, 2), (0.0, 1.0), r"shares must be in \(0, 1\]"),
        ((1, 2), (0.5, float("nan")), r"shares must be in \(0, 1\]"),
        ((1, 2), (0.5, 0.51), "sum to at most 1, got 1.01"),
    ],
)
def test_impossible_schedules_are_refused(looks: tuple[int, ...], shares: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(looks=looks, shares=shares)


def test_impossible_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, got 0"):
        schedule(0)
    with pytest.raises(ValueError, match="append 100 or change n"):
        schedule(100, looks=[10, 50])
    for alpha in [0.0, 1.0, float("nan")]:
        with pytest.raises(ValueError, match="alpha must be in"):
            schedule(100).levels(alpha)
    with pytest.raises(ValueError, match="too small to be divided among 9 looks"):
        schedule(100_000).levels(5e-324)
    for radius in [-0.1, float("inf"), float("nan")]:
        with pytest.raises(ValueError, match="radius must be finite"):
            probability_at(radius, 0.5)
    for threshold in (certify_threshold, futility_threshold):
        with pytest.raises(ValueError, match="p0 must be in"):
            threshold(10, 0.05, 1.1)
