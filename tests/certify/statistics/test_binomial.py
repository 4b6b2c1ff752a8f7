import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from numpy.typing import ArrayLike
from scipy import special, stats
from statsmodels.stats.proportion import proportion_confint

from maxup_smoothing.certify.statistics.binomial import (
    LARGEST_N,
    lower_confidence_bound,
    proportion_interval,
    two_sided_p_value,
    upper_confidence_bound,
)


def upper_tail(k: int, n: int, p: float) -> mpmath.mpf:
    """P(Binomial(n, p) >= k) by summing its terms with 40 digits, for k above the mode or a tail that is short."""
    with mpmath.workdps(40):
        probability = mpmath.mpf(float(p))
        ratio = probability / (1 - probability)
        term = mpmath.exp(
            mpmath.loggamma(n + 1)
            - mpmath.loggamma(k + 1)
            - mpmath.loggamma(n - k + 1)
            + k * mpmath.log(probability)
            + (n - k) * mpmath.log(1 - probability)
        )
        total, j = mpmath.mpf(0), k
        while j <= n and term > total * mpmath.mpf(10) ** -22:
            total += term
            term *= ratio * (n - j) / (j + 1)
            j += 1
        return total


@pytest.mark.parametrize("n", [1, 2, 7, 40, 150])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.4])
def test_the_lower_bound_exceeds_p_with_probability_at_most_alpha(n: int, alpha: float) -> None:
    k = np.arange(n + 1)
    bound = lower_confidence_bound(k, n, alpha)
    # The error jumps at the bounds themselves, so its suprema are there and just below.
    grid = np.concatenate([np.linspace(0.001, 0.999, 97), bound[1:], np.nextafter(bound[1:], 0)])
    for p in grid:
        assert stats.binom.pmf(k, n, p)[bound > p].sum() <= alpha * (1 + 1e-9)


@pytest.mark.parametrize("n", [1, 2, 7, 40, 150])
@pytest.mark.parametrize("alpha", [0.001, 0.05, 0.4])
def test_the_upper_bound_falls_below_p_with_probability_at_most_alpha(n: int, alpha: float) -> None:
    k = np.arange(n + 1)
    bound = upper_confidence_bound(k, n, alpha)
    grid = np.concatenate([np.linspace(0.001, 0.999, 97), bound[:-1], np.nextafter(bound[:-1], 1)])
    for p in grid:
        assert stats.binom.pmf(k, n, p)[bound < p].sum() <= alpha * (1 + 1e-9)


@pytest.mark.parametrize("n", [1, 10, 1000, 100_000])
@pytest.mark.parametrize("alpha", [1e-12, 0.001, 0.3])
def test_bounds_agree_with_statsmodels_and_never_claim_more(n: int, alpha: float) -> None:
    k = np.unique(np.linspace(0, n, 200).astype(int))
    low, high = proportion_confint(k, n, alpha=2 * alpha, method="beta")
    ours_low, ours_high = lower_confidence_bound(k, n, alpha), upper_confidence_bound(k, n, alpha)
    np.testing.assert_allclose(ours_low, low, rtol=1e-8, atol=0)
    np.testing.assert_allclose(ours_high, high, rtol=1e-8, atol=0)
    assert np.all(ours_low <= low)
    assert np.all(ours_high >= high)


@pytest.mark.parametrize("n", [1, 10, 100_000, LARGEST_N])
def test_a_unanimous_vote_gives_the_nth_root_of_alpha(n: int) -> None:
    # P(Binomial(n, p) >= n) = p^n = alpha.
    bound = lower_confidence_bound(n, n, 0.001)
    assert bound == pytest.approx(0.001 ** (1 / n), rel=3e-9)
    assert n * mpmath.log(mpmath.mpf(float(bound))) <= mpmath.log(mpmath.mpf(0.001))
    assert upper_confidence_bound(0, n, 0.001) == pytest.approx(-np.expm1(np.log(0.001) / n), rel=3e-9)


def test_no_success_gives_exactly_zero_and_no_failure_exactly_one() -> None:
    assert lower_confidence_bound(0, 10, 0.001) == 0.0
    assert upper_confidence_bound(10, 10, 0.001) == 1.0
    np.testing.assert_array_equal(lower_confidence_bound([0, 0], 5, 0.5), [0.0, 0.0])


def test_tiny_alphas_give_the_limits_that_old_libraries_missed() -> None:
    # statsmodels issues 9141 and 7008: proportion_confint(0, 1000, 1e-7, "beta") once gave 0.9999998, and
    # proportion_confint(10, 100_000, 1e-11, "beta") 0.059.
    assert upper_confidence_bound(0, 1000, 1e-7 / 2) == pytest.approx(0.01667, rel=1e-3)
    assert upper_confidence_bound(10, 100_000, 1e-11 / 2) == pytest.approx(0.000503, rel=1e-3)


@pytest.mark.parametrize(
    ("k", "n", "alpha"),
    [
        # betaincinv's answer here lets 17 times alpha pass; the next one is off by 7e-6 of alpha.
        (280_839_909, 280_840_908, 0.00016647577362325657),
        (1000, 23_743_684, 3.376838825466884e-08),
        (999_999_000, 10**9, 1e-15),
        (10**9 - 3, 10**9, 1e-3),
        (501_500, 10**6, 1e-9),
        (5, 10, 1e-15),
        (99_000, 100_000, 0.001),
    ],
)
def test_the_tail_beyond_the_bound_is_below_alpha_in_exact_arithmetic(k: int, n: int, alpha: float) -> None:
    bound = float(lower_confidence_bound(k, n, alpha))
    assert upper_tail(k, n, bound) <= alpha
    # Not needlessly small: 3 % of the distance to the nearer end is 0.1 % of the radius, in the worst case found.
    assert upper_tail(k, n, bound + 0.03 * min(bound, 1 - bound)) > alpha


def test_the_tail_beyond_every_bound_is_below_alpha(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = np.floor(10 ** rng.uniform(0, 9, 20_000)).astype(np.int64)
    k = np.minimum(n, np.floor(rng.beta(0.3, 0.3, n.size) * (n + 1)).astype(np.int64))
    alpha = 10 ** rng.uniform(-15, np.log10(0.5), n.size)
    low, high = lower_confidence_bound(k, n, alpha), upper_confidence_bound(k, n, alpha)
    some, rest = np.maximum(k, 1), np.maximum(n - k, 1)
    assert np.all((special.betainc(some, n - some + 1, low) <= alpha)[k > 0])
    assert np.all((special.betaincc(k + 1, rest, high) <= alpha)[k < n])
    assert np.all(low < high)


def test_the_tail_that_accepts_a_bound_is_accurate() -> None:
    # The bound is only as good as betainc; 40-digit sums at the sizes where an error would hurt.
    for k, n, p in [(99_000, 100_000, 0.989), (10**9 - 3, 10**9, 1 - 2e-8), (501_500, 10**6, 0.5005)]:
        exact = float(upper_tail(k, n, p))
        assert special.betainc(k, n - k + 1, p) == pytest.approx(exact, rel=1e-10)


def test_extreme_alphas_still_give_bounds() -> None:
    for alpha in [5e-324, 1e-300, 1e-200, 1 - 1e-16]:
        low = lower_confidence_bound([1, 5, 100, 1000], 1000, alpha)
        assert np.all((low >= 0) & (low < 1))
        assert lower_confidence_bound(LARGEST_N, LARGEST_N, alpha) < 1


def test_the_two_sided_interval_spends_half_on_each_side() -> None:
    # R: binom.test(7, 20)$conf.int gives 0.1539092 0.5921885
    low, high = proportion_interval(7, 20)
    assert low == pytest.approx(0.1539092, abs=5e-8)
    assert high == pytest.approx(0.5921885, abs=5e-8)
    assert low == lower_confidence_bound(7, 20, 0.025)
    with pytest.raises(ValueError, match="confidence must be in"):
        proportion_interval(7, 20, 1.0)


def test_the_p_value_is_the_exact_two_sided_one() -> None:
    for n in [1, 2, 9, 100]:
        k = np.arange((n + 1) // 2, n + 1)
        expected = [stats.binomtest(int(votes), n).pvalue for votes in k]
        np.testing.assert_allclose(two_sided_p_value(k, n), expected, rtol=1e-12)
    assert two_sided_p_value(0, 0) == 1.0
    with pytest.raises(ValueError, match="larger part of n votes"):
        two_sided_p_value(4, 9)


def test_scalars_give_floats_and_arrays_keep_their_shape() -> None:
    assert isinstance(lower_confidence_bound(3, 5, 0.1), float)
    assert isinstance(two_sided_p_value(3, 5), float)
    assert lower_confidence_bound(np.full((2, 3), 4), 5, 0.1).shape == (2, 3)
    assert lower_confidence_bound([1, 2], [10, 20], [0.1, 0.2])[1] == lower_confidence_bound(2, 20, 0.2)


@pytest.mark.parametrize(
    ("k", "n", "alpha", "message"),
    [
        (-1, 10, 0.1, r"k must be in \[0, n\]"),
        (11, 10, 0.1, r"k must be in \[0, n\], got k=11, n=10"),
        (5.0, 10, 0.1, "k must be integers"),
        (True, 10, 0.1, "k must be integers"),
        (5, 10.0, 0.1, "n must be integers"),
        (0, 0, 0.1, r"n must be in \[1, 1000000000\], got 0"),
        (5, 10, 0.0, r"alpha must be in \(0, 1\), got 0.0"),
        (5, 10, 1.0, r"alpha must be in \(0, 1\)"),
        (5, 10, float("nan"), r"alpha must be in \(0, 1\)"),
    ],
)
def test_impossible_arguments_are_refused(k: ArrayLike, n: int, alpha: float, message: str) -> None:
    for bound in (lower_confidence_bound, upper_confidence_bound):
        with pytest.raises(ValueError, match=message):
            bound(k, n, alpha)
