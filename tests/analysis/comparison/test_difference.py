import numpy as np
import pytest
from matplotlib.colors import to_hex, to_rgb
from paired_table import table

from maxup_smoothing.analysis.comparison.difference import difference_curve
from maxup_smoothing.analysis.comparison.networks import compare_tables
from maxup_smoothing.analysis.comparison.significance import paired_interval
from maxup_smoothing.analysis.figures.curves import COLOURS
from maxup_smoothing.analysis.figures.difference import draw_difference, limits_of


def test_the_curve_is_the_comparison_at_each_of_its_radii(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (table(rng.uniform(-0.2, 1, 60).round(2)) for _ in range(2))
    curve = difference_curve(a, b)
    rows = compare_tables(a, b, curve.radius.tolist()).at
    assert curve.difference.tolist() == [row.difference for row in rows]
    assert curve.low.tolist() == [row.low for row in rows]
    assert curve.high.tolist() == [row.high for row in rows]
    assert curve.radius[0] == 0
    assert curve.radius[-1] == max(x["radius"][x["correct"] == 1].max() for x in (a, b))


def test_between_its_radii_the_curve_is_a_step_so_no_grid_misses_a_radius(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (table(rng.uniform(-0.2, 1, 60)) for _ in range(2))
    curve = difference_curve(a, b)
    radii = rng.uniform(0, curve.radius[-1], 200)
    stepped = curve.difference[np.searchsorted(curve.radius, radii, side="left")]
    assert stepped.tolist() == [row.difference for row in compare_tables(a, b, radii.tolist()).at]


def test_an_image_certified_at_exactly_0_counts_there_and_a_wrong_or_abstained_one_does_not() -> None:
    right = table([0.5, 0.5, 0.5]).assign(radius=[0.0, 0.5, 0.5])
    curve = difference_curve(right, table([0.0, -0.3, 0.5]))
    assert curve.radius.tolist() == [0, 0.5]
    assert curve.difference.tolist() == [2 / 3, 1 / 3]


def test_the_band_holds_the_interval_at_every_radius_and_is_wider(seed: int) -> None:
    rng = np.random.default_rng(seed)
    curve = difference_curve(table(rng.uniform(0.01, 1, 200)), table(rng.uniform(0.01, 1, 200)))
    assert np.all(curve.band_low <= curve.low)
    assert np.all(curve.band_high >= curve.high)
    assert (curve.band_high - curve.band_low).mean() > 1.2 * (curve.high - curve.low).mean()


def test_the_band_covers_the_whole_truth_about_19_times_of_20(seed: int) -> None:
    # 60 pairs of 150 images with radii of one distribution: the true difference is 0 at every radius. Were coverage
    # .90, 12 or more misses would have a chance of 1e-2 a seed; pointwise intervals miss some 40 times.
    rng = np.random.default_rng(seed)
    missed = pointwise = 0
    for _ in range(60):
        curve = difference_curve(table(rng.uniform(0.01, 1, 150)), table(rng.uniform(0.01, 1, 150)))
        missed += bool(np.any((curve.band_low > 0) | (curve.band_high < 0)))
        pointwise += bool(np.any((curve.low > 0) | (curve.high < 0)))
    assert missed <= 11
    assert pointwise > missed


def test_the_same_table_twice_has_no_difference_but_a_width() -> None:
    a = table([0.5, 0.2, 0.0, -0.4])
    curve = difference_curve(a, a)
    assert curve.difference.tolist() == [0] * 3
    assert (curve.low[0], curve.high[0]) == paired_interval(0, 0, 4)


def test_nothing_certified_is_no_curve() -> None:
    with pytest.raises(ValueError, match="neither table certifies an image"):
        difference_curve(table([0.0]), table([-0.3]))


def test_the_figure_names_who_is_above() -> None:
    figure = draw_difference(difference_curve(table([0.5, 0.9]), table([0.4, 0.2])), "new", "old$")
    assert figure.get_suptitle() == r"above 0: new certifies more; below: old\$ does"
    low, high = figure.axes[0].get_ylim()
    assert low < 0 < high
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [r"new minus old\$", "95 % interval, each radius by itself", "95 % band, all radii at once"]


def test_figures_of_one_scale_hold_all_bands_and_show_what_their_legend_shows() -> None:
    curves = [difference_curve(table([0.5, 0.9]), table([0.4, other])) for other in (0.2, 0.9)]
    low, high = limits_of(curves)
    assert low < min(100 * curve.band_low.min() for curve in curves)
    assert high > max(100 * curve.band_high.max() for curve in curves)
    figure = draw_difference(curves[0], "a", "b", limits=(low, high))
    assert figure.axes[0].get_ylim() == (low, high)
    assert all(np.asarray(band.get_facecolor())[0, 3] == 1 for band in figure.axes[0].collections)


def test_the_line_is_of_no_runs_colour_and_each_side_of_0_is_tinted_with_that_of_who_is_ahead() -> None:
    figure = draw_difference(difference_curve(table([0.5, 0.9]), table([0.4, 0.2])), "a", "b", colours=COLOURS[:2])
    axes = figure.axes[0]
    assert not {to_hex(line.get_color()).upper() for line in axes.lines} & set(COLOURS)
    above, below = (to_rgb(patch.get_facecolor()) for patch in axes.patches)
    assert above[2] > above[0]  # blue as COLOURS[0]
    assert below[0] > below[2]  # orange as COLOURS[1]
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[3:] == ["a certifies more", "b certifies more"]
    assert figure.get_suptitle() == ""


def test_ticks_of_a_difference_have_the_signs_that_tables_have() -> None:
    axes = draw_difference(difference_curve(table([0.5, 0.9]), table([0.4, 0.2])), "a", "b").axes[0]
    formatted = axes.yaxis.get_major_formatter()
    assert [formatted(points, None) for points in (-5, 0, 2.5)] == ["-5", "0", "+2.5"]
