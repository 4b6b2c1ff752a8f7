"""Figures of the theory check can be read by themselves: nothing is cut off, hidden or left without its name."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from maxup_smoothing.analysis.theory import figures
from maxup_smoothing.analysis.theory.figures import heading
from maxup_smoothing.analysis.theory.norms import Norms
from maxup_smoothing.analysis.theory.regression import Across, Interval
from maxup_smoothing.analysis.theory.verdict import AtSigma, Study, Verdict, Word

SIGMAS = (1e-4, 1e-3, 0.5)


def interval(value: float, half: float = 0.0) -> Interval:
    return Interval(value=value, low=value - half, high=value + half)


def verdict(m: int, word: Word, *, half: float = 1.5, size: float = 1.0, holds_to: float | None = None) -> Verdict:
    """Wide intervals for other images at the largest sigma, and a remainder that is lost at the smallest one."""
    ratios = ((1.12, 0.3, "fails"), (1.0, 0.2, "undecided"), (1.3, half, "fails"))
    at = tuple(
        AtSigma(
            sigma=sigma,
            pooled=interval(ratio, wide),
            drawn=interval(ratio, 0.01),
            plain=interval(ratio),
            predicted=1 + sigma,
            word=said,
            images=Counter(),
            quartiles=(1, 1, 1),
        )
        for sigma, (ratio, wide, said) in zip(SIGMAS, ratios, strict=True)
    )
    return Verdict(
        m=m,
        constant=1.0,
        second=1.0,
        word=word,
        why="",
        margin=0.05,
        noise=interval(1),
        limits=Counter(),
        limit_off=0.0,
        curvature=None,
        orders=(interval(2.0), None),
        remainders=((None, interval(size * 1e-6), interval(size)), (None, None, interval(size))),
        holds_to=holds_to,
        at=at,
        across=Across(slope=interval(1), intercept=interval(0), r_squared=1.0),
    )


def study(name: str, *verdicts: Verdict) -> Study:
    return Study(
        name=name,
        images="40 evenly spaced mnist test images",
        count=40,
        groups=16,
        sigma=None,
        nudge=0.0,
        kinks=("Relu",),
        smooth=False,
        corners=0,
        reach=0.1,
        word="FAIL",
        verdicts=verdicts,
    )


@pytest.fixture
def studies() -> list[Study]:
    fail, passed = verdict(2, "FAIL"), verdict(16, "PASS", half=0.1, holds_to=1e-3)
    known = replace(study("b$", fail, passed), sigma=0.5, nudge=0.01)
    return [study("a", fail, passed), known]


def panels(figure: Figure) -> list[list[Axes]]:
    return [row.axes for row in figure.subfigs]


def titles(figure: Figure) -> list[list[str]]:
    return [[axes.get_title("left") for axes in row] for row in panels(figure)]


def test_each_number_of_copies_has_its_panel_which_says_what_was_found(studies: list[Study]) -> None:
    figure = figures.law(studies)
    assert titles(figure) == [["m = 2: FAIL, holds at no σ tried", "m = 16: PASS, holds up to σ = 0.001"]] * 2
    for criterion in ("PASS: at the smallest σ", "FAIL: the whole thick bar", "NO VERDICT"):
        assert criterion in figure.get_suptitle().replace("\n", " ")


def test_no_bar_of_the_law_is_cut_off(studies: list[Study]) -> None:
    for row in panels(figures.law(studies)):
        for axes in row:
            low, high = axes.get_ylim()
            drawn = [float(y) for line in axes.lines for y in np.asarray(line.get_ydata(), dtype=float)]
            assert low < min(drawn)
            assert max(drawn) < high
            assert [low, high] == pytest.approx([1.5 * -120, 1.5 * 180])  # the widest: 1.3 ± 1.5


def test_thick_bars_are_for_these_images_and_thin_ones_for_others(studies: list[Study]) -> None:
    axes = panels(figures.law(studies))[0][0]
    bars = {
        round(line.get_linewidth()): np.round(np.asarray(line.get_ydata(), dtype=float), 6).tolist()
        for line in axes.lines
        if np.asarray(line.get_xdata()).tolist() == [1e-4, 1e-4]
    }
    assert bars == {4: [11, 13], 1: [-18, 42]}


def test_what_is_said_at_a_sigma_is_told_by_the_mark_without_its_colour(studies: list[Study]) -> None:
    axes = panels(figures.law(studies))[0][0]
    marks = [(line.get_marker(), line.get_markerfacecolor()) for line in axes.lines if line.get_marker() != "None"]
    assert [marker for marker, _ in marks] == ["X", "o", "X"]
    assert marks[1][1] == "white"


def test_a_row_says_which_images_it_is_about_and_what_was_done_to_them(studies: list[Study]) -> None:
    first, second = figures.law(studies).subfigs
    assert first.get_suptitle() == (
        "a: 40 evenly spaced mnist test images\nnetwork with kinks, margin 5 %; 16 groups of m copies at each image"
    )
    assert "b\\$: 40 evenly spaced mnist test images, each moved once by N(0, 0.01²) noise" in second.get_suptitle()
    cornered = heading(replace(studies[0], corners=36))
    assert cornered.endswith("; at 36 of 40 images the loss has no gradient")


def test_the_sigma_of_training_is_marked_behind_all_where_it_is_known(studies: list[Study]) -> None:
    figure = figures.law(studies)
    unknown, known = ([patch.get_facecolor() for patch in row[0].patches] for row in panels(figure))
    assert len(known) == len(unknown) + 1
    (legend,) = figure.legends
    assert "σ of training" in [text.get_text() for text in legend.get_texts()]
    (alone,) = figures.law(studies[:1]).legends
    assert "σ of training" not in [text.get_text() for text in alone.get_texts()]


def test_panels_of_remainders_have_the_same_axes(studies: list[Study]) -> None:
    small = study("small", verdict(2, "PASS", size=1e-9), verdict(16, "PASS", size=1e-9))
    figure = figures.orders([*studies, small])
    limits = {(axes.get_xlim(), axes.get_ylim()) for row in panels(figure) for axes in row}
    assert len(limits) == 1
    (((left, right), (low, high)),) = limits
    assert left < min(SIGMAS)
    assert max(SIGMAS) < right
    assert low < 1e-15
    assert high > 1


def test_what_is_lost_has_no_mark_and_the_figure_says_why(studies: list[Study]) -> None:
    figure = figures.orders(studies)
    first, second = panels(figure)[0][0].lines
    assert np.isnan(np.asarray(first.get_ydata(), dtype=float)).tolist() == [True, False, False]
    assert np.isnan(np.asarray(second.get_ydata(), dtype=float)).tolist() == [True, True, False]
    assert first.get_linewidth() > 2 * second.get_linewidth()  # where they coincide, both are seen
    assert titles(figure)[0] == ["m = 2: exponents 2.00 and unresolved", "m = 16: exponents 2.00 and unresolved"]
    for reason in ("Where a mark is missing", "an exponent is unresolved"):
        assert reason in figure.get_suptitle().replace("\n", " ")


def test_a_network_of_which_nothing_remains_is_drawn(studies: list[Study]) -> None:
    nothing = replace(studies[0].verdicts[0], remainders=((None,) * 3, (None,) * 3), orders=(None, None))
    figure = figures.orders([replace(studies[0], verdicts=(nothing,), reach=float("inf"))])
    assert titles(figure) == [["m = 2: exponents unresolved and unresolved"]]


def test_equal_medians_of_norms_are_both_seen_and_named() -> None:
    norm_I = np.array([0.01, 0.1, 1.0])
    one, other = (
        Norms(name=name, images="3 mnist test images", sigma=0.5, loss=1.0, clean_I=values, noisy_I=norm_I)
        for name, values in (("one", norm_I), ("two", np.array([0.0, 0.02, 0.1, 3.0])))
    )
    figure = figures.norms([one, other])
    assert figure.get_suptitle().endswith("|∇ₓL|; 3 mnist test images")
    at_images, at_copies = figure.axes
    assert at_copies.get_title("left") == "at one noisy copy of each, σ = 0.5 as in training"
    legends = [axes.get_legend() for axes in (at_images, at_copies)]
    names = [[text.get_text() for text in legend.get_texts()] for legend in legends if legend is not None]
    assert names == [["one: 0.1", "two: 0.1; 1 of 0 not shown"], ["one: 0.1", "two: 0.1"]]
    assert at_images.get_xlim() == at_copies.get_xlim()
    # A line's pattern as (offset, dash, gap) in its width: the dash of one lies in the gap of the other.
    patterns = [line._unscaled_dash_pattern for line in at_images.lines]  # type: ignore[attr-defined]
    assert patterns == [(0, (4, 4)), (4, (4, 4))]
