"""Votes of the noisy copies of each image, and the samples that were spent on them."""

# Shapes: N images.

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from maxup_smoothing.analysis.figures.curves import COLOURS, GREY, new_axes, plain, styles
from maxup_smoothing.analysis.runs.run import Run
from maxup_smoothing.certify.statistics.radius import ABSTAIN

_EDGE = 1e-6  # where shares of 0 and 1 are drawn on a logit axis
_TICKS = {
    _EDGE: "none", 1e-4: "0.01 %", 0.01: "1 %", 0.1: "10 %", 0.5: "50 %", 0.9: "90 %", 0.99: "99 %",
    0.9999: "99.99 %", 1 - _EDGE: "all",
}  # fmt: skip


def shares_of_label(table: pd.DataFrame) -> NDArray[np.float64]:
    """Share of the noisy copies that were classified as the image's label, in [0, 1], (N,).

    An estimate, not a bound: the votes of the estimation stage, whether the image was certified or not.

    Args:
        table: Rows as `certify.tables.radius_table.read` returns them, with the column counts.

    Raises:
        ValueError: If the file records no counts.
    """
    if "counts" not in table:
        raise ValueError(
            "the table has no column counts, so it does not tell how noisy copies voted; take one written by `certify`."
        )
    pairs = zip(table["counts"], table["label"], strict=True)
    shares = [counts.get(int(label), 0) / max(1, sum(counts.values())) for counts, label in pairs]
    return np.array(shares, dtype=np.float64)


def draw_shares(runs: Sequence[Run]) -> Figure:
    """The distribution function, over images, of the share of noisy copies classified correctly, on a logit axis.

    A curve that lies lower is better: fewer images have a share that small. An image left of 1/2 cannot be certified
    rightly without a bound on the runner-up. The certified radius is sigma times the normal quantile of the share, so
    the right end of the curve makes the large radii.

    Raises:
        ValueError: If a table records no counts, with the run's name.
    """
    figure, axes = new_axes(
        1, "images with at most this share", "share of noisy copies classified correctly (logit scale)"
    )
    for run, (colour, dash) in zip(runs, styles(len(runs)), strict=True):
        try:
            shares = np.sort(shares_of_label(run.table))
        except ValueError as error:
            raise ValueError(f"{run.name}: {error}") from None
        x = np.clip(np.concatenate([[0.0], shares, [1.0]]), _EDGE, 1 - _EDGE)
        y = np.concatenate([[0.0], np.arange(1, len(shares) + 1) / len(shares), [1.0]])
        axes.plot(x, y, linestyle=dash, drawstyle="steps-post", color=colour, linewidth=1.8, label=plain(run.name))
    axes.set_xscale("logit", one_half="1/2")
    axes.set(xlim=(_EDGE, 1 - _EDGE), ylim=(0, 1.01))
    axes.set_xticks(list(_TICKS), list(_TICKS.values()), fontsize=9.5)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
    axes.minorticks_off()
    for at, side, text in ((0.02, "left", "← surely wrong"), (0.98, "right", "surely right →")):
        axes.text(at, 0.08, text, transform=axes.transAxes, ha=side, fontsize=10, color=GREY)
    axes.axvline(0.5, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
    axes.legend(frameon=False, fontsize=10, handlelength=2.8, loc="upper left")
    return figure


def samples_used(table: pd.DataFrame) -> NDArray[np.int64]:
    """Forward passes spent on each image, selection and estimation together, (N,).

    Raises:
        ValueError: If the file records no n.
    """
    if "n" not in table:
        raise ValueError("the table has no column n, so it does not tell its samples; take one written by `certify`.")
    selection = table["n0"].to_numpy(np.int64) if "n0" in table else np.int64(0)
    return np.asarray(table["n"].to_numpy(np.int64) + selection, dtype=np.int64)


def draw_samples(runs: Sequence[Run]) -> Figure:
    """How many samples were spent on how many images, right, wrong and abstained apart, one axes per run.

    Raises:
        ValueError: If a table records no n, with the run's name.
    """
    used = {}
    for run in runs:
        try:
            used[run.name] = samples_used(run.table)
        except ValueError as error:
            raise ValueError(f"{run.name}: {error}") from None
    together = np.concatenate(list(used.values()))
    edges = np.geomspace(max(1, int(together.min())) / 3, 3 * int(together.max()), 61)
    figure = Figure(figsize=(6.4, 1.2 + 2.2 * len(runs)), dpi=150, layout="constrained")
    all_axes = np.atleast_1d(figure.subplots(len(runs), 1, sharex=True))
    for axes, run in zip(all_axes, runs, strict=True):
        table, samples = run.table, used[run.name]
        right, abstained = table["correct"].to_numpy() == 1, table["predict"].to_numpy() == ABSTAIN
        parts = {"right": right, "wrong": ~right & ~abstained, "abstained": abstained}
        shown = {f"{name} ({mask.sum()})": samples[mask] for name, mask in parts.items() if mask.any()}
        axes.hist(list(shown.values()), bins=edges, stacked=True, label=list(shown), color=COLOURS[: len(shown)])
        axes.set_xscale("log")
        axes.set_ylabel("images")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))  # there is no half image
        axes.spines[["top", "right"]].set_visible(False)
        axes.axvline(samples.mean(), color="#000000", linewidth=1, linestyle=(0, (4, 2)))
        told = f"{run.name}: mean {samples.mean():,.0f}, median {np.median(samples):,.0f}, in all {samples.sum():,}"
        axes.set_title(plain(told), fontsize=9, loc="left")
        axes.legend(frameon=False, fontsize=8)
    all_axes[-1].set_xlabel("samples spent on an image (dashed: their mean)")
    return figure
