from collections.abc import Sequence
from math import comb

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from maxup_smoothing.analysis.comparison.networks import Comparison, compare_tables, outwards_text, verdict
from maxup_smoothing.analysis.comparison.significance import (
    holm,
    mcnemar_p_value,
    mean_interval,
    paired_interval,
    sign_flip_p_value,
)
from maxup_smoothing.certify.tables.summary import contributions


def rows(radii: Sequence[float | None], **settings: object) -> pd.DataFrame:
    """A table of label 1, one radius an image; None is a wrong prediction at radius 0.5, 0 an abstention."""
    return pd.DataFrame(
        {
            "idx": range(len(radii)),
            "label": 1,
            "predict": [2 if radius is None else 1 if radius else -1 for radius in radii],
            "radius": [0.5 if radius is None else radius for radius in radii],
            "correct": [int(bool(radius)) for radius in radii],
            **{"sigma": 0.5, "n": 1000, "alpha": 0.001, "procedure": "fixed", "bound": "clopper-pearson", **settings},
        }
    )


def test_mcnemar_is_statsmodels_exact_test_for_all_small_counts() -> None:
    for only_a in range(13):
        for only_b in range(13):
            expected = mcnemar([[7, only_a], [only_b, 3]], exact=True).pvalue if only_a + only_b else 1.0
            assert mcnemar_p_value(only_a, only_b) == pytest.approx(min(expected, 1.0), rel=1e-12)


def test_mcnemar_enumerates_the_fair_coin() -> None:
    # One of nine or fewer on either side: 2 (C(9,0) + C(9,1)) / 2^9 = 20 / 512.
    assert mcnemar_p_value(1, 8) == pytest.approx(2 * (comb(9, 0) + comb(9, 1)) / 2**9, rel=1e-12)
    assert mcnemar_p_value(8, 1) == mcnemar_p_value(1, 8)
    assert mcnemar_p_value(4, 4) == 1


def test_holm_by_hand_and_as_statsmodels_does_it(seed: int) -> None:
    # Sorted .01 .02 .03 .04 times 4 3 2 1 is .04 .06 .06 .04; no adjusted value falls below one before it.
    assert holm([0.04, 0.01, 0.03, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []
    p = np.random.default_rng(seed).uniform(size=20) ** 3
    np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1], rtol=1e-12)


def test_the_paired_interval_adds_half_an_image_to_each_cell() -> None:
    # 10 and 4 of 98: cells 10.5 and 4.5 of 100, centre .06, variance (15 - 36/100) / 100^2, so half = 1.96 * .0382623.
    low, high = paired_interval(10, 4, 98)
    assert (low, high) == pytest.approx((0.06 - 1.959964 * 0.03826225, 0.06 + 1.959964 * 0.03826225), abs=1e-7)
    assert paired_interval(4, 10, 98) == pytest.approx((-high, -low))
    low, high = paired_interval(0, 0, 98)
    assert -0.05 < low < 0 < high < 0.05
    assert paired_interval(5, 0, 5)[1] == 1.0


def test_the_paired_interval_covers_by_exact_enumeration() -> None:
    # All tables of 40 images: cells (10 %, 5 %, rest). Nominal 95 %; Wald's without the halves covers 93.7 %.
    images, p_a, p_b = 40, 0.10, 0.05
    covered = 0.0
    for only_a in range(images + 1):
        for only_b in range(images + 1 - only_a):
            low, high = paired_interval(only_a, only_b, images)
            if low <= p_a - p_b <= high:
                counts = [only_a, only_b, images - only_a - only_b]
                covered += stats.multinomial.pmf(counts, images, [p_a, p_b, 1 - p_a - p_b])
    assert 0.95 <= covered < 0.97


def test_the_bootstrap_interval_of_a_mean_is_the_normal_one_where_that_is_known() -> None:
    # 2,000 symmetric values of sd s: the mean's sd is s / sqrt(2000) and BCa has neither bias nor skewness to correct.
    # An endpoint over 10,000 resamples has sd sqrt(.025 * .975 / 10,000) / .0584 = .027 sd of the mean; 5 of them.
    values = stats.norm.ppf((np.arange(2000) + 0.5) / 2000)
    sd = values.std() / np.sqrt(2000)
    low, high = mean_interval(values)
    assert low == pytest.approx(-1.959964 * sd, abs=0.135 * sd)
    assert high == pytest.approx(1.959964 * sd, abs=0.135 * sd)


def test_the_bootstrap_of_differences_is_scipys_paired_bootstrap() -> None:
    values = np.random.default_rng(3).exponential(size=(2, 60))
    paired = stats.bootstrap(
        (values[0], values[1]),
        lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        n_resamples=10_000,
        paired=True,
        vectorized=True,
        rng=np.random.default_rng(5),
    ).confidence_interval
    assert mean_interval(values[0] - values[1], seed=5) == pytest.approx((paired.low, paired.high), rel=1e-9)


def test_an_interval_of_equal_values_is_that_value() -> None:
    assert mean_interval([0.25, 0.25, 0.25]) == (0.25, 0.25)


def test_wrong_predictions_and_abstentions_count_zero() -> None:
    assert contributions(rows([0.75, None, 0.0])).tolist() == [0.75, 0.0, 0.0]


def test_images_are_paired_by_index_and_certified_at_the_radius_itself() -> None:
    a = rows([0.5, 0.5, 0.5, 0.2, None, 0.0])
    b = rows([0.5, 0.4, None, 0.6, 0.3, 0.0])
    found = compare_tables(a.sample(frac=1, random_state=1), b, [0, 0.5, 0.6, 2])
    assert [(row.only_a, row.only_b) for row in found.at] == [(1, 1), (2, 1), (0, 1), (0, 0)]
    assert [row.difference for row in found.at] == pytest.approx([0, 1 / 6, -1 / 6, 0])
    assert found.images == 6
    assert (found.acr_a, found.acr_b) == pytest.approx((1.7 / 6, 1.8 / 6))
    assert found.difference == pytest.approx(-0.1 / 6)
    assert found.low < found.difference < found.high
    assert [row.p_holm for row in found.at] == holm([row.p_value for row in found.at]).tolist()


def test_a_table_against_itself_differs_nowhere() -> None:
    found = compare_tables(rows([0.5, 0.0]), rows([0.5, 0.0]), [0])
    assert (found.difference, found.low, found.high, found.at[0].p_holm) == (0, 0, 0, 1)


def test_the_same_seed_gives_the_same_interval() -> None:
    a, b = rows(np.linspace(0.1, 1, 20).tolist()), rows([0.5] * 20)
    assert compare_tables(a, b, [0], seed=1) == compare_tables(a, b, [0], seed=1)
    assert compare_tables(a, b, [0], seed=1).low != compare_tables(a, b, [0], seed=2).low


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (rows([0.5] * 4), r"different images \(0 are in the first alone, 1 in the second alone\); certify both"),
        (rows([0.5] * 3).assign(label=7), "3 of 3 images have another label .* compare tables of one data set"),
        (rows([0.5] * 3, sigma=0.25), "different sigma, 0.5 and 0.25: .* pass different_sigma=True"),
        (rows([0.5] * 3, n=4000), "different n, 1000 and 4000: ACR and radii .* with the same --n"),
        (rows([0.5] * 3, alpha=0.01), "different alpha, 0.001 and 0.01: .* with the same --alpha"),
        (rows([0.5] * 3).drop(columns="n"), "different n, 1000 and unknown"),
        (rows([0.5] * 3, procedure="sequential"), "different n, 1000 and unknown"),
        (rows([0.5] * 3, bound="joint"), "different bound, clopper-pearson and joint: .* with the same --bound"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_what_to_do(other: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_tables(rows([0.5] * 3), other, [0])


def test_empty_tables_and_impossible_radii_are_refused() -> None:
    with pytest.raises(ValueError, match="no rows; certify some images first"):
        compare_tables(rows([0.5])[:0], rows([0.5])[:0], [0])
    with pytest.raises(ValueError, match="radii must be finite numbers >= 0"):
        compare_tables(rows([0.5]), rows([0.5]), [-0.1])


def test_different_sigma_is_compared_when_asked_for() -> None:
    found = compare_tables(rows([0.5, 0.4]), rows([0.25, 0.4], sigma=0.25), [0.5], different_sigma=True)
    assert (found.at[0].only_a, found.at[0].only_b) == (1, 0)


def test_the_verdict_names_only_what_is_shown() -> None:
    def say(a: Sequence[float | None], b: Sequence[float | None]) -> tuple[Comparison, str]:
        found = compare_tables(rows(a), rows(b), [0, 0.5, 0.75])
        return found, verdict(found, "A", "B")

    found, text = say([0.0] * 10 + [0.8] * 30, [0.3] * 40)
    interval = outwards_text(found.low, found.high, 4)
    assert text == (
        f"A has the higher ACR, +0.3000 against B (95 % interval {interval}); "
        "the certified accuracy of A is higher at r = 0.50, 0.75 and lower at r = 0.00."
    )
    found, text = say([0.3] * 40, [0.3, 0.4] * 20)
    assert text.startswith("A has the lower ACR, -0.0500 against B")
    assert text.endswith("at none of 3 radii is a difference shown in certified accuracy.")
    assert say([0.3, 0.4] * 5, [0.4, 0.3] * 5)[1].startswith("No difference in ACR is shown between A and B (")


def test_intervals_are_printed_outwards_with_signs() -> None:
    assert outwards_text(-0.12341, 0.12341, 4) == "[-0.1235, +0.1235]"
    assert outwards_text(0.12349, 0.2, 4) == "[+0.1234, +0.2000]"


def test_an_interval_of_differences_that_are_constant_up_to_rounding_is_they_themselves() -> None:
    low, high = mean_interval([0.5 - 0.3, 0.7 - 0.5, 0.2])
    assert low == pytest.approx(high, abs=1e-12)
    assert low <= 0.2 <= high


def test_sign_flips_are_enumerated_where_few_differ() -> None:
    # Of the 8 signs of 1, 2, 4 the sums 7 and -7 reach 7; 5 and more is reached by 7 and 5, and by their negatives.
    assert sign_flip_p_value([1, 2, 0, 4, 0]) == 2 / 8
    assert sign_flip_p_value([-1, 2, 4]) == 4 / 8
    assert sign_flip_p_value([0.0, 0.0]) == 1
    assert sign_flip_p_value([0.3]) == 1


def test_sign_flips_by_chance_agree_with_the_normal_law(seed: int) -> None:
    # The sum of 400 differences of size one is normal to 1e-3; 10,000 draws have a standard error of .002 at .05, and
    # a deviation of .012 a chance below 1e-8.
    differences = np.ones(400) * np.where(np.arange(400) < 219, 1, -1)  # a sum of 38: 1.9 standard deviations
    exact = 2 * stats.binom.sf(218, 400, 0.5)
    assert sign_flip_p_value(differences, seed=seed) == pytest.approx(exact, abs=0.012)


@pytest.mark.parametrize("radii", [[0.9], [0.9, 0.8, 0.7, 0.6, 0.5]])
def test_few_images_that_all_favour_one_table_are_no_verdict(radii: list[float]) -> None:
    # Their interval excludes 0, but five images fall to one side with probability 1/16.
    comparison = compare_tables(rows(radii), rows([0.1] * len(radii)), [0.0])
    assert comparison.low > 0
    assert comparison.p_value == 2 / 2 ** len(radii)
    assert verdict(comparison, "a", "b").startswith("No difference in ACR is shown between a and b")
