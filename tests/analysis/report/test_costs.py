"""What a page says of costs and limits: mistakes, what bands show, what numbers leave open, and its words."""

from pathlib import Path

import numpy as np
import pytest
from paired_table import table
from report_pages import LENET, Page, write_run

from maxup_smoothing.analysis.comparison.difference import DifferenceCurve
from maxup_smoothing.analysis.comparison.networks import AtRadius
from maxup_smoothing.analysis.comparison.outcomes import certified_mistakes, failures
from maxup_smoothing.analysis.comparison.significance import mcnemar_p_value
from maxup_smoothing.analysis.comparison.text import band_text
from maxup_smoothing.analysis.report.comparisons import pairs
from maxup_smoothing.analysis.report.overview import caveats, total
from maxup_smoothing.analysis.report.page import build_page, origin, terms
from maxup_smoothing.analysis.report.subjects import ReportRun, load_subjects
from maxup_smoothing.analysis.report.text import filters
from maxup_smoothing.certify.tables.radius_table import read

FASHION = [LENET / "fashion_mnist" / name / "radii.tsv" for name in ("gaussian", "maxup-4")]


@pytest.fixture(scope="module")
def lenet() -> list[ReportRun]:
    return load_subjects(FASHION)


@pytest.fixture(scope="module")
def page(lenet: list[ReportRun]) -> Page:
    return Page(build_page(lenet))


def test_wrong_answers_and_abstentions_are_tested_by_the_images_of_one_alone() -> None:
    # Of 12 images A has seven wrong that B has right, one both; B abstains on one that A has right.
    a = table([-0.2] * 8 + [0.5] * 4)
    b = table([0.5] * 7 + [-0.2] + [0.5] * 3 + [0.0])
    wrong, abstained = failures(a, b)
    assert (wrong.a, wrong.b, wrong.only_a, wrong.only_b) == (8, 1, 7, 0)
    assert (abstained.a, abstained.b, abstained.only_a, abstained.only_b) == (0, 1, 0, 1)
    assert wrong.difference == pytest.approx(7 / 12)
    # 7 of 7 discordant images: 2 / 2^7; Holm doubles the smaller of the two p-values.
    assert wrong.p_holm == 2 * mcnemar_p_value(7, 0) == 4 / 2**7
    assert abstained.p_holm == 1
    assert wrong.low < wrong.difference < wrong.high


def test_mistakes_are_counted_by_the_radius_they_bear_and_abstentions_bear_none() -> None:
    a, b = table([-0.2, -0.5, -0.5, 0.0, 0.9]), table([0.2, -0.5, 0.1, 0.0, 0.9])
    found = certified_mistakes(a, b, [0.25, 0.5, 0.75])
    assert [(one.name, one.a, one.b, one.only_a) for one in found] == [
        ("0.25", 2, 1, 1),
        ("0.5", 2, 1, 1),
        ("0.75", 0, 0, 0),
    ]


def test_the_table_of_a_comparison_holds_costs_beside_gains(lenet: list[ReportRun]) -> None:
    (pair,), _ = pairs(lenet, None, [0.0, 1.0, 1.5])
    assert pair.table is not None
    rows = {row[0]: row[1:] for row in pair.table.rows}
    assert rows["wrong", "73 against 54"] == (("+3.8", "[+1.6, +6.0]"), "0.002", "25", "6")
    assert rows["abstained", "7 against 20"][1:] == ("0.005", "3", "16")
    assert pair.table.header[2] == "p (Holm)"
    assert rows["1.00"][1:] == ("≤ 0.001", "38", "0")
    assert pair.mistakes is not None
    assert [row[:3] for row in pair.mistakes.rows] == [("1.00", "16", "3"), ("1.50", "7", "0")]


def test_a_comparison_without_confident_mistakes_has_no_table_of_them(tmp_path: Path) -> None:
    paths = [write_run(tmp_path / name, "0\t1\t1\t0.5\t1\t3\n1\t1\t-1\t0.0\t0\t3\n") for name in "ab"]
    (pair,), _ = pairs(load_subjects(paths), None, [0.0, 0.25])
    assert pair.mistakes is None


def curve(difference: list[float], narrow: float, wide: float) -> DifferenceCurve:
    middle = np.array(difference)
    radius = np.arange(len(middle)) / 10
    return DifferenceCurve(radius, middle, middle - narrow, middle + narrow, middle - wide, middle + wide)


def at(radius: float, p_holm: float) -> AtRadius:
    return AtRadius(radius=radius, only_a=1, only_b=0, difference=0.1, low=0, high=0.2, p_value=p_holm, p_holm=p_holm)


def test_what_bands_show_is_told_by_side_and_radius() -> None:
    # A is behind up to .1, which no band shows over all; ahead from there, shown from above .3 on.
    found = curve([-0.03, -0.03, 0.04, 0.04, 0.09, 0.09], narrow=0.02, wide=0.05)
    assert band_text(found, [at(0.2, 0.04), at(0.4, 0.001), at(0.1, 0.5)], "new", "old") == (
        "Over all radii at once, new is shown to certify more from r = 0.300 on. "
        "new is ahead from r = 0.100 to 0.300, by at most 4.0 points, without that being shown over all; the interval "
        "at a radius by itself leaves 0 from r = 0.100 to 0.300. "
        "old is ahead from r = 0.000 to 0.100, by at most 3.0 points, without that being shown over all; the interval "
        "at a radius by itself leaves 0 from r = 0.000 to 0.100. "
        "At r = 0.20 the table shows a difference and the wide band does not: the table is corrected over its 3 radii, "
        "the band over all of them."
    )


def test_what_holds_in_places_only_is_said_to() -> None:
    found = curve([0.0, 0.2, 0.0, 0.2, 0.0, 0.2], narrow=0.1, wide=0.1)
    text = "new is shown to certify more from r = 0.400 on, and in places from 0.000 on."
    assert text in band_text(found, [], "new", "old")
    found = curve([0.0, 0.2, 0.0, 0.2, 0.0], narrow=0.3, wide=0.3)
    text = band_text(found, [], "new", "old")
    assert text.startswith("Over all radii at once, no difference is shown. new is ahead in places between r = 0.000")
    assert "by itself" not in text


def test_what_the_numbers_leave_open_is_told_although_nothing_is_wrong(lenet: list[ReportRun], page: Page) -> None:
    found = " ".join(caveats(lenet, ["no data"] * 2))
    for text in (
        "One training run each (seed 0)",
        "gaussian: 1 copy (1 forward and 1 backward passes); maxup-4: 4 copies (5 forward and 1 backward passes)",
        "certified in bfloat16, which rounds more coarsely",
        "batch size 64 (gaussian) and 128 (maxup-4)",
        "Each is certified as a classifier of its own",
        "500 of 10,000 images were certified",
    ):
        assert text in found
    assert "nothing to warn of" not in page.text
    assert "batch size 64 (gaussian) and 128 (maxup-4)" in page.text


def test_what_no_file_tells_is_no_caveat(tmp_path: Path) -> None:
    subjects = load_subjects([write_run(tmp_path / "a", "0\t1\t1\t0.5\t1\t3\n")])
    assert caveats(subjects, ["no data"]) == [
        "One training run: another seed would give another network; how different is not known."
    ]
    assert total(subjects[0], "no data") is None


def test_float32_at_one_batch_size_is_told_as_one(tmp_path: Path) -> None:
    manifest = {
        "classifier": {"dtype": "float32", "batch_size": 32},
        "protocol": {"indices": "0:70:7"},
    }
    paths = [write_run(tmp_path / name, "0\t1\t1\t0.5\t1\t3\n", manifest=manifest) for name in "ab"]
    subjects = load_subjects(paths)
    found = " ".join(caveats(subjects, ["no data"] * 2))
    assert "float32" not in found
    assert "Certified at batch size 32: rounding may depend on it" in found
    assert "of its own" not in found
    assert total(subjects[0], "no data") == 70


def test_the_first_screen_explains_its_words_with_the_values_of_the_runs(lenet: list[ReportRun], page: Page) -> None:
    words = dict(terms(lenet))
    assert words["sigma"] == "standard deviation of the noise, in the same units of pixels: 0.5."
    assert words["alpha"].endswith(": 0.001.")
    assert words["n"].endswith(": 100,000.")
    assert set(words) == {"radius r", "sigma", "n", "alpha", "ACR"}
    assert (
        origin(lenet[1]) == "Trained on the loss of the worst of 4 noisy copies (maxup), m = 4, sigma = 0.5, 90 epochs."
    )
    text = page.text
    assert text.index("standard deviation of the noise") < text.index("has the higher ACR")
    assert text.count("has the higher ACR") == 1


def test_a_run_without_a_configuration_has_no_origin(tmp_path: Path) -> None:
    (subject,) = load_subjects([write_run(tmp_path / "a", "0\t1\t1\t0.5\t1\t3\n")])
    assert origin(subject) is None


def test_names_of_runs_are_kept_in_one_line_and_nothing_is_left_unescaped() -> None:
    named = filters(["maxup-4", "up-4", "a" * 20 + "-" + "b" * 20, "<b>-1", "plain"])["named"]
    assert named("maxup-4 & xmaxup-4") == '<span class="name">maxup-4</span> &amp; xmaxup-4'
    assert named("<b>-1!") == '<span class="name">&lt;b&gt;-1</span>!'
    assert named("plain " + "a" * 20 + "-" + "b" * 20).count("span") == 0


def test_technical_names_break_at_their_joints_and_numbers_do_not() -> None:
    jointed = filters([])["jointed"]
    assert jointed("classifier.classes_on_probe") == "classifier.<wbr>classes_<wbr>on_<wbr>probe"
    assert jointed("sigma 0.5 <i>") == "sigma 0.5 &lt;i&gt;"


def test_the_summary_counts_the_confident_mistakes(page: Page) -> None:
    text = page.text
    table = read(FASHION[1])
    wrong = int(((table["correct"] == 0) & (table["predict"] >= 0) & (table["radius"] >= 1)).sum())
    assert wrong == 16
    assert "wrong, and certified at 1.00 or more 3 (0.6 %) 16 (3.2 %)" in text
    assert "wrong and at the ceiling 0 (0.0 %) 4 (0.8 %)" in text
