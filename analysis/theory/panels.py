"""Small panels side by side: a row a network, a column a number of copies, all with the same axes.

So no curve lies on that of another m, and what is drawn at one height in two panels is of one size.
"""

import textwrap
from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from maxup_smoothing.analysis.figures.curves import plain
from maxup_smoothing.analysis.theory.study import Study
from maxup_smoothing.analysis.theory.verdict import Verdict

DPI = 90
#: Behind everything at the sigma of training: wider than any bar, so that none hides it.
_TRAINING = "#F7E9A0"
_WIDTH, _LEAST, _HEIGHT, _HEADING, _LEGEND = 3.5, 8.0, 1.8, 0.42, 0.62  # inches; the second of the whole figure
_LETTERS = 13.5  # of the header, in an inch


def grid(
    studies: Sequence[Study], header: str, ylabel: str, handles: Sequence[Artist]
) -> tuple[Figure, list[tuple[Study, Verdict, Axes]]]:
    """A figure with axes on which nothing is drawn, and what each of them is about.

    Args:
        studies: At least one.
        header: Above the panels: what is drawn, and how it is to be read.
        ylabel: Of all panels.
        handles: Of the legend below them; that of the sigma of training is added.
    """
    columns = max(len(study.verdicts) for study in studies)
    width = max(_LEAST, columns * _WIDTH)
    told = textwrap.wrap(header, int(_LETTERS * width))
    height = len(studies) * (_HEIGHT + _HEADING) + 0.18 * len(told) + _LEGEND
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    figure.suptitle("\n".join(told), x=0.01, ha="left", fontsize=10)
    if any(study.sigma for study in studies):
        handles = [*handles, Patch(color=_TRAINING, label="σ of training")]
    figure.legend(handles=handles, loc="outside lower left", ncols=3, frameon=False, fontsize=9)
    rows = figure.subfigures(len(studies), 1, squeeze=False)[:, 0]
    sigmas = [at.sigma for study in studies for verdict in study.verdicts for at in verdict.at]
    panels = list[tuple[Study, Verdict, Axes]]()
    for study, row in zip(studies, rows, strict=True):
        row.suptitle(plain(heading(study)), x=0.01, ha="left", fontsize=9.5)
        for number, verdict in enumerate(study.verdicts, start=1):
            axes = row.add_subplot(1, columns, number)
            axes.set_xscale("log")
            axes.set_xlim(min(sigmas) / 1.8, max(sigmas) * 1.8)
            axes.set_xlabel("σ of the noise", fontsize=9, labelpad=1)
            if number == 1:
                axes.set_ylabel(ylabel, fontsize=9)
            if study.sigma:
                axes.axvspan(study.sigma / 1.35, study.sigma * 1.35, color=_TRAINING, linewidth=0, zorder=0.65)
            tidy(axes)
            panels.append((study, verdict, axes))
    return figure, panels


def heading(study: Study) -> str:
    """Two lines: the network with its images, and by which standard it is judged."""
    moved = f", each moved once by N(0, {study.nudge:g}²) noise" if study.nudge else ""
    kind = "smooth network" if study.smooth else "network with kinks"
    corners = f"; at {study.corners} of {study.count} images the loss has no gradient" if study.corners else ""
    return (
        f"{study.name}: {study.images}{moved}\n"
        f"{kind}, margin {100 * study.verdicts[0].margin:g} %; {study.groups} groups of m copies at each image{corners}"
    )


def tidy(axes: Axes) -> None:
    """This project's looks, in small."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8.5)
