"""Certificates that are all true together: each row again at alpha by the number of images."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from claimed_rows import ROUNDING, rows
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound
from maxup_smoothing.certify.statistics.radius import ABSTAIN, certified_radius
from maxup_smoothing.certify.tables.population import false_certificates, simultaneous
from maxup_smoothing.certify.tables.radius_table import complete
from maxup_smoothing.certify.tables.row import format_row, parse_row


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
