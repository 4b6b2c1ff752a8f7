from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from maxup_smoothing.analysis.comparison.methods import compare_seeds, mean_difference, spread
from maxup_smoothing.analysis.comparison.text import of_methods, verdict_of_methods


def table(radii: Sequence[float], **settings: object) -> pd.DataFrame:
    """Label 1, one radius an image; 0 is an abstention."""
    return pd.DataFrame(
        {
            "idx": range(len(radii)),
            "label": 1,
            "predict": [1 if radius else -1 for radius in radii],
            "radius": [float(radius) for radius in radii],
            "correct": [int(bool(radius)) for radius in radii],
            **{"sigma": 0.5, "n": 1000, "alpha": 0.001, "procedure": "fixed", "bound": "clopper-pearson", **settings},
        }
    )


def test_the_interval_of_pairs_is_students_by_hand() -> None:
    # Differences .1, .2, .3: mean .2, sd .1; t(.975, 2) = 4.302653.
    found = mean_difference([1.1, 1.3, 1.5], [1.0, 1.1, 1.2], paired=True)
    assert found.difference == pytest.approx(0.2)
    half = 4.302652729911275 * 0.1 / 3**0.5
    assert (found.low, found.high) == pytest.approx((0.2 - half, 0.2 + half))
    assert found.p_value == pytest.approx(2 * stats.t.sf(0.2 / (0.1 / 3**0.5), 2))


def test_the_interval_of_two_samples_is_welchs_by_hand() -> None:
    a, b = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 1.5])
    va, vb = a.var(ddof=1) / 4, b.var(ddof=1) / 2
    freedom = (va + vb) ** 2 / (va**2 / 3 + vb**2 / 1)
    half = stats.t.ppf(0.975, freedom) * (va + vb) ** 0.5
    found = mean_difference(a, b, paired=False)
    assert (found.low, found.high) == pytest.approx((1.25 - half, 1.25 + half))
    assert found.p_value == pytest.approx(stats.ttest_ind(a, b, equal_var=False).pvalue)


@pytest.mark.parametrize("paired", [True, False])
def test_where_nothing_varies_there_is_no_interval(paired: bool) -> None:
    found = mean_difference([1.0, 1.0], [0.5, 0.5], paired=paired)
    assert found.difference == 0.5
    assert np.isnan([found.low, found.high, found.p_value]).all()


def test_pairing_takes_out_what_seeds_share(seed: int) -> None:
    # Differences of pairs have a hundredth of the spread of the seeds: paired shows them, two samples cannot. With 8
    # seeds the paired t statistic is some 280 and the other one below 1 but for a chance of 1e-9.
    rng = np.random.default_rng(seed)
    common = rng.normal(0, 1, 8)
    a, b = common + 0.1 + rng.normal(0, 0.001, 8), common
    assert mean_difference(a, b, paired=True).p_value < 1e-6
    assert mean_difference(a, b, paired=False).p_value > 0.5


def test_methods_are_compared_seed_by_seed_with_holm_over_radii() -> None:
    a = [table([1.0, 1.0, 0.4, 0.0]), table([1.2, 0.9, 0.5, 0.2]), table([1.1, 0.8, 0.0, 0.1])]
    b = [table([0.6, 0.4, 0.0, 0.0]), table([0.9, 0.3, 0.1, 0.0]), table([0.5, 0.4, 0.0, 0.0])]
    found = compare_seeds(a, b, [0.0, 0.5, 1.5], paired=True)
    assert found.acr_a == pytest.approx((0.6, 0.7, 0.5))
    assert found.acr_b == pytest.approx((0.25, 0.325, 0.225))
    assert found.acr.difference == pytest.approx(0.6 - 0.8 / 3)
    # At r = 0 three, four and three of four against two, three and two; at .5 2, 3 and 2 against 1, 1 and 1.
    assert [row.difference for row in found.at] == pytest.approx([0.25, 1 / 3, 0])
    assert np.isnan(found.p_holm[0])  # one image more with every seed: no spread
    assert np.isnan(found.p_holm[2])
    assert found.p_holm[1] == pytest.approx(min(1, 3 * found.at[1].p_value))  # of a family of three all the same
    text = of_methods(found, "new", "old")
    assert "A  new: ACR 0.6000, standard deviation 0.1000 over seeds (0.6000, 0.7000, 0.5000)" in text
    assert "seed by seed (paired t)" in text
    assert "nothing varies" in text
    sentence = verdict_of_methods(found, "new", "old")
    assert sentence.startswith("The method new has the higher ACR, +0.3333 against old (95 % t interval [+0.2")
    assert "3 and 3 training seeds" in sentence


def test_a_verdict_of_two_seeds_shows_nothing_where_they_disagree() -> None:
    a, b = [table([1.0, 0.2]), table([0.2, 0.2])], [table([0.5, 0.2]), table([0.6, 0.2])]
    found = compare_seeds(a, b, [0.0, 0.4], paired=False)
    assert "No difference in ACR is shown" in verdict_of_methods(found, "x", "y")
    assert "as two samples of seeds (Welch's t)" in of_methods(found, "x", "y")


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([[1.0]], [[1.0], [0.5]], "at least two training seeds of each, got 1 and 2"),
        ([[1.0], [0.5]], [[1.0], [0.5], [0.6]], "paired seeds need as many tables of each method, got 2 and 3"),
        ([[1.0], [0.5]], [[1.0], [0.5, 0.6]], "about different images"),
    ],
)
def test_what_cannot_be_compared_is_refused(a: list[list[float]], b: list[list[float]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compare_seeds([table(radii) for radii in a], [table(radii) for radii in b], [0.0], paired=True)


def test_other_settings_are_refused_for_any_seed() -> None:
    with pytest.raises(ValueError, match="different alpha"):
        compare_seeds([table([1.0]), table([1.0], alpha=0.01)], [table([1.0])] * 2, [0.0], paired=False)


def test_the_spread_of_one_seed_is_unknown() -> None:
    assert spread([1.0, 3.0]) == pytest.approx((2.0, 2**0.5))
    assert np.isnan(spread([1.0])[1])
