"""Certified accuracy of each class by itself, with intervals: an average may hide a class without a certificate."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from analysis.figures import GREY, plain
from analysis.runs import Run
from certify.summary import certified_accuracy, radius_text

# From light to dark, also in print, and none of the colours that stand for runs elsewhere.
_SHADES = ("#9C84C6", "#7550A4", "#4F2D7F", "#1E0A3C")


def draw_parts(parts: Sequence[Run], radii: Sequence[float], title: str | None = None) -> Figure:
    """Certified accuracy at a few radii of each part of a run, one row per part, with 95 % Clopper-Pearson intervals.

    Args:
        parts: Such as `analysis.groups.by_class` returns them, at least one.
        radii: One to four, numbers >= 0.
        title: Shown above the axes.

    Raises:
        ValueError: If there are more radii than can be told apart, or one is negative or not finite.
    """
    if not 1 <= len(radii) <= 4:
        raise ValueError(f"a figure of parts shows one to four radii, got {len(radii)}; choose with --radii.")
    figure = Figure(figsize=(7.2, 1.3 + 0.56 * len(parts)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    places = np.arange(len(parts))[::-1]
    for number, (radius, marker) in enumerate(zip(radii, "osD^", strict=False)):
        colour = _SHADES[3 - round(3 * (len(radii) - 1 - number) / max(1, len(radii) - 1))]
        found = [certified_accuracy(part.table, [radius]).iloc[0] for part in parts]
        accuracy, low, high = (np.array([row[key] for row in found]) for key in ("accuracy", "low", "high"))
        y = places + 0.19 * ((len(radii) - 1) / 2 - number)
        axes.hlines(y, low, high, color=colour, linewidth=1.2)
        axes.plot(accuracy, y, marker, color=colour, markersize=5, label=f"r = {radius_text(radius)}")
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(parts) - 0.4), xlabel="certified accuracy, with its 95 % interval")
    axes.set_yticks(places, [plain(part.name) for part in parts])
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    for place in places[:-1]:
        axes.axhline(place - 0.5, color=GREY, linewidth=0.3)
    axes.set_axisbelow(True)
    if title is not None:
        figure.suptitle(plain(title), x=0.01, ha="left")
    figure.legend(loc="outside lower center", frameon=False, fontsize=9, ncols=4)
    return figure
