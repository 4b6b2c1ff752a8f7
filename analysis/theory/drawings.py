"""Figures of the theory check, drawn without a display and without matplotlib's global state."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.figures import COLOURS, GREY, plain
from analysis.theory.norms import Norms
from analysis.theory.study import Study
from analysis.theory.verdict import Verdict

_DPI = 90


def law(studies: Sequence[Study]) -> Figure:
    """MaxUp's gain over sigma c_m |g| against sigma, a panel a network: one line an m, and the law to second order."""
    figure, panels = _panels(len(studies))
    for study, axes in zip(studies, panels, strict=True):
        margin = study.verdicts[0].margin
        axes.axhspan(1 - margin, 1 + margin, color="#dddddd", linewidth=0)
        axes.axhline(1, color=GREY, linewidth=0.8)
        values = [1 - 3 * margin, 1 + 3 * margin]
        for number, (verdict, colour) in enumerate(zip(study.verdicts, COLOURS, strict=False)):
            # A little apart, so that no interval hides another.
            sigma = [at.sigma * 1.08 ** (number - (len(study.verdicts) - 1) / 2) for at in verdict.at]
            ratio = np.array([at.pooled.value for at in verdict.at])
            low, high = (np.array([getattr(at.pooled, end) for at in verdict.at]) for end in ("low", "high"))
            axes.plot(
                [at.sigma for at in verdict.at], [at.predicted for at in verdict.at], "--", color=colour, linewidth=1
            )
            axes.errorbar(
                sigma,
                ratio,
                [ratio - low, high - ratio],
                color=colour,
                marker="o",
                markersize=3,
                linewidth=1.3,
                capsize=2,
            )
            values += [*ratio]
        span = max(values) - min(values)
        axes.set_xscale("log")
        axes.set_ylim(min(values) - 0.12 * span, max(values) + 0.12 * span)
        _training(axes, study)
        _name(axes, study)
    handles: list[Artist] = [
        Line2D([], [], color=GREY, linestyle="--", linewidth=1, label="law to second order"),
        Patch(color="#dddddd", label="1 ± margin"),
    ]
    if any(study.sigma for study in studies):
        handles.append(Line2D([], [], color=GREY, linestyle=":", label="σ of training"))
    _legend(figure, studies, handles)
    figure.supylabel("gain of MaxUp / σ cₘ |g|, over all images", fontsize=10)
    return figure


def orders(studies: Sequence[Study]) -> Figure:
    """Size of what remains after the first and the second order against sigma, both logarithmic, a panel a network."""
    figure, panels = _panels(len(studies))
    for study, axes in zip(studies, panels, strict=True):
        shown = list(zip(study.verdicts, COLOURS, strict=False))
        for line, (verdict, colour) in enumerate(shown, start=1):
            _remainders(axes, verdict, colour, line)
        axes.text(0.03, 0.9, "slopes", transform=axes.transAxes, fontsize=8, color=GREY)
        drawn = any(one is not None for verdict in study.verdicts for part in verdict.remainders for one in part)
        axes.set(xscale="log", yscale="log" if drawn else "linear")  # of nothing there is no logarithm
        reach = study.reach
        if math.isfinite(reach):
            axes.axvline(reach, color=GREY, linestyle="-.", linewidth=0.8)
        _training(axes, study)
        _name(axes, study)
    handles = [
        Line2D([], [], color=GREY, marker="o", markersize=4, label="after 1st order"),
        Line2D(
            [], [], color=GREY, marker="^", markersize=4, markerfacecolor="white", linestyle="--", label="after 2nd"
        ),
        Line2D([], [], color=GREY, linestyle="-.", linewidth=0.8, label="σ‖H‖ = |g| / 10"),
    ]
    _legend(figure, studies, handles)
    figure.supylabel("|what remains|, mean over all images", fontsize=10)
    return figure


def _legend(figure: Figure, studies: Sequence[Study], handles: Sequence[Artist]) -> None:
    """Below the panels: the numbers of copies, then what else is drawn."""
    copies = [
        Line2D([], [], color=colour, marker="o", markersize=3, label=f"m = {verdict.m}")
        for verdict, colour in zip(studies[0].verdicts, COLOURS, strict=False)
    ]
    together = [*copies, *handles]
    columns = len(together) if len(studies) > 2 else 3
    figure.legend(handles=together, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)


def norms(found: Sequence[Norms]) -> Figure:
    """Histograms of log10 |g|, a colour a network: at the images, and at noisy copies of them."""
    places = [("at the images", [one.clean_I for one in found])]
    if all(one.noisy_I is not None for one in found):
        places.append(("at noisy copies, σ of training", [one.noisy_I for one in found if one.noisy_I is not None]))
    figure = Figure(figsize=(4.4 * len(places), 3.4), dpi=_DPI, layout="constrained")
    for number, (title, values) in enumerate(places):
        axes = figure.add_subplot(1, len(places), number + 1)
        logs = [np.log10(one[one > 0]) for one in values]
        edges = np.linspace(min(log.min() for log in logs), max(log.max() for log in logs), 41).tolist()
        for one, log, colour in zip(found, logs, COLOURS, strict=False):
            axes.hist(log, edges, histtype="stepfilled", color=colour, alpha=0.25)
            axes.hist(log, edges, histtype="step", color=colour, linewidth=1.4, label=plain(one.name))
            axes.axvline(float(np.median(log)), color=colour, linestyle="--", linewidth=1)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set(xlabel="log₁₀ |∇ₓL|  (dashed: median)", ylabel="images" if number == 0 else "")
        _plain(axes)
        if number == 0:
            axes.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def _remainders(axes: Axes, verdict: Verdict, colour: str, line: int) -> None:
    sigma = [at.sigma for at in verdict.at]
    styles = (("o", colour, "-"), ("^", "white", "--"))
    for remainder, (marker, face, dash) in zip(verdict.remainders, styles, strict=True):
        size = [abs(one.value) if one is not None else math.nan for one in remainder]
        axes.plot(sigma, size, dash, color=colour, marker=marker, markersize=4, markerfacecolor=face, linewidth=1)
    first, second = (f"{slope.value:.2f}" if slope is not None else "–" for slope in verdict.orders)
    axes.text(0.03, 0.9 - 0.09 * line, f"{first}, {second}", transform=axes.transAxes, fontsize=8, color=colour)


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    columns = min(count, 3)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(1.2 + 3.1 * columns, 0.9 + 2.4 * rows), dpi=_DPI, layout="constrained")
    panels = [figure.add_subplot(rows, columns, number + 1) for number in range(count)]
    for axes in panels:
        _plain(axes)
    return figure, panels


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#eeeeee", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)


def _training(axes: Axes, study: Study) -> None:
    if study.sigma:
        axes.axvline(study.sigma, color=GREY, linestyle=":", linewidth=1.2)


def _name(axes: Axes, study: Study) -> None:
    axes.set_xlabel("σ", fontsize=9, labelpad=1)
    axes.set_title(plain(f"{study.name}: {study.word}"), fontsize=9, loc="left")
