"""Certified accuracy of each class by itself, with intervals."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from maxup_smoothing.analysis.figures.curves import GREY, plain, styles
from maxup_smoothing.analysis.runs.run import Run
from maxup_smoothing.certify.statistics.rounding import radius_text
from maxup_smoothing.certify.tables.summary import certified_accuracy

_MARKERS = "osD^"
# From light to dark, also in print, and none of the colours that stand for runs elsewhere.
_SHADES = ("#9C84C6", "#7550A4", "#4F2D7F", "#1E0A3C")


def draw_parts(parts: Sequence[Run], radii: Sequence[float], title: str | None = None) -> Figure:
    """Certified accuracy at a few radii of each part of a run, one row per part, with 95 % Clopper-Pearson intervals.

    Args:
        parts: Such as `analysis.runs.groups.by_class` returns them, at least one.
        radii: One to four, numbers >= 0.
        title: Shown above the axes.

    Raises:
        ValueError: If there are more radii than can be told apart, or one is negative or not finite.
    """
    _require_few(radii)
    figure = Figure(figsize=(6.4, 1.3 + 0.56 * len(parts)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(parts))[::-1]
    for number, (radius, marker) in enumerate(zip(radii, _MARKERS, strict=False)):
        colour = _SHADES[3 - round(3 * (len(radii) - 1 - number) / max(1, len(radii) - 1))]
        found = [certified_accuracy(part.table, [radius]).iloc[0] for part in parts]
        accuracy, low, high = (np.array([row[key] for row in found]) for key in ("accuracy", "low", "high"))
        y = places + 0.19 * ((len(radii) - 1) / 2 - number)
        axes.hlines(y, low, high, color=colour, linewidth=1.2)
        axes.plot(accuracy, y, marker, color=colour, markersize=5, label=f"r = {radius_text(radius)}")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(parts) - 0.4), xlabel="certified accuracy, with its 95 % interval")
    axes.set_yticks(places, [plain(part.name) for part in parts])
    _dress(axes, places)
    if title is not None:
        figure.suptitle(plain(title), x=0.01, ha="left")
    figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=4)
    return figure


def draw_classes(
    divided: Mapping[str, Sequence[Run]], radii: Sequence[float], colours: Sequence[str] | None = None
) -> Figure:
    """Certified accuracy of each class under several runs: a panel per radius, a row per class, a mark per run.

    Bars are 95 % Clopper-Pearson intervals.

    Args:
        divided: By the name of a run, its classes, such as `runs.groups.by_class` returns them; at least one run,
            all with the same classes. The rows bear the names that the first has.
        radii: One to four, numbers >= 0.
        colours: One a run; by default those of `analysis.figures.curves.draw` for as many.

    Raises:
        ValueError: If there are more radii than fit side by side, or one is negative or not finite.
    """
    _require_few(radii)
    colours = colours or [colour for colour, _ in styles(len(divided))]
    first = next(iter(divided.values()))
    places = np.arange(len(first))[::-1]
    height = 1.5 + (0.16 + 0.16 * len(divided)) * len(first)
    figure = Figure(figsize=(6.4, height), dpi=170, layout="constrained")
    # Room between the panels for the 100 of one beside the 0 of the next.
    panels = np.atleast_1d(figure.subplots(1, len(radii), sharey=True, gridspec_kw={"wspace": 0.08}))
    for axes, radius in zip(panels, radii, strict=True):
        for number, ((name, parts), colour) in enumerate(zip(divided.items(), colours, strict=True)):
            found = [certified_accuracy(part.table, [radius]).iloc[0] for part in parts]
            accuracy, low, high = (100 * np.array([row[key] for row in found]) for key in ("accuracy", "low", "high"))
            y = places + 0.62 * ((len(divided) - 1) / 2 - number) / len(divided)
            axes.hlines(y, low, high, color=colour, linewidth=1.4)
            marker = _MARKERS[number % len(_MARKERS)]
            axes.plot(accuracy, y, marker, color=colour, markersize=4.5, label=plain(name) if axes is panels[0] else "")
        axes.set(xlim=(-3, 103), ylim=(-0.6, len(first) - 0.4), xticks=(0, 50, 100))
        axes.set_title(f"r = {radius_text(radius)}", fontsize=11, loc="left")
        axes.set_yticks(places, [plain(part.name) for part in first])
        axes.tick_params(labelsize=10.5)
        _dress(axes, places)
    figure.supxlabel("certified accuracy of the class, in percent", fontsize=11)
    figure.legend(loc="outside upper left", frameon=False, fontsize=10, ncols=2)
    return figure


def _require_few(radii: Sequence[float]) -> None:
    if not 1 <= len(radii) <= len(_MARKERS):
        raise ValueError(f"a figure of parts shows one to four radii, got {len(radii)}; choose with --radii.")


def _dress(axes: Axes, places: NDArray[np.int64]) -> None:
    """Lines between the rows, and none around them."""
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    for place in places[:-1]:
        axes.axhline(place - 0.5, color=GREY, linewidth=0.3)
    axes.set_axisbelow(True)
