import mpmath  # type: ignore[import-untyped]
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import REFERENCE
from scipy import stats
from thresholds import min_samples_to_certify

from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound, two_sided_p_value
from maxup_smoothing.certify.statistics.radius import (
    ABSTAIN,
    ceiling_radius,
    certified_radius,
    min_samples_to_predict,
    two_class_radius,
)

REFERENCE = REFERENCE / "counts-to-radius.tsv"


def test_all_published_radii_follow_from_their_counts() -> None:
    rows = pd.read_csv(REFERENCE, sep="\t")
    assert len(rows) == 6000
    bound = lower_confidence_bound(rows["count"].to_numpy(), 100_000, 0.001)
    # Each log has one sigma, and certified_radius takes one.
    for sigma, of_sigma in rows.groupby("sigma"):
        index = of_sigma.index.to_numpy()
        radius = certified_radius(bound[index], float(str(sigma)))
        np.testing.assert_array_equal(radius == 0, of_sigma["predict"].to_numpy() == ABSTAIN)
        printed = [f"{value:.5g}" for value in radius]
        assert printed == [f"{value:.5g}" for value in of_sigma["exact_radius"]]


# Mean radius over the binomial at sigma = 0.5 and alpha = 0.001, by n: exact sums of another implementation.
@pytest.mark.parametrize(
    ("p", "expected"),
    [
        (0.6, {100_000: 0.1205, 10_000: 0.1070, 1000: 0.0643}),
        (0.8, {100_000: 0.4138, 10_000: 0.3987, 1000: 0.3510}),
        (0.9, {100_000: 0.6324, 10_000: 0.6144, 1000: 0.5580}),
        (0.99, {100_000: 1.1451, 10_000: 1.1069, 1000: 0.9934}),
        (0.999, {100_000: 1.5007, 10_000: 1.4128, 1000: 1.1857}),
        (0.9999, {100_000: 1.7481, 10_000: 1.5626, 1000: 1.2264}),
        (1.0, {100_000: 1.9057, 10_000: 1.5993, 1000: 1.2316}),
    ],
)
def test_mean_radius_by_number_of_samples(p: float, expected: dict[int, float]) -> None:
    for n, mean in expected.items():
        k = np.arange(int(stats.binom.ppf(1e-9, n, p)), n + 1)
        radius = certified_radius(lower_confidence_bound(k, n, 0.001), 0.5)
        assert radius @ stats.binom.pmf(k, n, p) == pytest.approx(mean, abs=6e-5)


def test_the_radius_never_exceeds_the_exact_one() -> None:
    tails = [0.49, 0.3, 0.1, 0.02425, 1e-3, 1e-6, 1e-9, 1e-12, 2.0**-53]
    with mpmath.workdps(40):
        for p in [1 - tail for tail in tails] + [0.5 + 2.0**-53, 0.5 + 1e-9]:
            for sigma in [0.12, 0.25, 1.0, 3.0]:
                quantile = mpmath.mpf(float(certified_radius(p, sigma))) / mpmath.mpf(sigma)
                # Phi(quantile) <= p exactly, compared in the tail; and tight to 2e-12.
                tail = 1 - mpmath.mpf(p)
                assert mpmath.erfc(quantile / mpmath.sqrt(2)) / 2 >= tail
                assert mpmath.erfc(quantile * (1 + 3e-12) / mpmath.sqrt(2)) / 2 <= tail


def test_at_one_half_and_below_nothing_is_certified() -> None:
    np.testing.assert_array_equal(certified_radius([0.0, 0.3, 0.5], 0.5), [0.0, 0.0, 0.0])
    assert certified_radius(np.nextafter(0.5, 1), 0.5) > 0
    assert ABSTAIN == -1


def test_certainty_would_be_an_infinite_radius_and_is_refused() -> None:
    with pytest.raises(ValueError, match="infinite radius"):
        certified_radius(1.0, 0.5)


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan"), [0.9, float("nan")]])
def test_what_is_no_probability_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match=r"must be in \[0, 1\)"):
        certified_radius(p, 0.5)


def test_low_precision_probabilities_are_refused() -> None:
    with pytest.raises(ValueError, match="must be float64, got float32"):
        certified_radius(np.float32(0.99993092), 0.5)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("inf"), float("nan")])
def test_sigma_must_be_positive_and_finite(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma must be positive and finite"):
        certified_radius(0.9, sigma)


@given(st.floats(0.5, 1, exclude_max=True), st.floats(0.5, 1, exclude_max=True), st.floats(1e-3, 10))
def test_the_radius_rises_with_the_probability(p: float, q: float, sigma: float) -> None:
    # Between neighbouring floats ndtri may step back by its last digit; those of counts are far apart.
    if p + 1e-15 < q:
        assert certified_radius(p, sigma) <= certified_radius(q, sigma)


@given(st.integers(1, 10**6), st.floats(1e-9, 0.4), st.floats(0.01, 3), st.data())
def test_the_radius_rises_with_votes_and_falls_with_confidence(
    n: int, alpha: float, sigma: float, data: st.DataObject
) -> None:
    k = data.draw(st.integers(0, n - 1))
    radius = certified_radius(lower_confidence_bound(k, n, alpha), sigma)
    more = certified_radius(lower_confidence_bound(k + 1, n, alpha), sigma)
    assert radius < more or more == 0
    assert certified_radius(lower_confidence_bound(k, n, alpha / 2), sigma) <= radius
    assert more <= ceiling_radius(n, alpha, sigma)
    assert certified_radius(lower_confidence_bound(k, n, alpha), 2 * sigma) == pytest.approx(2 * radius, rel=1e-12)


def test_the_ceiling_is_the_radius_of_a_unanimous_vote() -> None:
    # sigma * Phi^-1(alpha^(1/n)): 1.9057 and 0.9529 are the ends of this field's curves at n = 100000, alpha = 0.001.
    assert ceiling_radius(100_000, 0.001, 0.5) == pytest.approx(0.5 * stats.norm.ppf(0.001 ** (1 / 100_000)), rel=1e-9)
    assert ceiling_radius(100_000, 0.001, 0.5) == pytest.approx(1.9057, abs=5e-5)
    assert ceiling_radius(100_000, 0.001, 0.25) == pytest.approx(0.9529, abs=5e-5)
    assert ceiling_radius(9, 0.001, 0.25) == 0.0


@pytest.mark.parametrize(("alpha", "fewest"), [(0.001, 10), (0.01, 7), (0.05, 5), (0.25, 3), (0.6, 1), (1e-300, 997)])
def test_fewest_samples_that_certify(alpha: float, fewest: int) -> None:
    # p^n <= alpha at p > 1/2 needs n > log2(1/alpha); exactly 1/2, as at alpha = 1/4 and n = 2, is not enough.
    assert min_samples_to_certify(alpha) == fewest
    assert ceiling_radius(fewest, alpha, 1.0) > 0
    assert fewest == 1 or ceiling_radius(fewest - 1, alpha, 1.0) == 0


@pytest.mark.parametrize(("alpha", "fewest"), [(0.001, 11), (0.05, 6), (0.5, 2), (0.9, 2)])
def test_fewest_samples_that_predict(alpha: float, fewest: int) -> None:
    # 2 * 2^-n <= alpha
    assert min_samples_to_predict(alpha) == fewest
    assert two_sided_p_value(fewest, fewest) <= alpha < two_sided_p_value(fewest - 1, fewest - 1)


@pytest.mark.parametrize("alpha", [0.0, 1.0, float("nan")])
def test_fewest_samples_need_an_alpha(alpha: float) -> None:
    for fewest in (min_samples_to_certify, min_samples_to_predict):
        with pytest.raises(ValueError, match="alpha must be in"):
            fewest(alpha)


def phi(z: mpmath.mpf) -> mpmath.mpf:
    return mpmath.erfc(-z / mpmath.sqrt(2)) / 2


def exact_quantile(p: float) -> mpmath.mpf:
    """Phi^-1 with 40 digits, by Newton's steps on the logarithm of the smaller tail from the floating-point answer."""
    tail = mpmath.mpf(p) if p <= 0.5 else 1 - mpmath.mpf(p)
    z = mpmath.mpf(float(stats.norm.ppf(float(tail))))
    for _ in range(4):
        z -= mpmath.log(phi(z) / tail) * phi(z) / mpmath.npdf(z)
    return z if p <= 0.5 else -z


def test_the_two_class_radius_never_exceeds_the_exact_one_and_is_close(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pairs = [(0.45, 0.1), (0.45, 0.3), (1e-5, 9e-6), (0.3, 0.3 - 2.0**-54), (0.7, 0.7 - 2.0**-53), (0.5, 1e-12)]
    pairs += [(1 - 2.0**-53, 1e-300), (0.5 + 2.0**-53, 0.5), (0.9, 0.9 - 1e-12), (1e-9, 1e-12)]
    for _ in range(200):
        p_a = float(rng.beta(0.3, 0.3)) or 0.5
        pairs.append((min(p_a, 1 - 2.0**-53), p_a * float(1 - 10 ** rng.uniform(-16, 0))))
    with mpmath.workdps(40):
        for p_a, p_b in pairs:
            if not 0 < p_b < p_a < 1:
                continue
            radius = mpmath.mpf(float(two_class_radius(p_a, p_b, 0.7)))
            z_a, z_b = exact_quantile(p_a), exact_quantile(p_b)
            exact = mpmath.mpf(0.7) / 2 * (z_a - z_b)
            assert 0 <= radius <= exact
            assert exact - radius <= 3e-12 * (exact + min(abs(z_a), abs(z_b)))


def test_a_runner_up_with_all_the_rest_gives_the_radius_of_one_class() -> None:
    p = np.concatenate([np.linspace(0.5, 1, 2001)[:-1], 1 - np.geomspace(2.0**-53, 0.5, 500), [0.5 + 2.0**-53]])
    for sigma in [0.12, 0.25, 0.5, 1.0, 3.0]:
        np.testing.assert_array_equal(two_class_radius(p, 1 - p, sigma), certified_radius(p, sigma))


def test_a_runner_up_that_may_be_ahead_certifies_nothing() -> None:
    np.testing.assert_array_equal(two_class_radius([0.4, 0.4, 0.0, 0.9], [0.4, 0.6, 1.0, 1.0], 0.5), [0.0] * 4)
    assert two_class_radius(0.2, np.nextafter(0.2, 0), 0.5) >= 0


def test_a_class_without_majority_may_still_lead_by_far() -> None:
    # Tables of the normal distribution: Phi^-1(0.45) = -0.1256613, Phi^-1(0.1) = -1.2815516.
    assert two_class_radius(0.45, 0.1, 0.5) == pytest.approx(0.5 / 2 * (-0.1256613 + 1.2815516), abs=5e-8)
    assert certified_radius(0.45, 0.5) == 0.0


@given(st.floats(1e-6, 1 - 1e-6), st.floats(1e-6, 1), st.floats(1e-3, 10), st.data())
def test_the_two_class_radius_rises_with_the_lead(p_a: float, p_b: float, sigma: float, data: st.DataObject) -> None:
    radius = two_class_radius(p_a, p_b, sigma)
    # Apart by more than the reserve against cancellation, which moves with the smaller quantile.
    higher = data.draw(st.floats(p_a, 1 - 1e-6))
    lower = data.draw(st.floats(1e-6, p_b))
    assert two_class_radius(higher, p_b, sigma) >= radius - 1e-10 * sigma
    assert two_class_radius(p_a, lower, sigma) >= radius - 1e-10 * sigma
    assert two_class_radius(p_a, p_b, 2 * sigma) == pytest.approx(2 * radius, rel=1e-12)
    if p_a > p_b and p_a + p_b <= 1:  # what the runner-up leaves to others only helps
        assert radius >= certified_radius(p_a, sigma) - 1e-10 * sigma


def test_shapes_of_both_bounds_are_broadcast() -> None:
    assert isinstance(two_class_radius(0.9, 0.1, 0.5), float)
    assert two_class_radius(np.full((2, 1), 0.9), [0.05, 0.1, 0.2], 0.5).shape == (2, 3)


@pytest.mark.parametrize(
    ("p_a", "p_b"), [(1.0, 0.1), (-0.1, 0.1), (0.9, 0.0), (0.9, 1.1), (float("nan"), 0.1), (0.9, float("nan"))]
)
def test_what_no_pair_of_bounds_can_be_is_refused(p_a: float, p_b: float) -> None:
    with pytest.raises(ValueError, match=r"p_a_lower must be in \[0, 1\) and p_b_upper in \(0, 1\]"):
        two_class_radius(p_a, p_b, 0.5)


def test_low_precision_and_bad_sigmas_are_refused_for_two_classes() -> None:
    with pytest.raises(ValueError, match="p_b_upper must be float64, got float32"):
        two_class_radius(0.9, np.float32(0.1), 0.5)
    for sigma in [0.0, float("nan")]:
        with pytest.raises(ValueError, match="sigma must be positive and finite"):
            two_class_radius(0.9, 0.1, sigma)
