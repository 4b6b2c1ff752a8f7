"""Figures of the theory check, drawn without a display and without matplotlib's global state."""

import math
import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from maxup_smoothing.analysis.figures.curves import COLOURS, GREY, plain
from maxup_smoothing.analysis.theory.norms import Array, Norms
from maxup_smoothing.analysis.theory.regression import Interval
from maxup_smoothing.analysis.theory.verdict import AtSigma, Study, Verdict

DPI = 90
#: Behind everything at the sigma of training: wider than any bar, so that none hides it.
_TRAINING = "#F7E9A0"
_WIDTH, _LEAST, _HEIGHT, _HEADING, _LEGEND = 3.5, 8.0, 1.8, 0.42, 0.62  # inches; the second of the whole figure
_LETTERS = 13.5  # of the header, in an inch

_FOUND, _FAILS, _MARGIN, _BEYOND = COLOURS[0], COLOURS[1], "#d4d4d4", "#ececec"
# By what is said at one sigma, so that it is told without colour, too: marker, its colour, its face.
_MARKS = {"holds": ("o", _FOUND, _FOUND), "undecided": ("o", GREY, "white"), "fails": ("X", _FAILS, _FAILS)}
_SAID = {
    "holds": "holds: thin bar within the margin",
    "fails": "fails: thick bar outside",
    "undecided": "not decided",
}


def law(studies: Sequence[Study]) -> Figure:
    """By how much MaxUp's gain is off sigma c_m |g| against sigma, a panel a network and m, with both its intervals.

    The ordinate is linear within 1 % and logarithmic beyond, so that a margin of 1 % and a bar of 100 % are both seen.
    """
    header = (
        "By how much MaxUp's gain in loss, summed over the images, is off σ cₘ |g|, the gradient penalty that the law "
        "says it is (g: gradient at the image; cₘ: mean of the largest of m standard normal numbers). 0 % is the law. "
        "PASS or FAIL is about small σ, the left end. PASS: at the smallest σ the whole thin bar is within the grey "
        "margin. FAIL: the whole thick bar lies outside. NO VERDICT: neither. (The noise by itself is tried, too, and "
        "for smooth networks each image.) What is found at larger σ changes no verdict: it tells the law's reach."
    )
    handles: list[Artist] = [
        *(
            Line2D(
                [], [], color=edge, marker=marker, markerfacecolor=face, linestyle="", markersize=6, label=_SAID[word]
            )
            for word, (marker, edge, face) in _MARKS.items()
        ),
        Line2D([], [], color=GREY, linewidth=4, label="thick: 95 % interval for these images"),
        Line2D([], [], color=GREY, linewidth=1, label="thin: the same for other images, too"),
        Line2D([], [], color="black", linestyle="--", linewidth=1, label="law with its σ² term"),
        Patch(color=_MARGIN, label="margin"),
    ]
    figure, panels = grid(studies, header, "off the law by", handles)
    shown = [at for study in studies for verdict in study.verdicts for at in verdict.at]
    low, high = _ends(shown)
    for _, verdict, axes in panels:
        margin = 100 * verdict.margin
        axes.axhspan(-margin, margin, color=_MARGIN, linewidth=0, zorder=0.6)
        axes.axhline(0, color=GREY, linewidth=0.8, zorder=0.7)
        sigma = [at.sigma for at in verdict.at]
        axes.plot(sigma, [_off(at.predicted) for at in verdict.at], "--", color="black", linewidth=1)
        for at in verdict.at:
            _point(axes, at)
        axes.set_yscale("symlog", linthresh=1, linscale=0.8)
        axes.set_ylim(low, high)
        ticks = [sign * 10.0**power for power in range(4) for sign in (-1, 1)]
        axes.yaxis.set_major_locator(FixedLocator([0, *(tick for tick in ticks if low <= tick <= high)]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+.0f} %" if value else "0 %"))
        reach = "at no σ tried" if verdict.holds_to is None else f"up to σ = {verdict.holds_to:g}"
        colour = _FAILS if verdict.word == "FAIL" else "black"
        axes.set_title(f"m = {verdict.m}: {verdict.word}, holds {reach}", fontsize=9, loc="left", color=colour)
    return figure


def orders(studies: Sequence[Study]) -> Figure:
    """Size of what remains after the first and the second order against sigma, both logarithmic, a panel each m."""
    header = (
        "What remains of MaxUp's gain after the law's first term, and after its first two: mean over the images, no "
        "sign. If the law is right, the former goes as σ² and the latter as σ³, a steeper line. The exponents above "
        "the panels are these two slopes, left of the grey part; by the law 2 and 3. Where a mark is missing, what "
        "remains is lost in chance (4 standard errors) or in rounding. Where fewer than three stand out, or their "
        "signs differ, an exponent is unresolved."
    )
    handles: list[Artist] = [
        *(
            Line2D([], [], label=f"after {name}", **style)  # type: ignore[arg-type]
            for name, style in zip(("the first term", "the first two terms"), _REMAINDERS, strict=True)
        ),
        Patch(color=_BEYOND, label="σ‖H‖ > |g| / 10: not fitted"),
    ]
    figure, panels = grid(studies, header, "|what remains|", handles)
    sizes = [
        abs(one.value)
        for study in studies
        for verdict in study.verdicts
        for remainder in verdict.remainders
        for one in remainder
        if one is not None
    ]
    for study, verdict, axes in panels:
        if math.isfinite(study.reach):
            axes.axvspan(study.reach, axes.get_xlim()[1], color=_BEYOND, linewidth=0, zorder=0.4)
        if sizes:  # of nothing there is not a logarithm
            axes.set_yscale("log")
            axes.set_ylim(min(sizes) / 5, max(sizes) * 5)
        _remainders(axes, verdict)
    return figure


def norms(found: Sequence[Norms]) -> Figure:
    """Histograms of |g| on a logarithmic axis, a colour a network: at the images, and at noisy copies of them."""
    places = [("at the images", [one.clean_I for one in found])]
    if all(one.noisy_I is not None for one in found):
        sigmas = " or ".join(f"{sigma:g}" for sigma in sorted({one.sigma for one in found if one.sigma is not None}))
        copies = [one.noisy_I for one in found if one.noisy_I is not None]
        places.append((f"at one noisy copy of each, σ = {sigmas} as in training", copies))
    figure = Figure(figsize=(max(2, len(places)) * 4.6, 4.0), dpi=DPI, layout="constrained")
    images = " / ".join(dict.fromkeys(one.images for one in found))
    figure.suptitle(
        plain(f"Norm of the loss's gradient with respect to the image, |∇ₓL|; {images}"), x=0.01, ha="left", fontsize=10
    )
    logs = [[np.log10(one[one > 0]) for one in values] for _, values in places]
    every = np.concatenate([log for row in logs for log in row])
    edges = np.linspace(every.min(), every.max(), 41).tolist()  # the same for all: panels can be compared
    for number, ((title, values), row) in enumerate(zip(places, logs, strict=True)):
        axes, handles = figure.add_subplot(1, len(places), number + 1), list[Line2D]()
        for place, (one, norm, log, colour) in enumerate(zip(found, values, row, COLOURS, strict=False)):
            axes.hist(log, edges, histtype="stepfilled", color=colour, alpha=0.2)
            axes.hist(log, edges, histtype="step", color=colour, linewidth=1.4)
            # Dashes of one line lie in the gaps of the others, so that equal medians are all seen.
            dashes = (4.0 * place, (4.0, 4.0 * max(1, len(found) - 1)))
            axes.axvline(float(np.median(log)), color=colour, linestyle=dashes, linewidth=1.8)
            handles.append(Line2D([], [], color=colour, linestyle="--", linewidth=1.8, label=_told(one, norm)))
        axes.set_title(title, fontsize=9.5, loc="left")
        axes.set(xlabel="|∇ₓL|, logarithmic", ylabel="images" if number == 0 else "")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda power, _: f"$10^{{{power:g}}}$"))
        axes.set_ylim(0, 1.3 * axes.get_ylim()[1])  # room for the legend
        tidy(axes)
        axes.legend(handles=handles, frameon=False, fontsize=9, loc="upper left", title="medians", title_fontsize=9)
    return figure


# Wide and pale below narrow and dark: where one lies on the other, both are seen.
_REMAINDERS = (
    {"color": "#7FB8D9", "marker": "o", "markersize": 7, "linewidth": 3.5},
    {
        "color": _FAILS,
        "marker": "^",
        "markersize": 4.5,
        "markerfacecolor": "white",
        "linewidth": 1.2,
        "linestyle": "--",
    },
)


def _remainders(axes: Axes, verdict: Verdict) -> None:
    sigma = [at.sigma for at in verdict.at]
    for remainder, style in zip(verdict.remainders, _REMAINDERS, strict=True):
        size = [abs(one.value) if one is not None else math.nan for one in remainder]
        axes.plot(sigma, size, **style)  # type: ignore[arg-type]
    first, second = ("unresolved" if slope is None else f"{slope.value:.2f}" for slope in verdict.orders)
    axes.set_title(f"m = {verdict.m}: exponents {first} and {second}", fontsize=9, loc="left")


def _point(axes: Axes, at: AtSigma) -> None:
    """The ratio at one sigma with what is said of it, its interval for these images and that for others, too."""
    marker, colour, face = _MARKS[at.word]
    for found, width in ((at.pooled, 1.0), (at.drawn, 4.0)):
        axes.plot([at.sigma] * 2, [_off(found.low), _off(found.high)], color=colour, linewidth=width, alpha=0.75)
    axes.plot(at.sigma, _off(at.pooled.value), marker=marker, color=colour, markerfacecolor=face, markersize=5)


def _off(ratio: float) -> float:
    """Deviation from 1 in percent."""
    return 100 * (ratio - 1)


def _ends(shown: Sequence[AtSigma]) -> tuple[float, float]:
    """Limits that cut off no bar; beyond 1 % the ordinate is logarithmic, so room there is a factor."""

    def ends(found: Interval) -> list[float]:
        return [_off(value) for value in (found.value, found.low, found.high) if math.isfinite(value)]

    values = [value for at in shown for found in (at.pooled, at.drawn) for value in ends(found)]
    values += [_off(at.predicted) for at in shown if math.isfinite(at.predicted)]
    return 1.5 * min(-6.0, *values), 1.5 * max(6.0, *values)


def _told(one: Norms, norm_I: Array) -> str:
    zeros = int((norm_I == 0).sum())
    without = f"; {zeros} of 0 not shown" if zeros else ""
    return plain(f"{one.name}: {np.median(norm_I[norm_I > 0]):.3g}{without}")


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
