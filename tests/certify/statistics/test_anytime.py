import itertools

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special, stats

from maxup_smoothing.certify.statistics.anytime import (
    complement,
    geometric_looks,
    log_e_value,
    lower_confidence_sequence,
    upper_confidence_sequence,
)
from maxup_smoothing.certify.statistics.binomial import LARGEST_N, lower_confidence_bound, upper_confidence_bound
from maxup_smoothing.certify.statistics.radius import certified_radius

# Every sample up to 150, then every 30 %.
LOOKS = (*range(1, 151), 195, 254, 331, 431, 561, 730, 949)
ALPHA = 0.05


def exact_log_e(k: int, n: int, p0: float) -> mpmath.mpf:
    """log E_n with 50 digits; the tail of the posterior from the series of the incomplete beta function."""
    with mpmath.workdps(50):
        p, half = mpmath.mpf(float(p0)), mpmath.mpf(1) / 2
        a, b = k + half, n - k + half
        log_beta = mpmath.loggamma(a) + mpmath.loggamma(b) - mpmath.loggamma(a + b)

        def part(x: mpmath.mpf, a: mpmath.mpf, b: mpmath.mpf) -> mpmath.mpf:
            term = mpmath.exp(a * mpmath.log(x) + b * mpmath.log(1 - x) - log_beta) / a
            total, j = mpmath.mpf(0), 0
            while term > total * mpmath.mpf(10) ** -25:
                total += term
                term *= x * (a + b + j) / (a + 1 + j)
                j += 1
            return total

        # The series from 1 down is short if few failures are expected, that from 0 up if p0 lies below k/n.
        tail = part(1 - p, b, a) if p > half and n * (1 - p) < 5000 else 1 - part(p, a, b)
        prior = 2 / mpmath.pi * mpmath.asin(mpmath.sqrt(1 - p))
        mixture = log_beta - mpmath.log(mpmath.pi) - k * mpmath.log(p) - (n - k) * mpmath.log(1 - p)
        return mixture + mpmath.log(tail) - mpmath.log(prior)


def test_the_evidence_is_never_above_the_exact_one_and_close_to_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cases = [(LARGEST_N, LARGEST_N, 1 - 2e-8), (LARGEST_N - 3, LARGEST_N, 1 - 3e-8), (3, 3, 0.999999), (1, 1, 1e-9)]
    for _ in range(60):
        n = int(10 ** rng.uniform(0, 6))
        k = min(n, 1 + int(rng.beta(0.4, 0.4) * n))
        deviation = np.sqrt((k + 1) * (n - k + 1) / n) / n
        cases.append((k, n, float(max(k / n - rng.uniform(0.1, 9) * deviation, k / n * rng.uniform(0.1, 0.9)))))
    for k, n, p0 in cases:
        ours, exact = float(log_e_value(k, n, p0)), exact_log_e(k, n, p0)
        assert ours <= exact
        assert exact - ours <= 2e-9 + 1e-12 * n, (k, n, p0)


def test_counts_below_the_hypothesis_are_no_evidence() -> None:
    # The tail of the posterior underflows here; a floor under it would leave e^10000 of evidence, for any class at all.
    for k, n, p0 in [(10, 100_000, 0.9), (0, 10, 0.5), (50_000, 100_000, 0.5), (0, LARGEST_N, 0.999), (1, 1000, 0.01)]:
        assert log_e_value(k, n, p0) == -np.inf
    assert lower_confidence_sequence(10, 100_000, 0.001) < 1e-4
    assert lower_confidence_sequence(50_000, 100_000, 0.001) < 0.5


@pytest.mark.parametrize("n", [1, 10, 150])
@pytest.mark.parametrize("p0", [0.02, 0.3, 0.6915, 0.9772])
def test_the_evidence_is_at_most_one_on_average_under_the_hypothesis(n: int, p0: float) -> None:
    k = np.arange(n + 1)
    evidence = np.exp(log_e_value(k, n, p0))
    for p in [p0, 0.9 * p0, 0.5 * p0]:
        assert stats.binom.pmf(k, n, p) @ evidence <= 1
    # All of it but what the counts below p0 carry, and more than 1 where the hypothesis is wrong.
    assert stats.binom.pmf(k, n, p0) @ evidence > 0.5
    assert n < 150 or stats.binom.pmf(k, n, min(p0 + 0.2, 0.999)) @ evidence > 10


@pytest.mark.parametrize("n", [1, 2, 7, 60, 3000])
def test_the_evidence_falls_as_the_hypothesis_widens(n: int) -> None:
    # What makes the bound a bound; it is close to failing at small p0, where the prior's density has its pole.
    for k in {1, 2, n // 3, n // 2, n - 1, n} & set(range(1, n + 1)):
        p0 = np.unique(np.concatenate([np.geomspace(1e-12, 0.3, 300), np.linspace(0, 1, 600)[1:-1]]))
        evidence = log_e_value(k, n, p0)
        assert np.all(np.diff(evidence[p0 < k / n]) <= 4e-9)


def miscoverage(wrong: dict[int, NDArray[np.bool_]], p: float) -> float:
    """P(a count at any look is one whose bound is ``wrong``), carrying the law of the others from look to look."""
    alive, drawn, lost = np.ones(1), 0, 0.0
    for n, wrong_k in wrong.items():
        alive, drawn = np.convolve(alive, stats.binom.pmf(np.arange(n - drawn + 1), n - drawn, p)), n
        lost += alive[wrong_k].sum()
        alive = np.where(wrong_k, 0.0, alive)
    return lost


def test_the_bounds_are_wrong_at_any_look_with_probability_at_most_alpha() -> None:
    lower = {n: lower_confidence_sequence(np.arange(n + 1), n, ALPHA) for n in LOOKS}
    at_bounds = np.nextafter(np.concatenate([lower[n][1 :: max(1, n // 6)] for n in LOOKS[9::12]]), 0)
    errors = [miscoverage({n: lower[n] > p for n in LOOKS}, p) for p in [*np.linspace(0.005, 0.995, 34), *at_bounds]]
    assert max(errors) <= ALPHA
    assert max(errors) > 0.3 * ALPHA  # Ville's inequality is nearly used up near p = 1, where a vote says little
    # The mirror image, from its own function.
    upper = {n: upper_confidence_sequence(np.arange(n + 1), n, ALPHA) for n in LOOKS[::3]}
    for p in [0.02, 0.2, 0.5, 0.9]:
        assert 0 < miscoverage({n: upper[n] < p for n in LOOKS[::3]}, p) <= ALPHA


def test_a_bound_for_one_look_errs_many_times_as_often_at_these_looks() -> None:
    fixed = {n: lower_confidence_bound(np.arange(n + 1), n, ALPHA) for n in LOOKS}
    for p in [0.5, 0.8]:
        assert miscoverage({n: fixed[n] > p for n in LOOKS}, p) > 4 * ALPHA


# Mean radius at sigma = 0.5 and alpha = 0.001, with 100 000 and 10 000 samples: exact sums by another implementation.
@pytest.mark.parametrize(
    ("p", "large", "small"),
    [
        (0.6, 0.1168, 0.0971),
        (0.8, 0.4099, 0.3882),
        (0.9, 0.6280, 0.6026),
        (0.99, 1.1370, 1.0872),
        (0.999, 1.4853, 1.3829),
        (0.9999, 1.7232, 1.5344),
        (1.0, 1.8864, 1.5767),
    ],
)
def test_mean_radius_by_number_of_samples(p: float, large: float, small: float) -> None:
    for n, mean in [(100_000, large), (10_000, small)]:
        k = np.arange(int(stats.binom.ppf(1e-9, n, p)), int(stats.binom.isf(1e-9, n, p)) + 1)
        radius = certified_radius(lower_confidence_sequence(k, n, 0.001), 0.5)
        assert radius @ stats.binom.pmf(k, n, p) == pytest.approx(mean, abs=6e-5)


def test_the_bound_is_rejected_itself_and_hardly_more_would_be(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = np.floor(10 ** rng.uniform(0, 9, 3000)).astype(np.int64)
    k = np.minimum(n, 1 + np.floor(rng.beta(0.3, 0.3, n.size) * (n + 1)).astype(np.int64))
    alpha = 10 ** rng.uniform(-12, -1, n.size)
    bound = lower_confidence_sequence(k, n, alpha)
    assert np.all(log_e_value(k, n, bound) >= -np.log(alpha))
    # A thousandth of the way to k/n is more than any of them gives away.
    assert np.all(log_e_value(k, n, bound + 1e-3 * (k / n - bound)) < -np.log(alpha))
    # Evidence of 1/alpha at one n is a test of level alpha, and none is better than the binomial tail.
    assert np.all(special.betainc(k, n - k + 1, bound) <= alpha)


def test_a_unanimous_vote_of_the_largest_number_still_has_a_bound() -> None:
    bound = lower_confidence_sequence(LARGEST_N, LARGEST_N, 0.001)
    assert 1 - 1e-8 < bound < 1
    assert upper_confidence_sequence(0, LARGEST_N, 0.001) == 1 - bound


def test_no_success_gives_exactly_zero_and_no_failure_exactly_one() -> None:
    np.testing.assert_array_equal(lower_confidence_sequence([0, 0], [5, 10**9], 0.5), [0.0, 0.0])
    assert upper_confidence_sequence(7, 7, 0.001) == 1.0


def test_extreme_alphas_still_give_bounds() -> None:
    for alpha in [5e-324, 1e-300, 1e-200, 0.9, 1 - 1e-16]:
        bound = lower_confidence_sequence([1, 5, 100, 1000], 1000, alpha)
        assert np.all((bound >= 0) & (bound < 1))


@given(st.integers(1, 10**6), st.floats(1e-9, 0.4), st.data())
def test_the_bound_rises_with_votes_and_falls_with_confidence(n: int, alpha: float, data: st.DataObject) -> None:
    k = data.draw(st.integers(0, n - 1))
    bound = lower_confidence_sequence(k, n, alpha)
    assert bound < lower_confidence_sequence(k + 1, n, alpha)
    assert lower_confidence_sequence(k, n, alpha / 2) <= bound
    upper = upper_confidence_sequence(k, n, alpha)
    assert bound <= k / n < upper
    assert upper >= upper_confidence_bound(k, n, alpha) - 1e-12
    assert upper == complement(lower_confidence_sequence(n - k, n, alpha))


@given(st.floats(0, 1))
def test_a_complement_is_rounded_up(p: float) -> None:
    with mpmath.workdps(400):
        assert complement(p) >= 1 - mpmath.mpf(p)
    assert complement(p) <= np.nextafter(1 - p, 2)
    assert p < 0.5 or complement(p) == 1 - p


def test_scalars_give_floats_and_arrays_keep_their_shape() -> None:
    for bound in (lower_confidence_sequence, upper_confidence_sequence):
        assert isinstance(bound(3, 5, 0.1), float)
        assert bound(np.full((2, 3), 4), 5, 0.1).shape == (2, 3)
        assert bound([1, 2], [10, 20], [0.1, 0.2])[1] == pytest.approx(bound(2, 20, 0.2), rel=1e-6)
    assert isinstance(log_e_value(3, 5, 0.1), float)


def test_looks_grow_without_repeating() -> None:
    assert list(itertools.islice(geometric_looks(), 5)) == [100, 111, 123, 136, 150]
    assert list(itertools.islice(geometric_looks(1, 1.0), 4)) == [1, 2, 3, 4]
    for start, growth in [(0, 1.1), (100, 0.9), (100, float("nan")), (100, float("inf"))]:
        with pytest.raises(ValueError, match="start and growth must be at least 1"):
            next(geometric_looks(start, growth))


@pytest.mark.parametrize(
    ("k", "n", "alpha", "message"),
    [
        (-1, 10, 0.1, r"k must be in \[0, n\]"),
        (11, 10, 0.1, r"k must be in \[0, n\]"),
        (5.0, 10, 0.1, "must be integers"),
        (0, 0, 0.1, r"n must be in \[1, 1000000000\]"),
        (5, 10, 0.0, r"alpha must be in \(0, 1\), got 0.0"),
        (5, 10, 1.0, r"alpha must be in \(0, 1\)"),
        (5, 10, float("nan"), r"alpha must be in \(0, 1\)"),
    ],
)
def test_impossible_arguments_are_refused(k: int, n: int, alpha: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lower_confidence_sequence(k, n, alpha)


@pytest.mark.parametrize(
    ("n_a", "n", "p0", "message"),
    [
        (5.0, 10, 0.5, "must be integers"),
        (11, 10, 0.5, r"n_a in \[0, n\]"),
        (1, 10**9 + 1, 0.5, "n must be in"),
        (5, 10, 0.0, r"p0 must be in \(0, 1\), got 0.0"),
        (5, 10, 1.0, r"p0 must be in \(0, 1\)"),
        (5, 10, float("nan"), r"p0 must be in \(0, 1\)"),
    ],
)
def test_evidence_about_nothing_is_refused(n_a: int, n: int, p0: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_e_value(n_a, n, p0)
