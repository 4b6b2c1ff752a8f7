"""Dataset-level statements: their coverage by exact enumeration, and wrong versions of them that lack it."""

from fractions import Fraction
from itertools import pairwise
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import special, stats

from certify.binomial import lower_confidence_bound
from certify.population import false_certificates, largest_alpha, population_lower_bound, simultaneous
from certify.radius import ABSTAIN, certified_radius
from certify.row import format_row, parse_row
from certify.stored import complete

SIZES, ALPHAS, CONFIDENCES = (1, 2, 5, 12), (0.001, 0.05, 0.3, 0.9), (0.5, 0.95, 0.999)
ROUNDING = 1 + 1e-9  # of the enumeration itself


def rows(predict: list[int], alpha: float | list[float] = 0.001) -> pd.DataFrame:
    return pd.DataFrame({"predict": predict, "alpha": alpha, "label": 0, "correct": 0, "radius": 0.0})


def votes(n_a: list[int], n: int, alpha: float, error: float = 0.0, sigma: float = 0.5) -> pd.DataFrame:
    """The table of images with these votes for class 0, the true one; ``error`` is the noise's distance."""
    p_a_lower = lower_confidence_bound(np.array(n_a), n, alpha)
    if error:
        p_a_lower = np.maximum(np.nextafter(p_a_lower - error, 0.0), 0.0)
    certified = p_a_lower > 0.5
    return pd.DataFrame(
        {
            "idx": range(len(n_a)),
            "label": 0,
            "predict": np.where(certified, 0, ABSTAIN),
            "radius": certified_radius(p_a_lower, sigma),
            "correct": certified.astype(np.int64),
            "time": 1.0,
            "n0": 10,
            "n": n,
            "n_a": n_a,
            "p_a_lower": p_a_lower,
            "sigma": sigma,
            "alpha": alpha,
            "status": np.where(certified, "certified", "abstain"),
            "counts": [{label: count for label, count in ((0, k), (1, n - k)) if count} for k in n_a],
        }
    )


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


@pytest.mark.parametrize("images", [1, 2, 7, 20, 60])
@pytest.mark.parametrize("alpha", [Fraction(1, 1000), Fraction(1, 50), Fraction(3, 10), Fraction(99, 100)])
@pytest.mark.parametrize("confidence", [Fraction(1, 2), Fraction(95, 100), Fraction(999, 1000)])
def test_the_bound_on_false_certificates_is_the_exact_quantile(
    images: int, alpha: Fraction, confidence: Fraction
) -> None:
    found = false_certificates(rows([0] * images, float(alpha)), float(confidence))
    assert found is not None

    def at_most(false: int) -> Fraction:
        return sum(
            (comb(images, k) * alpha**k * (1 - alpha) ** (images - k) for k in range(false + 1)), start=Fraction(0)
        )

    assert at_most(found.at_most) >= Fraction(repr(found.probability)) >= confidence
    assert found.at_most == 0 or at_most(found.at_most - 1) < confidence


def chance(probabilities: list[float]) -> NDArray[np.float64]:
    """The law of the number of independent events that happen."""
    law = np.ones(1)
    for probability in probabilities:
        law = np.convolve(law, [1 - probability, probability])
    return law


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=12), st.floats(0.5, 0.999))
def test_certificates_that_are_false_less_often_than_alpha_keep_the_bound(
    false: list[float], confidence: float
) -> None:
    found = false_certificates(rows([0] * len(false), 0.2), confidence)
    assert found is not None
    assert chance(false)[: found.at_most + 1].sum() >= found.probability / ROUNDING


def test_all_rows_count_since_the_noise_decides_which_of_them_abstain() -> None:
    # Images of which none has a true certificate to give: each row abstains, or is false with probability alpha.
    images, alpha = 20, 0.04
    law = chance([alpha] * images)

    def miss(counted: list[int]) -> float:
        """Probability of more false certificates than the bound from a table with this many rows of each outcome."""
        total = 0.0
        for false in range(images + 1):
            table = rows([0] * false + [ABSTAIN] * (counted[false] - false), alpha)
            found = false_certificates(table)
            total += law[false] * (found is None or false > found.at_most)
        return total

    assert miss([images] * (images + 1)) <= 0.05
    assert miss([max(false, 1) for false in range(images + 1)]) > 0.5  # only the certificates given are counted


def test_a_number_of_false_certificates_is_at_most_that_of_certificates() -> None:
    few = false_certificates(rows([0, *[ABSTAIN] * 999], 0.01))
    assert few is not None
    assert (few.at_most, few.certificates, few.probability) == (1, 1, 0.95)
    none = false_certificates(rows([ABSTAIN] * 1000, 0.01))
    assert none is not None
    assert (none.at_most, none.certificates, none.probability) == (0, 0, 1.0)
    known = [false_certificates(rows([0] * images)) for images in (500, 10_000)]
    assert [found.at_most for found in known if found] == [2, 15]


def test_no_false_certificate_at_all_has_the_union_bounds_probability() -> None:
    found = false_certificates(rows([0] * 7))
    assert found is not None
    assert (found.at_most, found.probability) == (0, 0.993)


def test_the_largest_alpha_counts_and_none_is_told_by_a_log_without_it() -> None:
    assert largest_alpha(rows([0, 0], [0.001, 0.5])) == 0.5
    assert false_certificates(rows([0, 0], [0.001, 0.5])) == false_certificates(rows([0, 0], 0.5))
    assert largest_alpha(rows([0]).drop(columns="alpha")) is None
    assert false_certificates(rows([0]).drop(columns="alpha")) is None


def false_together(table: pd.DataFrame, n: int, p: float, alone: bool = False) -> float:
    """Probability that any of len(table) images, all with top class probability ``p``, gets a false certificate.

    The table has a row for each possible n_a, so that it is the table of every outcome at once.
    """
    true_radius = table["sigma"].iloc[0] * special.ndtri(p) if p > 0.5 else -1.0
    false = (table["predict"] != ABSTAIN) & (table["radius"] > true_radius)
    each = np.asarray(stats.binom.pmf(table["n_a"], n, p))[false.to_numpy()].sum()
    return float(each if alone else -np.expm1(len(table) * np.log1p(-each)))


@pytest.mark.parametrize("n", [30, 100])
@pytest.mark.parametrize("alpha", [0.2, 0.01])
def test_simultaneous_certificates_are_all_true_with_probability_one_minus_alpha(n: int, alpha: float) -> None:
    each = votes(list(range(n + 1)), n, alpha)
    together = simultaneous(each)
    probabilities = [0.5, *np.linspace(0.5, 0.999, 60)]
    # A probability just below each bound is where a certificate fails most often.
    probabilities += [bound * (1 - 1e-9) for table in (each, together) for bound in table["p_a_lower"] if bound > 0.51]
    assert max(false_together(together, n, p) for p in probabilities) <= alpha
    assert max(false_together(each, n, p) for p in probabilities) > alpha
    assert max(false_together(each, n, p, alone=True) for p in probabilities) <= alpha * ROUNDING
    assert max(false_together(together, n, p) for p in probabilities) > alpha * 0.8  # nothing is given away either


def test_a_simultaneous_row_is_the_bound_at_alpha_by_images() -> None:
    table = simultaneous(votes([100_000, 99_000, 60_000, 50_200, 10], 100_000, 0.001))
    bound = lower_confidence_bound(np.array([100_000, 99_000, 60_000, 50_200, 10]), 100_000, 0.0002)
    assert table["p_a_lower"].tolist() == bound.tolist()
    assert table["radius"].tolist() == certified_radius(bound, 0.5).tolist()
    assert table["alpha"].tolist() == [0.0002] * 5
    assert table["predict"].tolist() == [0, 0, 0, ABSTAIN, ABSTAIN]
    assert table["status"].tolist() == ["certified"] * 3 + ["abstain"] * 2
    assert table["correct"].tolist() == [1, 1, 1, 0, 0]


def test_an_image_that_abstains_only_when_all_are_to_be_true_together_loses_class_and_radius() -> None:
    before = votes([64, 100], 100, 0.01)
    assert before["predict"].tolist() == [0, 0]
    after = simultaneous(before, 1e-4)
    assert (after["predict"].tolist(), after["correct"].tolist()) == ([ABSTAIN, 0], [0, 1])
    assert after["radius"].iloc[0] == 0.0 < after["radius"].iloc[1] < before["radius"].iloc[1]
    assert after["status"].tolist() == ["abstain", "certified"]
    assert before["predict"].tolist() == [0, 0]  # a copy


def test_alpha_by_images_never_sums_to_more_than_alpha() -> None:
    for images in (1, 3, 7, 147, 999):
        each = float(simultaneous(votes([90] * images, 100, 0.001))["alpha"].iloc[0])
        assert images * Fraction(repr(each)) <= Fraction("0.001")
        assert each == pytest.approx(0.001 / images, rel=1e-15)
        found = false_certificates(rows([0] * images, each))
        assert found is not None
        assert (found.at_most, found.probability) == (0, 0.999)


@given(st.lists(st.integers(0, 200), min_size=1, max_size=30), st.floats(0, 1e-2), st.floats(1e-9, 0.4))
def test_simultaneous_certificates_stay_below_the_bound_less_the_noises_error(
    n_a: list[int], error: float, alpha: float
) -> None:
    before = votes(n_a, 200, alpha, error)
    after = simultaneous(before)
    bound = np.atleast_1d(lower_confidence_bound(np.array(n_a), 200, after["alpha"].to_numpy()))
    full = np.atleast_1d(lower_confidence_bound(np.array(n_a), 200, alpha))
    for one, whole, claimed, told in zip(bound, full, before["p_a_lower"], after["p_a_lower"], strict=True):
        left_out = max(
            Fraction(float(whole)) - Fraction(float(claimed)), Fraction(error) if claimed > 0 else Fraction(0)
        )
        assert Fraction(float(told)) <= max(Fraction(float(one)) - left_out, Fraction(0))
        assert told >= one - error - 1e-15
    assert (after["p_a_lower"] <= before["p_a_lower"]).all()
    assert (after["radius"] <= before["radius"]).all()
    assert ((after["predict"] == before["predict"]) | (after["predict"] == ABSTAIN)).all()
    for record in after.assign(selected=0).to_dict("records"):
        row = complete({str(name): value for name, value in record.items()})
        parse_row(format_row(row))  # raises where a row claims more than its counts prove


def test_what_was_taken_off_a_radius_is_taken_off_again() -> None:
    before = votes([100, 99, 90], 100, 0.001).assign(sigma=[0.5, 0.25, 0.5])
    full = certified_radius(before["p_a_lower"].to_numpy(), 1.0) * before["sigma"]
    before["radius"] = np.nextafter(full - [0.1, 0.0, 0.0], 0.0)
    after = simultaneous(before)
    fresh = certified_radius(after["p_a_lower"].to_numpy(), 1.0) * before["sigma"]
    assert after["radius"].tolist() == pytest.approx((fresh - [0.1, 0.0, 0.0]).tolist(), abs=1e-11)
    # Left of the first radius is nothing once it was no larger than the distance.
    before.loc[0, "radius"] = np.nextafter(full.iloc[0] - fresh.iloc[0], 0.0) / 1e6
    assert simultaneous(before)["predict"].tolist() == [ABSTAIN, 0, 0]


def test_an_error_larger_than_the_bound_leaves_no_bound() -> None:
    assert simultaneous(votes([1, 100], 100, 0.3, error=0.4), 0.5)["p_a_lower"].iloc[0] == 0.0


def test_rows_at_several_alphas_are_held_to_the_smallest() -> None:
    table = votes([100, 100], 100, 0.01).assign(alpha=[0.01, 0.004])
    table["p_a_lower"] = lower_confidence_bound(100, 100, table["alpha"])
    assert simultaneous(table)["alpha"].tolist() == [0.002, 0.002]


@settings(deadline=None, max_examples=20)  # hundreds of rows
@given(st.lists(st.integers(2, 300), min_size=2, max_size=4, unique=True))
def test_more_images_make_simultaneous_radii_smaller(sizes: list[int]) -> None:
    radii = [simultaneous(votes([95] * images, 100, 0.001))["radius"].iloc[0] for images in sorted(sizes)]
    assert all(more < fewer for fewer, more in pairwise(radii))


@pytest.mark.parametrize(
    ("table", "alpha", "message"),
    [
        (votes([90], 100, 0.01).iloc[:0], None, "no rows: nothing has been certified yet"),
        (votes([90], 100, 0.01).drop(columns=["n", "n_a"]), None, "no column n, n_a"),
        (votes([90], 100, 0.01), 0.0, r"alpha must be in \(0, 1\), got 0.0"),
        (votes([90, 91], 100, 0.01), 0.03, "looser than the 0.01 of a row; take at most 2 times the latter"),
        (
            votes([90], 100, 0.01).assign(procedure="adaptive"),
            None,
            "only procedure=fixed .* got adaptive; certify with",
        ),
        (votes([90], 100, 0.01).assign(procedure="fixed", bound="betting"), None, "only bound=clopper-pearson"),
    ],
)
def test_tables_that_cannot_be_read_again_are_refused(table: pd.DataFrame, alpha: float | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simultaneous(table, alpha)


def test_a_fixed_procedure_with_clopper_pearson_bounds_is_read_again() -> None:
    table = votes([90, 91], 100, 0.01)
    named = simultaneous(table.assign(procedure="fixed", bound="clopper-pearson"))
    assert named["radius"].tolist() == simultaneous(table)["radius"].tolist()
