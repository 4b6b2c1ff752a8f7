"""The bound on the population's certified share: coverage by exact enumeration, and wrong versions that lack it."""

from fractions import Fraction

import numpy as np
import pytest
from claimed_rows import ROUNDING
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound
from maxup_smoothing.certify.tables.population import population_lower_bound

SIZES, ALPHAS, CONFIDENCES = (1, 2, 5, 12), (0.001, 0.05, 0.3, 0.9), (0.5, 0.95, 0.999)


def two_levels(images: int, share: float, power: float, alpha: float) -> NDArray[np.float64]:
    """The law of the number of images shown as certified, by enumeration of the truth and of what is shown of it.

    ``share`` of the population is robust and shown as certified with probability ``power``; the rest with ``alpha``.
    """
    law = np.zeros(images + 1)
    for robust in range(images + 1):
        true = stats.binom.pmf(np.arange(robust + 1), robust, power)
        false = stats.binom.pmf(np.arange(images - robust + 1), images - robust, alpha)
        law += stats.binom.pmf(robust, images, share) * np.convolve(true, false)
    return law


def worst_miss(bound: NDArray[np.float64], images: int, alpha: float) -> float:
    """Largest probability that ``bound`` (by count) is above the true share, over shares, at and just below bounds."""
    shares = np.concatenate([np.linspace(0, 1, 21), np.nextafter(np.clip(bound, 1e-9, 1), 0.0)])
    return max(
        float(two_levels(images, share, power, alpha)[bound > share].sum()) for share in shares for power in (1.0, 0.7)
    )


@pytest.mark.parametrize("images", SIZES)
@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("confidence", CONFIDENCES)
def test_the_population_bound_is_above_the_true_share_with_probability_at_most_one_minus_confidence(
    images: int, alpha: float, confidence: float
) -> None:
    bound = population_lower_bound(np.arange(images + 1), images, alpha, confidence)
    assert worst_miss(bound, images, alpha) <= (1 - confidence) * ROUNDING


def test_population_bounds_that_forget_the_false_certificates_or_halve_them_miss_too_often() -> None:
    images, alpha, confidence = 12, 0.3, 0.95
    shown = lower_confidence_bound(np.arange(images + 1), images, 1 - confidence)
    right = np.maximum((shown - alpha) / (1 - alpha), 0)
    assert worst_miss(right * (1 - 1e-12), images, alpha) <= 0.05 * ROUNDING
    assert worst_miss(right * (1 - 1e-12), images, alpha) > 0.045  # so nothing is given away either
    for wrong in (shown, np.maximum(shown - alpha, 0) / (1 - alpha) ** 2, np.maximum(shown - alpha / 2, 0)):
        assert worst_miss(wrong, images, alpha) > 0.06
    two_sided = lower_confidence_bound(np.arange(images + 1), images, 2 * (1 - confidence))
    assert worst_miss(np.maximum((two_sided - alpha) / (1 - alpha), 0), images, alpha) > 0.06


@given(st.integers(1, 10**6), st.data(), st.floats(1e-12, 0.999), st.floats(0.01, 0.999))
def test_the_population_bound_is_rounded_down(
    images: int, data: st.DataObject, alpha: float, confidence: float
) -> None:
    certified = data.draw(st.integers(0, images))
    bound = float(population_lower_bound(certified, images, alpha, confidence))
    shown = lower_confidence_bound(certified, images, float(1 - Fraction(repr(confidence))))
    exact = max((Fraction(float(shown)) - Fraction(alpha)) / (1 - Fraction(alpha)), Fraction(0))
    assert Fraction(bound) <= exact
    assert float(exact) - bound <= 1e-14 / (1 - alpha)
    assert bound >= 0


def test_every_population_bound_of_200_images_is_rounded_down() -> None:
    shown = lower_confidence_bound(np.arange(201), 200, 0.05)
    for alpha in (0.001, 0.01, 0.1):  # to nearest, about half of them would be too large
        for one, bound in zip(shown, population_lower_bound(np.arange(201), 200, alpha), strict=True):
            exact = (Fraction(float(one)) - Fraction(alpha)) / (1 - Fraction(alpha))
            assert Fraction(float(bound)) <= max(exact, Fraction(0))


def test_the_population_bound_has_known_values() -> None:
    # scipy 1.17: beta.ppf(0.05, 250, 251) = 0.46226...; beta.ppf(0.05, 5000, 5001) = 0.49171...
    for certified, images, stated in ((250, 500, 0.4618), (5000, 10_000, 0.4912)):
        shown = stats.beta.ppf(0.05, certified, images - certified + 1)
        bound = population_lower_bound(certified, images, 0.001)
        assert bound == pytest.approx((shown - 0.001) / 0.999, abs=1e-8)
        assert bound == pytest.approx(stated, abs=1e-4)
    assert population_lower_bound(0, 100, 0.001) == 0.0
    # All of N certified: CP_low is 0.05^(1/N); of one image, alpha above 0.05 leaves nothing.
    assert population_lower_bound(100, 100, 0.001) == pytest.approx((0.05**0.01 - 0.001) / 0.999, abs=1e-8)
    assert population_lower_bound(1, 1, 0.001) == pytest.approx(0.049 / 0.999, abs=1e-8)
    assert population_lower_bound(1, 1, 0.06) == 0.0
    assert population_lower_bound([0, 9, 10], 10, 1 - 1e-9).tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("alpha", "confidence"), [(0.0, 0.95), (1.0, 0.95), (float("nan"), 0.95), (0.1, 1.0)])
def test_probabilities_out_of_range_are_refused(alpha: float, confidence: float) -> None:
    with pytest.raises(ValueError, match=r"(alpha|confidence) must be in \(0, 1\)"):
        population_lower_bound(1, 2, alpha, confidence)
