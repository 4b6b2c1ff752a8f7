import json
import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from places import SHARED

from maxup_smoothing.certify.statistics.binomial import proportion_interval
from maxup_smoothing.certify.statistics.radius import ceiling_radius
from maxup_smoothing.certify.statistics.rounding import ceil_text, floor_text, fraction_text, radius_text
from maxup_smoothing.certify.tables.population import population_lower_bound, simultaneous
from maxup_smoothing.certify.tables.radius_table import read
from maxup_smoothing.certify.tables.summary import certified_accuracy, default_radii, radii_of, render, summarize

LOGS = SHARED / "reference-logs"
needs_logs = pytest.mark.skipif(not LOGS.is_dir(), reason="the reference logs are not on this machine")

# Four images: right at 0.5 and at 0.25, wrong but certified at 0.75, abstained.
FIELD = pd.DataFrame(
    {
        "idx": [0, 1, 2, 3],
        "label": [3, 3, 3, 3],
        "predict": [3, 3, 4, -1],
        "radius": [0.5, 0.25, 0.75, 0.0],
        "correct": [1, 1, 0, 0],
        "time": [1.0, 2.0, 4.0, 9.0],
    }
)
OURS = FIELD.assign(n0=100, n=1000, alpha=0.001, sigma=0.5)


def test_certified_accuracy_counts_right_predictions_with_radius_at_least_r_among_all_images() -> None:
    table = certified_accuracy(FIELD, [0.0, 0.25, math.nextafter(0.25, 1), 0.5, 0.75])
    assert table["certified"].tolist() == [2, 2, 1, 1, 0]
    assert table["accuracy"].tolist() == [0.5, 0.5, 0.25, 0.25, 0.0]
    assert table["images"].tolist() == [4] * 5
    low, high = proportion_interval([2, 2, 1, 1, 0], 4)
    assert table["low"].tolist() == low.tolist()
    assert table["high"].tolist() == high.tolist()
    assert table["population"].isna().all()
    told = certified_accuracy(FIELD.assign(alpha=[0.1, 0.2, 0.1, 0.1]), [0.0, 0.5], confidence=0.5)
    assert told["population"].tolist() == population_lower_bound([2, 1], 4, 0.2, 0.5).tolist()


def test_a_summary_counts_abstentions_and_wrong_images_as_zero() -> None:
    summary = summarize(OURS)
    assert summary.acr == (0.5 + 0.25) / 4
    assert (summary.images, summary.correct, summary.wrong, summary.abstained) == (4, 2, 1, 1)
    assert summary.largest_radius == 0.75
    assert summary.median_seconds == 3.0
    assert (summary.sigma, summary.n0, summary.n, summary.alpha) == (0.5, 100, 1000, 0.001)
    assert summary.ceiling == ceiling_radius(1000, 0.001, 0.5)


def test_what_a_file_does_not_say_once_for_all_rows_is_none() -> None:
    assert summarize(FIELD).sigma is None
    assert summarize(FIELD).ceiling is None
    varied = OURS.assign(sigma=[0.5, 0.5, 0.5, 0.25])
    assert summarize(varied).sigma is None
    assert summarize(varied).ceiling is None
    assert summarize(varied).n == 1000


def test_a_table_without_rows_says_so() -> None:
    for call in (summarize, render, radii_of):
        with pytest.raises(ValueError, match="no rows: nothing has been certified yet"):
            call(FIELD.iloc[:0])
    with pytest.raises(ValueError, match="no rows"):
        certified_accuracy(FIELD.iloc[:0], [0.0])


@pytest.mark.parametrize("radius", [-0.1, math.inf, math.nan])
def test_radii_must_be_finite_and_not_negative(radius: float) -> None:
    with pytest.raises(ValueError, match="radii must be finite numbers >= 0"):
        certified_accuracy(FIELD, [0.0, radius])


def test_default_radii_are_exact_multiples_below_the_ceiling() -> None:
    assert default_radii(1.9057) == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
    assert default_radii(0.5) == [0.0, 0.25]
    assert default_radii(0.1) == [0.0]
    assert default_radii(0.0) == [0.0]
    assert all(radius * 4 == index for index, radius in enumerate(default_radii(25)))


def test_radii_reach_the_ceiling_or_the_largest_radius() -> None:
    assert radii_of(OURS) == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert radii_of(FIELD) == [0.0, 0.25, 0.5, 0.75]


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(1, 6))
def test_printed_fractions_are_never_above_the_true_ones(part: int, whole: int, digits: int) -> None:
    printed = Fraction(fraction_text(part, whole, digits))
    assert printed <= Fraction(part, whole) < printed + Fraction(1, 10**digits)


@given(st.floats(0, 1e6), st.integers(1, 6))
def test_floors_are_below_and_ceilings_above(value: float, digits: int) -> None:
    exact = Fraction(repr(value))
    assert Fraction(floor_text(value, digits)) <= exact <= Fraction(ceil_text(value, digits))
    assert Fraction(ceil_text(value, digits)) - Fraction(floor_text(value, digits)) <= Fraction(1, 10**digits)


def test_numbers_are_printed_plainly() -> None:
    assert fraction_text(2, 3, 4) == "0.6666"
    assert fraction_text(0, 7, 6) == "0.000000"
    assert fraction_text(7, 7, 3) == "1.000"
    assert floor_text(1.0959, 2) == "1.09"
    assert floor_text(0.3, 1) == "0.3"
    assert floor_text(1e-9, 4) == "0.0000"
    assert ceil_text(1e-9, 4) == "0.0001"
    assert [radius_text(radius) for radius in (0, 0.5, 0.25, 0.125, 1 / 3)] == [
        "0.00",
        "0.50",
        "0.25",
        "0.125",
        "0.3333333333333333",
    ]


def test_the_rendering_is_this_text() -> None:
    assert render(OURS) == (
        "  radius      certified  accuracy  95 % interval     population >=\n"
        "    0.00            2/4    0.5000  [0.0675, 0.9325]         0.0967\n"
        "    0.25            2/4    0.5000  [0.0675, 0.9325]         0.0967\n"
        "    0.50            1/4    0.2500  [0.0063, 0.8059]         0.0117\n"
        "    0.75            0/4    0.0000  [0.0000, 0.6024]         0.0000\n"
        "    1.00            0/4    0.0000  [0.0000, 0.6024]         0.0000\n"
        "\n"
        "ACR             0.1875 at sigma=0.5, n0=100, n=1000, alpha=0.001\n"
        "ceiling         1.2316, the radius of a unanimous vote\n"
        "largest radius  0.7500\n"
        "abstained       1/4\n"
        "wrong           1/4, predicted and certified as another class\n"
        "false           none of 3 certificates, with probability 0.996\n"
        "population      truly robust share at confidence 0.95, for randomly drawn images\n"
        "time            0:00:03.000000 an image (median)"
    )
    assert "unknown n and alpha" in render(FIELD)


def test_a_log_without_alpha_says_nothing_about_the_population_or_false_certificates() -> None:
    lines = render(FIELD, [0.25]).splitlines()
    assert lines[1] == "    0.25            2/4    0.5000  [0.0675, 0.9325]        unknown"
    assert "false           unknown: it takes alpha" in lines


def test_false_certificates_are_bounded_by_number_once_some_are_likely() -> None:
    many = pd.concat([OURS] * 50, ignore_index=True)
    assert "false           at most 1 of 150 certificates, with probability 0.95" in render(many).splitlines()
    nothing = OURS.assign(predict=-1, correct=0, radius=0.0)
    assert "false           none of 0 certificates, with probability 1" in render(nothing).splitlines()


def test_simultaneous_certificates_are_rendered_with_their_own_alpha_and_probability() -> None:
    votes = OURS.assign(n_a=[990, 950, 999, 400], p_a_lower=[0.97, 0.92, 0.98, 0.3], radius=[0.9, 0.7, 1.0, 0.0])
    text = render(simultaneous(votes))
    assert "at sigma=0.5, n0=100, n=1000, alpha=0.00025\n" in text
    assert "false           none of 3 certificates, with probability 0.999\n" in text


@pytest.mark.parametrize("table", [FIELD, OURS])
def test_lines_have_at_most_80_columns(table: pd.DataFrame) -> None:
    assert max(len(line) for line in render(table, [0, 1 / 3]).splitlines()) <= 80
    many = table.loc[np.arange(100_000) % 4].assign(alpha=0.123456789)
    assert max(len(line) for line in render(many, [0, 1 / 3]).splitlines()) <= 80


@needs_logs
def test_published_logs_give_the_known_answers() -> None:
    answers = json.loads((LOGS / "answers.json").read_text())
    assert len(answers) == 7
    for answer in answers:
        table = read(LOGS / answer["file"])
        summary = summarize(table)
        assert summary.images == answer["rows"]
        assert summary.acr == pytest.approx(answer["ACR"], abs=5.1e-7)
        assert summary.abstained / summary.images == pytest.approx(answer["abstain"], abs=5.1e-7)
        assert summary.largest_radius == answer["max_radius"]
        assert summary.median_seconds == pytest.approx(answer["median_seconds"], abs=5.1e-5)
        radii = [float(radius) for radius in answer["certified_accuracy"]]
        assert certified_accuracy(table, radii)["accuracy"].tolist() == pytest.approx(
            list(answer["certified_accuracy"].values()), abs=5.1e-7
        )


@needs_logs
def test_a_published_curve_is_reproduced_at_every_radius() -> None:
    table = read(LOGS / "logs" / "salman-consistency-mnist-0.50")
    curve = pd.read_csv(LOGS / "logs" / "salman-consistency-mnist-0.50_acc", sep="\t", names=["radius", "accuracy"])
    # Its authors evaluated at floating-point multiples of 0.005: 70 * 0.005 > 0.35, so radii of exactly 0.35 fell out.
    theirs = certified_accuracy(table, (np.arange(801) * 0.005).tolist())["accuracy"]
    assert theirs.tolist() == pytest.approx(curve["accuracy"].tolist(), abs=1e-9)
    exact = certified_accuracy(table, curve["radius"].tolist())["accuracy"]
    assert (exact >= theirs).all()
    assert (exact > theirs).sum() == 23
