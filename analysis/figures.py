"""Figures of radius tables, drawn without a display and without matplotlib's global state."""

import io
import math
from collections.abc import Sequence
from itertools import cycle

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from analysis.curves import Curve, step_curve
from analysis.runs import Run
from certify.summary import floor_text

#: Formats by suffix, each with the metadata that would otherwise hold the date.
FORMATS: dict[str, dict[str, None]] = {".png": {}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}

# Okabe and Ito's palette without its yellow, which is too pale for a line; told apart under every colour blindness.
# Dashes change with each round of colours, so that an eighth run is no second first.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES = ("-", "--", "-.", ":")
_GREY = "#666666"


def draw(runs: Sequence[Run], *, end: float | None = None, title: str | None = None) -> Figure:
    """Certified accuracy over the radius: a step curve and its pointwise 95 % band a run, and the ceilings.

    Args:
        runs: At least one.
        end: Last radius shown, positive; by default a little more than the largest ceiling or radius.
        title: Shown above the axes.

    Raises:
        ValueError: If ``end`` is not positive and finite.
    """
    ceilings = {run.name: run.summary.ceiling for run in runs if run.summary.ceiling is not None}
    if end is None:
        end = 1.04 * max([run.summary.largest_radius for run in runs] + list(ceilings.values())) or 1.0
    if not 0 < end < math.inf:
        raise ValueError(f"the last radius of a figure must be positive and finite, got {end}.")
    figure = Figure(figsize=(7.2, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlim=(0, end), ylim=(0, 1), xlabel="ℓ₂ radius (pixel units, [0,1])", ylabel="certified accuracy")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    if title is not None:
        figure.suptitle(_plain(title), x=0.01, ha="left")

    # A curve ends at its ceiling, where its n votes end, or without one at its largest radius: beyond, nothing can be
    # certified, and a band would pretend that another sample of images might be.
    reach = [ceilings.get(run.name, run.summary.largest_radius) for run in runs]
    curves = [step_curve(run.table, min(end, own or end)) for run, own in zip(runs, reach, strict=True)]
    styles = [(colour, dash) for dash in _DASHES for colour in _COLOURS]
    handles = []
    for curve, (colour, dash) in zip(curves, cycle(styles), strict=False):
        axes.fill_between(curve.radius, curve.low, curve.high, step="pre", color=colour, alpha=0.18, linewidth=0)
        x, y = np.append(curve.radius, curve.radius[-1]), np.append(curve.accuracy, 0.0)
        handles += axes.plot(x, y, dash, drawstyle="steps-pre", color=colour, linewidth=1.6)
    _draw_ceilings(axes, sorted({value for value in ceilings.values() if 0 < value < end}), end)
    _draw_legend(figure, axes, handles, [run.name for run in runs], curves)
    return figure


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


def _draw_ceilings(axes: Axes, ceilings: Sequence[float], end: float) -> None:
    """A dotted line each, named above the axes; a name that would touch its left neighbour goes a line higher."""
    taken: list[float] = []  # by line, up to where names reach
    for radius in ceilings:
        axes.axvline(radius, color=_GREY, linewidth=1, linestyle=(0, (1, 2)))
        left, right = radius - 0.08 * end, radius + 0.08 * end
        level = next((level for level, used in enumerate(taken) if used < left), len(taken))
        taken[level : level + 1] = [right]
        axes.annotate(
            f"ceiling {floor_text(radius, 3)}",
            (radius, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 3 + 10 * level),
            textcoords="offset points",
            ha="center",
            color=_GREY,
            fontsize=8,
        )


def _draw_legend(
    figure: Figure, axes: Axes, handles: Sequence[Line2D], labels: Sequence[str], curves: Sequence[Curve]
) -> None:
    """A legend in the upper right or the lower left corner if no curve passes there, else below the axes."""
    shown = [_plain(label) for label in labels]
    for corner in ("upper right", "lower left"):
        # On white, so that grid and ceilings do not run through the names.
        legend = axes.legend(handles, shown, loc=corner, framealpha=0.9, edgecolor="none", fontsize=9)
        if not _covers(figure, axes, legend, curves):
            return
    figure.legend(handles, shown, loc="outside lower left", frameon=False, fontsize=9, ncols=2)
    legend.remove()


def _covers(figure: Figure, axes: Axes, legend: Legend, curves: Sequence[Curve]) -> bool:
    """Whether the legend lies on a curve's band, or outside the axes."""
    figure.draw_without_rendering()
    box = legend.get_window_extent().transformed(axes.transData.inverted())
    if box.x0 < 0 or box.y0 < 0:
        return True
    for curve in curves:
        first, last = np.searchsorted(curve.radius, [box.x0, box.x1])
        low, high = curve.low[first : last + 1], curve.high[first : last + 1]
        if np.any((low < box.y1) & (high > box.y0)):
            return True
    return False


def _plain(text: str) -> str:
    """Text as it is: a dollar begins no formula, and a leading underscore does not hide it from the legend."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")
