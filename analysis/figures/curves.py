"""Figures of radius tables, drawn without a display and without matplotlib's global state."""

import io
import math
from collections.abc import Collection, Sequence
from itertools import cycle, islice
from operator import itemgetter
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter
from numpy.typing import NDArray

from maxup_smoothing.analysis.curves import Curve, recorded_curve, step_curve
from maxup_smoothing.analysis.literature.curves import Published
from maxup_smoothing.analysis.runs.run import Run, Traced
from maxup_smoothing.certify.logs.settings import L2, norm_of
from maxup_smoothing.certify.statistics.rounding import floor_text
from maxup_smoothing.certify.tables.restated import AMONG

#: Formats by suffix, each with the metadata that would otherwise hold the date.
FORMATS: dict[str, dict[str, None]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}

# Okabe and Ito's palette without its yellow, which is too pale for a line; told apart under every colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
# Dashes change with every run: a curve that lies on another one leaves it seen in its gaps, also in print.
DASHES = ((0, ()), (0, (6, 1.5)), (0, (3, 1, 1, 1)), (0, (1.5, 1)))
GREY = "#666666"
_L2_RADIUS = "ℓ₂ radius (pixel units, [0,1])"
# Handles as long as a dash and its gap take.
_LINE = 0.036  # height of a line of small letters, of the axes' height
_LEGEND: dict[str, Any] = {"fontsize": 10, "handlelength": 2.8}


def draw(
    runs: Sequence[Run],
    traced: Sequence[Traced] = (),
    *,
    end: float | None = None,
    title: str | None = None,
    envelope: bool = False,
    published: Sequence[Published] = (),
) -> Figure:
    """Certified accuracy over the radius: a step curve and its pointwise 95 % band a run, and the ceilings.

    Above the axes stands what was certified, with how many samples, and what the band is: a figure travels alone.

    Args:
        runs: Tables of images.
        traced: Curves that files record without images, drawn without a band and as far as they go; at least
            one of either kind.
        end: Last radius shown, positive; by default a little more than the largest ceiling or radius.
        title: Shown above that line.
        envelope: Draw the largest accuracy of any run at each radius, too. It belongs to no single classifier.
        published: Rows with certified accuracies, drawn thin, named at their ends and without a band. They and the
            runs are named with their sigma where it is not the same for all.

    Raises:
        ValueError: If ``end`` is not positive and finite.
    """
    ceilings = {run.name: run.summary.ceiling for run in runs if run.summary.ceiling is not None}
    if end is None:
        reached = [run.summary.largest_radius for run in runs] + [float(one.table["radius"].max()) for one in traced]
        end = 1.04 * max([*reached, *ceilings.values()]) or 1.0
    if not 0 < end < math.inf:
        raise ValueError(f"the last radius of a figure must be positive and finite, got {end}.")
    figure, axes = new_axes(end, _accuracy_label(runs), _radius_label(runs))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
    lines = [*([plain(title)] if title is not None else []), _conditions(runs, traced)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10)

    # A curve ends at its ceiling, where its n votes end, or without one at its largest radius: beyond, nothing can be
    # certified, and a band would pretend that another sample of images might be.
    reach = [ceilings.get(run.name, run.summary.largest_radius) for run in runs]
    curves = [step_curve(run.table, min(end, own or end)) for run, own in zip(runs, reach, strict=True)]
    handles, labels = list[Line2D](), [*_labels(runs), *(one.name for one in traced)]
    for curve, (colour, dash) in zip(curves, styles(len(runs)), strict=True):
        axes.fill_between(curve.radius, curve.low, curve.high, step="pre", color=colour, alpha=0.18, linewidth=0)
        x, y = np.append(curve.radius, curve.radius[-1]), np.append(curve.accuracy, 0.0)
        handles += axes.plot(x, y, linestyle=dash, drawstyle="steps-pre", color=colour, linewidth=1.8)
    told = [recorded_curve(one.table, end) for one in traced]
    for curve, (colour, dash) in zip(told, styles(len(runs) + len(traced))[len(runs) :], strict=True):
        handles += axes.plot(
            curve.radius, curve.accuracy, linestyle=dash, drawstyle="steps-pre", color=colour, linewidth=1.8
        )
    # The legend lists the curves from the highest to the lowest, so that it is read beside them.
    order = np.argsort([-_area(curve) for curve in (*curves, *told)], kind="stable")
    handles, labels = [handles[at] for at in order], [labels[at] for at in order]
    marked = sorted({value for value in ceilings.values() if 0 < value < end})
    _draw_ceilings(axes, marked, end)
    if envelope:
        radius, accuracy = upper_envelope(curves)
        handles += axes.plot(
            radius, accuracy, drawstyle="steps-pre", color="#000000", alpha=0.25, linewidth=4.5, zorder=1
        )
        labels.append("best run at each radius (not one classifier)")
    _draw_published(axes, published, end, sigmas=_sigmas(runs))
    _draw_legend(figure, axes, handles, labels, [*curves, *told], marked)
    return figure


def styles(count: int) -> list[tuple[str, tuple[float, tuple[float, ...]]]]:
    """A colour and a dash for each of so many runs; the first 28 pairs differ."""
    return list(islice(zip(cycle(COLOURS), cycle(DASHES), strict=False), count))


def upper_envelope(curves: Sequence[Curve]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The largest accuracy of any curve at each radius: steps as in `Curve`, (radii,) each."""
    radius = np.unique(np.concatenate([curve.radius for curve in curves]))
    found = np.zeros_like(radius)
    for curve in curves:
        step = np.searchsorted(curve.radius, radius, side="left")
        within = step < len(curve.radius)
        found[within] = np.maximum(found[within], curve.accuracy[step[within]])
    return radius, found


def new_axes(end: float, ylabel: str, xlabel: str = _L2_RADIUS) -> tuple[Figure, Axes]:
    """An empty figure of this project's looks, its abscissa from 0 to ``end``.

    It is small for its letters, so that these can be read where a page shows it in half a column or on a telephone.
    """
    figure = Figure(figsize=(6.4, 4.4), dpi=170, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0, end))
    axes.set_xlabel(xlabel, fontsize=11)
    axes.set_ylabel(ylabel, fontsize=11)
    axes.tick_params(labelsize=10.5)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def encode(figure: Figure, suffix: str) -> bytes:
    """The figure as a file's bytes, the same bytes each time.

    Raises:
        ValueError: If the suffix is not one of `FORMATS`.
    """
    require_format(suffix)
    stream = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "analysis"}):
        figure.savefig(stream, format=suffix[1:].lower(), metadata=FORMATS[suffix.lower()])
    return stream.getvalue()


def require_format(suffix: str) -> None:
    """Refuse a suffix that no figure can be written as, before anything is computed.

    Raises:
        ValueError: If the suffix is not one of `FORMATS`.
    """
    if suffix.lower() not in FORMATS:
        raise ValueError(f"a figure is written as {', '.join(FORMATS)}; got the suffix {suffix!r}.")


def _conditions(runs: Sequence[Run], traced: Sequence[Traced]) -> str:
    """How many images, samples and which alpha the runs have, as far as their rows record, and what the band is."""
    if not runs:
        return "images, n and alpha unknown; curves as they are told, without a band"
    told = {
        "images": {f"{run.summary.images:,}" for run in runs},
        "n": {"unknown" if run.summary.n is None else f"{run.summary.n:,}" for run in runs},
        "alpha": {"unknown" if run.summary.alpha is None else f"{run.summary.alpha:g}" for run in runs},
    }
    images, n, alpha = (" or ".join(sorted(values, key=lambda text: (len(text), text))) for values in told.values())
    without = "\na curve without a band is as its file tells it" if traced else ""
    return f"{images} images, n = {n}, alpha = {alpha}; band: 95 % interval, each radius by itself{without}"


def _radius_label(runs: Sequence[Run]) -> str:
    """What the abscissa measures: l2, or the norms that runs record."""
    norms = sorted({norm_of(run.table) or "unknown norm" for run in runs} or {L2})
    return _L2_RADIUS if norms == [L2] else f"radius ({' or '.join(norms)})"


def _accuracy_label(runs: Sequence[Run]) -> str:
    """What the ordinate measures: the share certified, as the predicted class or among the first k."""
    among = sorted({int(run.table[AMONG].iloc[0]) for run in runs if AMONG in run.table})
    return f"certified top-{among[0]} accuracy" if among else "certified accuracy"


def _sigmas(runs: Sequence[Run]) -> set[float]:
    """The noise of the runs that record it."""
    return {run.summary.sigma for run in runs if run.summary.sigma is not None}


def _labels(runs: Sequence[Run]) -> list[str]:
    """The runs' names, each with its sigma where they differ in it: the title then names none."""
    several = len(_sigmas(runs)) > 1
    return [_with_sigma(run.name, run.summary.sigma) if several else run.name for run in runs]


def _with_sigma(name: str, sigma: float | None) -> str:
    return f"{name}, σ unknown" if sigma is None else f"{name}, σ = {sigma:g}"


def _draw_ceilings(axes: Axes, ceilings: Sequence[float], end: float) -> None:
    """A dotted line each, named above the axes; a name that would touch its left neighbour goes a line higher."""
    taken: list[float] = []  # by line, up to where names reach
    for radius in ceilings:
        axes.axvline(radius, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
        left, right = radius - 0.1 * end, radius + 0.1 * end
        level = next((level for level, used in enumerate(taken) if used < left), len(taken))
        taken[level : level + 1] = [right]
        axes.annotate(
            f"ceiling {floor_text(radius, 3)}",
            (radius, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 3 + 11 * level),
            textcoords="offset points",
            ha="center",
            color=GREY,
            fontsize=9.5,
        )


def _draw_published(axes: Axes, rows: Sequence[Published], end: float, sigmas: Collection[float]) -> None:
    """Thin dotted lines through the known accuracies, each named right of the axes, where names are kept apart.

    Below the names stands what they are about: data set and n, which need not be those of the runs.
    """
    known = [(sorted(radius for radius in row.percent if radius <= end), row) for row in rows]
    shown = sorted(((row.percent[at[-1]] / 100, at, row) for at, row in known if at), key=itemgetter(0))
    if not shown:
        return
    several = len({*sigmas, *(row.sigma for _, _, row in shown)}) > 1
    told = _published_note([row for _, _, row in shown])
    free = _LINE * (len(told) + 0.5)
    for accuracy, at, row in shown:
        values = [row.percent[radius] / 100 for radius in at]
        axes.plot(at, values, ":", marker="o", markersize=2.5, color=GREY, linewidth=0.9, zorder=1.5)
        height = max(accuracy, free)
        free = height + _LINE
        method = f"{row.method}{'*' if row.subset == 'full' else ''}"
        axes.annotate(
            plain(_with_sigma(method, row.sigma) if several else method),
            (at[-1], accuracy),
            xytext=(1.01 * end, height),
            va="center",
            fontsize=7.5,
            color=GREY,
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.4, "alpha": 0.6},
        )
    axes.annotate("\n".join(told), (1.01, 0), xycoords="axes fraction", fontsize=7.5, color=GREY)


def _published_note(rows: Sequence[Published]) -> list[str]:
    """What published rows are about, in lines short enough to leave the axes their width."""
    datasets, ns = sorted({row.dataset for row in rows}), sorted({row.n for row in rows})
    some = any(row.subset == "full" for row in rows)
    return [
        "dotted: published,",
        f"{' or '.join(datasets)},",
        f"n = {' or '.join(f'{n:,}' for n in ns)}",
        "* on all test images" if some else "on the same images",
    ]


def _draw_legend(
    figure: Figure,
    axes: Axes,
    handles: Sequence[Line2D],
    labels: Sequence[str],
    curves: Sequence[Curve],
    ceilings: Sequence[float],
) -> None:
    """A legend in the upper right or the lower left corner if no curve or ceiling passes there, else below the axes."""
    shown = [plain(label) for label in labels]
    for corner in ("upper right", "lower left"):
        # On white, so that the grid does not run through the names.
        legend = axes.legend(handles, shown, loc=corner, framealpha=0.9, edgecolor="none", **_LEGEND)
        if not _covers(figure, axes, legend, curves, ceilings):
            return
    figure.legend(handles, shown, loc="outside lower left", frameon=False, ncols=2, **_LEGEND)
    legend.remove()


def _covers(figure: Figure, axes: Axes, legend: Legend, curves: Sequence[Curve], ceilings: Sequence[float]) -> bool:
    """Whether the legend lies on a curve's band or on the line of a ceiling, or outside the axes."""
    figure.draw_without_rendering()
    box = legend.get_window_extent().transformed(axes.transData.inverted())
    if box.x0 < 0 or box.y0 < 0 or any(box.x0 <= radius <= box.x1 for radius in ceilings):
        return True
    for curve in curves:
        first, last = np.searchsorted(curve.radius, [box.x0, box.x1])
        low, high = curve.low[first : last + 1], curve.high[first : last + 1]
        if np.any((low < box.y1) & (high > box.y0)):
            return True
    return False


def _area(curve: Curve) -> float:
    """The area below a curve: for a whole run its ACR."""
    return float((np.diff(curve.radius, prepend=0.0) * curve.accuracy).sum())


def plain(text: str) -> str:
    """Text that matplotlib shows as it is: a dollar begins no formula, a leading underscore does not hide a label."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")
