from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.patches import Rectangle
from written_tables import write_run

from maxup_smoothing.analysis.curves import Curve
from maxup_smoothing.analysis.figures.attack_bounds import draw_attack_bounds, under_attack
from maxup_smoothing.analysis.figures.classes import draw_classes, draw_parts
from maxup_smoothing.analysis.figures.curves import COLOURS, draw, upper_envelope
from maxup_smoothing.analysis.figures.votes import draw_samples, draw_shares, samples_used, shares_of_label
from maxup_smoothing.analysis.literature.curves import load_published, published_beside
from maxup_smoothing.analysis.runs.groups import by_class
from maxup_smoothing.analysis.runs.run import Run, load
from maxup_smoothing.certify.statistics.binomial import proportion_interval
from maxup_smoothing.certify.tables.summary import certified_accuracy

SIX = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Labels 3; of 1000 votes 300, 700, 900 and 1000 are for it."""
    return load([write_run(tmp_path / "ours" / "radii.tsv", [300, 700, 900, 1000])])[0]


@pytest.fixture
def log(tmp_path: Path) -> Run:
    (tmp_path / "log").write_text(SIX + "0\t3\t3\t0.5\t1\t3\n")
    return load([tmp_path / "log"])[0]


def test_shares_are_votes_for_the_label_whatever_was_predicted(run: Run) -> None:
    assert shares_of_label(run.table).tolist() == [0.3, 0.7, 0.9, 1.0]
    other = run.table.assign(label=[4, 9, 4, 4])
    assert shares_of_label(other).tolist() == [0.7, 0.0, 0.1, 0.0]


def test_the_distribution_of_votes_is_the_empirical_one(run: Run) -> None:
    axes = draw_shares([run]).axes[0]
    x, y = axes.lines[0].get_data()
    at = dict(zip(np.round(np.asarray(x, dtype=float), 6), np.asarray(y, dtype=float), strict=True))
    assert (at[0.3], at[0.7], at[0.9]) == (0.25, 0.5, 0.75)
    assert axes.get_xscale() == "logit"
    assert "logit" in axes.get_xlabel()
    ticks = [tick.get_text() for tick in axes.get_xticklabels()]
    assert (ticks[0], ticks[4], ticks[-2:]) == ("none", "50 %", ["99.99 %", "all"])
    assert [text.get_text() for text in axes.texts] == ["← surely wrong", "surely right →"]


def test_a_log_without_votes_or_samples_says_so_with_its_name(log: Run) -> None:
    with pytest.raises(ValueError, match=r"^log: the table has no column counts"):
        draw_shares([log])
    with pytest.raises(ValueError, match=r"^log: the table has no column n,"):
        draw_samples([log])


def test_samples_are_those_of_both_stages_and_all_are_drawn(run: Run) -> None:
    assert samples_used(run.table).tolist() == [1100] * 4
    figure = draw_samples([run])
    heights = [patch.get_height() for patch in figure.axes[0].patches if isinstance(patch, Rectangle)]
    assert sum(heights) == 4
    assert figure.axes[0].get_title("left") == "ours: mean 1,100, median 1,100, in all 4,400"
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["right (3)", "abstained (1)"]


@pytest.mark.parametrize("images", [1, 2, 3, 7])
def test_images_are_counted_at_whole_numbers(tmp_path: Path, images: int) -> None:
    (run,) = load([write_run(tmp_path / "few" / "radii.tsv", [1000] * images)])
    ticks = draw_samples([run]).axes[0].get_yticks()
    assert len(ticks) >= 2
    assert ticks.tolist() == ticks.round().tolist()


def test_parts_are_drawn_top_down_with_their_intervals(run: Run) -> None:
    parts = by_class(Run("x", run.table.assign(label=[3, 5, 3, 5]), run.summary))
    axes = draw_parts(parts, [0.0, 0.5]).axes[0]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["3 (2)", "5 (2)"]
    places = axes.get_yticks()
    assert places[0] > places[1]
    expected = [certified_accuracy(part.table, [0.5])["accuracy"][0] for part in parts]
    assert np.asarray(axes.lines[1].get_xdata()).tolist() == expected
    shades = [to_hex(line.get_color()) for line in axes.lines[:2]]
    assert len(set(shades)) == 2
    assert not {shade.upper() for shade in shades} & set(COLOURS)
    with pytest.raises(ValueError, match="one to four radii, got 5"):
        draw_parts(parts, [0, 1, 2, 3, 4])


def test_classes_of_several_runs_are_one_figure_with_a_panel_per_radius(run: Run) -> None:
    parts = by_class(Run("x", run.table.assign(label=[3, 5, 3, 5]), run.summary))
    figure = draw_classes({"a": parts, "b$": parts[::-1]}, [0.0, 0.5])
    assert [axes.get_title("left") for axes in figure.axes] == ["r = 0.00", "r = 0.50"]
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == ["3 (2)", "5 (2)"]
    for axes, radius in zip(figure.axes, (0.0, 0.5), strict=True):
        marks = [line for line in axes.lines if line.get_marker() in ("o", "s")]
        expected = [100 * certified_accuracy(part.table, [radius])["accuracy"][0] for part in parts]
        assert [np.asarray(line.get_xdata()).tolist() for line in marks] == [expected, expected[::-1]]
        assert [line.get_color() for line in marks] == list(COLOURS[:2])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", r"b\$"]
    with pytest.raises(ValueError, match="one to four radii, got 5"):
        draw_classes({"a": parts}, [0, 1, 2, 3, 4])


def test_the_envelope_is_the_best_run_at_each_radius_and_says_that_it_is_no_classifier(tmp_path: Path) -> None:
    runs = load(
        [
            write_run(tmp_path / "a" / "radii.tsv", [600, 700, 800]),
            write_run(tmp_path / "b" / "radii.tsv", [100, 100, 1000]),
        ]
    )
    figure = draw(runs, envelope=True)
    legend = figure.axes[0].get_legend() or figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()][-1] == "best run at each radius (not one classifier)"
    line = figure.axes[0].lines[-1]
    radius, accuracy = np.asarray(line.get_xdata(), dtype=float), np.asarray(line.get_ydata(), dtype=float)
    found = [certified_accuracy(run.table, radius.tolist())["accuracy"].to_numpy() for run in runs]
    assert np.array_equal(accuracy, np.maximum(*found))


def test_an_envelope_ends_where_each_of_its_curves_does() -> None:
    short = Curve(*(np.array([0.0, 1.0]), *(np.array([0.9, 0.8]),) * 3))
    long = Curve(*(np.array([0.0, 2.0]), *(np.array([0.5, 0.4]),) * 3))
    radius, accuracy = upper_envelope([short, long])
    assert radius.tolist() == [0.0, 1.0, 2.0]
    assert accuracy.tolist() == [0.9, 0.8, 0.4]


def test_published_curves_of_the_same_images_go_before_those_of_all() -> None:
    rows = load_published()
    found = published_beside(rows, "fashion-mnist", {0.5}, range(0, 10_000, 20))
    subsets = {row.method: row.subset for row in found}
    assert (subsets["Gaussian"], subsets["CAT-RS"], subsets["SmoothAdv"]) == ("skip20", "skip20", "full")
    assert {row.subset for row in published_beside(rows, "fashion-mnist", {0.5}, range(10_000))} == {"full"}
    with pytest.raises(
        ValueError, match=r"no published curve of mnist at the runs' sigma is known; there are: cifar10"
    ):
        published_beside(rows, "mnist", {0.7}, range(10_000))


def test_published_curves_are_named_at_their_ends(run: Run) -> None:
    rows = published_beside(load_published(), "fashion-mnist", {0.5}, range(0, 10_000, 20))
    axes = draw([run], published=rows).axes[0]
    texts = [text.get_text() for text in axes.texts]
    assert "CAT-RS" in texts
    assert "SmoothAdv*" in texts
    assert "dotted: published,\nfashion-mnist,\nn = 100,000\n* on all test images" in texts
    heights = sorted(text.get_position()[1] for text in axes.texts if text.get_text().rstrip("*").isalpha())
    assert min(np.diff(heights)) >= 0.034  # no name lies on another


def attacked(predicts: list[int], label: int = 3) -> pd.DataFrame:
    return pd.DataFrame({"idx": range(len(predicts)), "label": label, "predict": predicts})


def test_an_attack_within_a_certified_radius_breaks_the_certificate(run: Run) -> None:
    # Radii at least .23, .6 and 1.2 for the last three images; the first is predicted wrongly without an attack.
    found = under_attack(run, 0.5, attacked([4, 4, 4, -1]))
    assert (found.right, found.images) == (0, 4)
    assert found.broken == (2,)  # 1 is not certified at .5, and the last only abstained
    assert under_attack(run, 0.1, attacked([4, 3, 3, 3])).broken == ()
    assert under_attack(run, 0.0, attacked([4, 2, 3, 3])).broken == (1,)


@pytest.mark.parametrize(
    ("epsilon", "predictions", "message"),
    [
        (-1.0, attacked([3]), "must be a number >= 0, got -1.0"),
        (float("nan"), attacked([3]), "must be a number >= 0, got nan"),
        (0.1, attacked([]), "no predictions of attacked images"),
        (0.1, attacked([3] * 5), "1 of 5 attacked images are not in ours"),
        (0.1, attacked([3, 3], label=2), "2 of 2 attacked images are not in ours, or have another label"),
    ],
)
def test_attacks_on_other_images_are_refused(run: Run, epsilon: float, predictions: pd.DataFrame, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        under_attack(run, epsilon, predictions)


def test_the_figure_of_bounds_shows_both_sides(run: Run) -> None:
    attacks = {epsilon: under_attack(run, epsilon, attacked([4, 3, 3, 3])) for epsilon in (1.0, 0.25)}
    axes = draw_attack_bounds(run, attacks).axes[0]
    (bars,) = [part for part in axes.containers if isinstance(part, ErrorbarContainer)]
    line = bars.lines[0]
    assert line is not None
    assert np.asarray(line.get_xdata()).tolist() == [0.25, 1.0]
    assert np.asarray(line.get_ydata()).tolist() == [0.75, 0.75]
    low, high = (float(value) for value in proportion_interval(3, 4))
    assert line.get_drawstyle() == "steps-post"  # between two attacks the first one's bound holds
    (segments,) = (part.get_segments() for part in bars.lines[2])
    assert [segment[:, 1].tolist() for segment in segments] == [pytest.approx([low, high])] * 2
