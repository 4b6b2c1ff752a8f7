from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from written_tables import texts, write_run

from maxup_smoothing.analysis.figures.curves import COLOURS, draw, encode, styles
from maxup_smoothing.analysis.runs.run import Run, load
from maxup_smoothing.certify.statistics.radius import ceiling_radius


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    return load(
        [
            write_run(tmp_path / "gaussian" / "radii.tsv", [300, 700, 900]),
            write_run(tmp_path / "max_up$" / "radii.tsv", [600, 990, 1000], sigma=0.25),
        ]
    )


def test_the_legend_lists_the_curves_from_the_highest_to_the_lowest(tmp_path: Path) -> None:
    votes = {"low": [600, 700], "high": [990, 1000], "middle": [800, 900]}
    files = [write_run(tmp_path / name / "radii.tsv", counts) for name, counts in votes.items()]
    figure = draw(load(files))
    legend = figure.axes[0].get_legend() or figure.legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["high", "middle", "low"]
    # The colours stay those of the runs in their order: other figures use them, too.
    assert [line.get_color() for line in legend.get_lines()] == [COLOURS[1], COLOURS[2], COLOURS[0]]


def test_a_figure_shows_each_run_once_with_its_steps_and_ceiling(runs: list[Run]) -> None:
    figure = draw(runs, title="σ of $5_x")
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("ℓ₂ radius (pixel units, [0,1])", "certified accuracy")
    assert axes.get_ylim() == (0, 1)
    ceilings = [ceiling_radius(1000, 0.001, sigma) for sigma in (0.25, 0.5)]
    assert texts(figure) == ["ceiling 0.615", "ceiling 1.231", r"max_up\$, σ = 0.25", "gaussian, σ = 0.5"]
    curves, lines = axes.lines[:2], axes.lines[2:]
    assert [np.asarray(line.get_xdata()).tolist() for line in lines] == [[ceiling] * 2 for ceiling in ceilings]
    for line, run, ceiling in zip(curves, runs, reversed(ceilings), strict=True):
        assert line.get_drawstyle() == "steps-pre"
        radii = run.table["radius"][run.table["correct"] == 1].tolist()
        assert np.asarray(line.get_xdata()).tolist() == [*sorted({0.0, *radii, ceiling}), ceiling]
    assert curves[0].get_ydata() == pytest.approx([2 / 3, 2 / 3, 1 / 3, 0, 0])
    # The unanimous image is certified at the very ceiling; from there the line falls.
    assert curves[1].get_ydata() == pytest.approx([1, 1, 2 / 3, 1 / 3, 0])


def test_a_legend_lies_where_no_curve_is(tmp_path: Path) -> None:
    falling = load([write_run(tmp_path / "a" / "radii.tsv", list(range(500, 1000, 5)))])
    assert draw(falling).axes[0].get_legend() is not None
    high = load([write_run(tmp_path / "b" / "radii.tsv", [1000] * 270 + [300] * 30)])
    box = draw(high).axes[0].get_legend()
    assert box is not None
    assert box.get_window_extent().y1 < 330  # the lower left corner of 748 pixels
    both = draw(load([tmp_path / "a" / "radii.tsv", tmp_path / "b" / "radii.tsv"], ["x" * 60, "y"]))
    assert both.axes[0].get_legend() is None
    assert len(both.legends) == 1


@pytest.mark.parametrize(
    ("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF"), (".PNG", b"\x89PNG")]
)
def test_a_figure_is_written_as_the_same_bytes_each_time(runs: list[Run], suffix: str, start: bytes) -> None:
    data = encode(draw(runs), suffix)
    assert data.startswith(start)
    assert encode(draw(runs), suffix) == data


def test_other_formats_are_refused(runs: list[Run]) -> None:
    with pytest.raises(ValueError, match=r"written as \.png, \.svg, \.pdf; got the suffix '\.jpg'"):
        encode(draw(runs), ".jpg")


def test_a_log_without_settings_has_a_curve_and_no_ceiling(tmp_path: Path) -> None:
    path = tmp_path / "cohen"
    path.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t1\t1\t0.5\t1\t3\n1\t1\t-1\t0.0\t0\t3\n")
    axes = draw(load([path])).axes[0]
    assert len(axes.lines) == 1
    assert axes.get_xlim()[1] == pytest.approx(0.52)


def test_a_run_that_certifies_nothing_is_drawn_at_zero(tmp_path: Path) -> None:
    path = tmp_path / "cohen"
    path.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t1\t-1\t0.0\t0\t3\n")
    line = draw(load([path])).axes[0].lines[0]
    assert np.asarray(line.get_ydata()).tolist() == [0.0, 0.0, 0.0]


def test_a_narrower_figure_keeps_to_its_last_radius(runs: list[Run]) -> None:
    axes = draw(runs, end=0.3).axes[0]
    assert axes.get_xlim() == (0, 0.3)
    assert len(axes.lines) == 2  # both ceilings lie beyond
    with pytest.raises(ValueError, match="must be positive and finite, got -1"):
        draw(runs, end=-1)


def test_a_figure_says_what_was_certified_and_what_its_band_is(runs: list[Run]) -> None:
    line = "3 images, n = 1,000, alpha = 0.001; band: 95 % interval, each radius by itself"
    assert draw(runs).get_suptitle() == line
    assert draw(runs, title="a$b").get_suptitle() == f"a\\$b\n{line}"


def test_a_figure_of_runs_with_other_settings_names_them_all(runs: list[Run], tmp_path: Path) -> None:
    path = tmp_path / "cohen"
    path.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t1\t1\t0.5\t1\t3\n")
    told = draw([*runs, *load([path])]).get_suptitle()
    assert told.startswith("1 or 3 images, n = 1,000 or unknown, alpha = 0.001 or unknown;")


def test_no_two_runs_share_colour_and_dash_and_neighbours_have_other_dashes() -> None:
    found = styles(28)
    assert len(set(found)) == 28
    assert all(a[1] != b[1] for a, b in pairwise(found))


def test_accuracy_is_marked_in_percent(runs: list[Run]) -> None:
    formatted = draw(runs).axes[0].yaxis.get_major_formatter()
    assert formatted(0.25, None) == "25 %"


def test_a_legend_does_not_lie_on_the_line_of_a_ceiling(tmp_path: Path) -> None:
    falling = load([write_run(tmp_path / "a" / "radii.tsv", list(range(500, 1000, 5)))])
    figure = draw(falling)
    legend, ceiling = figure.axes[0].get_legend(), falling[0].summary.ceiling
    assert legend is not None
    assert ceiling is not None
    figure.draw_without_rendering()
    box = legend.get_window_extent().transformed(figure.axes[0].transData.inverted())
    assert not box.x0 <= ceiling <= box.x1
