"""Certified accuracy as a lower bound and accuracy under attack as an upper bound, in one figure.

No attack may succeed within a certified radius. Where one does, either the certificate, the attack's norm or the way
the two files belong together is wrong.
"""

# Shapes: E attacks.

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from maxup_smoothing.analysis.curves import step_curve
from maxup_smoothing.analysis.figures.curves import COLOURS, GREY, new_axes, plain
from maxup_smoothing.analysis.runs.run import Run
from maxup_smoothing.certify.attack.table import CONFIRMED, AttackRow
from maxup_smoothing.certify.statistics.binomial import proportion_interval
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.statistics.rounding import floor_text
from maxup_smoothing.certify.tables.summary import summarize


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """The smoothed classifier under one attack.

    Attributes:
        epsilon: Largest l2 norm of the attack, in the radii's units.
        right: Images that were predicted rightly all the same.
        abstained: Those about which PREDICT was not sure: the smoothed classifier may be right about them.
        images: All that were attacked.
        broken: ``idx`` of images that are certified at epsilon or more and were predicted wrongly, not abstained; where
            wrong answers were tried again at a strict alpha, those that were confirmed.
    """

    epsilon: float
    right: int
    abstained: int
    images: int
    broken: tuple[int, ...]


def under_attack(run: Run, epsilon: float, predictions: pd.DataFrame) -> Attacked:
    """Hold predictions of attacked images against their certificates.

    Args:
        run: The certified table.
        epsilon: Largest l2 norm of the attack, at least 0.
        predictions: Columns idx, label and predict (-1 for an abstention): what PREDICT said of the attacked images,
            some or all of those in the table. With a column ``confirmed``, an answer within a radius counts as broken
            only where that is true.

    Raises:
        ValueError: If epsilon is not a number >= 0, there are no predictions, or an image is not in the table or has
            another label there.
    """
    if not 0 <= epsilon < np.inf:
        raise ValueError(f"an attack's norm must be a number >= 0, got {epsilon}.")
    if not {"idx", "label", "predict"} <= set(predictions):
        raise ValueError("the attacked predictions lack the columns idx, label and predict; give what PREDICT wrote.")
    if predictions.empty:
        raise ValueError("there are no predictions of attacked images.")
    both = predictions[["idx", "label", "predict"]].merge(run.table, on="idx", how="left", suffixes=("", "_certified"))
    unknown = int((both["label"] != both["label_certified"]).sum())
    if unknown:
        raise ValueError(
            f"{unknown} of {len(both)} attacked images are not in {run.name}, or have another label there; attack the "
            "images that were certified."
        )
    right = both["predict"] == both["label"]
    certified = (both["correct"] == 1) & (both["radius"] >= epsilon)
    if "confirmed" in predictions:
        certified &= predictions["confirmed"].to_numpy(bool)
    broken = both["idx"][certified & ~right & (both["predict"] != ABSTAIN)]
    return Attacked(
        epsilon=float(epsilon),
        right=int(right.sum()),
        abstained=int((both["predict"] == ABSTAIN).sum()),
        images=len(both),
        broken=tuple(int(idx) for idx in broken),
    )


def attacks_of(run: Run, rows: Sequence[AttackRow]) -> dict[float, Attacked]:
    """What `certify attack` found at each fixed norm, held against the table that was attacked.

    Args:
        run: The certified table.
        rows: Those of the table of attacks; what was attacked at multiples of radii is left out.

    Raises:
        ValueError: If no row is of a fixed norm, or the rows are about another table.
    """
    fixed = [row for row in rows if row.factor is None]
    if not fixed:
        raise ValueError("nothing was attacked at a fixed norm; run `certify attack` with --radii.")
    radius = dict(zip(run.table["idx"], run.table["radius"], strict=True))
    other = sum(radius.get(row.idx) != row.radius for row in fixed)
    if other:
        raise ValueError(
            f"{other} of {len(fixed)} attacks are of images that {run.name} lacks or certifies at another radius; give "
            "the table that was attacked."
        )
    found = {}
    for epsilon in sorted({row.epsilon for row in fixed}):
        part = [row for row in fixed if row.epsilon == epsilon]
        predictions = pd.DataFrame(
            {
                "idx": [row.idx for row in part],
                "label": [row.label for row in part],
                "predict": [row.attacked_predict for row in part],
                "confirmed": [row.confirmed == CONFIRMED for row in part],
            }
        )
        found[epsilon] = under_attack(run, epsilon, predictions)
    return found


def attacked_part(run: Run, rows: Sequence[AttackRow]) -> Run:
    """The run with the rows of the images that were attacked: both bounds are then about the same ones."""
    part = run.table[run.table["idx"].isin({row.idx for row in rows})]
    return replace(run, table=part, summary=summarize(part))


def draw_attack_bounds(
    run: Run, attacks: Mapping[float, Attacked], *, title: str | None = None, certified: int | None = None
) -> Figure:
    """Certified accuracy as a step curve, accuracy under attack as points with intervals, and what lies between.

    Above the axes stands which images it is about, with how many samples: a figure travels alone.

    Args:
        run: The certified table, or its part that was attacked.
        attacks: At least one, by epsilon.
        title: Shown above that line.
        certified: Images of the whole table, where ``run`` is a part of it.
    """
    ceiling = run.summary.ceiling
    found = [attacks[epsilon] for epsilon in sorted(attacks)]
    end = 1.04 * max(run.summary.largest_radius, ceiling or 0.0, *(attack.epsilon for attack in found))
    figure, axes = new_axes(end or 1.0, "accuracy")
    axes.set_xlim(-0.02 * (end or 1.0), end or 1.0)  # room for the mark at 0
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
    lines = [*([plain(title)] if title is not None else []), _conditions(run, certified)]
    figure.suptitle("\n".join(lines), x=0.01, ha="left", fontsize=10)
    curve = step_curve(run.table, min(end, ceiling or run.summary.largest_radius) or 1.0)
    x, y = np.append(curve.radius, curve.radius[-1]), np.append(curve.accuracy, 0.0)
    axes.plot(
        x,
        y,
        drawstyle="steps-pre",
        color=COLOURS[0],
        linewidth=1.6,
        label=plain(f"certified, {run.name}: no attack can do worse"),
    )
    epsilon_E = np.array([attack.epsilon for attack in found])
    # An abstention is not a success: more samples may show that g is right.
    not_wrong_E = np.array([attack.right + attack.abstained for attack in found])
    images_E = np.array([attack.images for attack in found])
    accuracy_E = not_wrong_E / images_E
    limits = [proportion_interval(count, images) for count, images in zip(not_wrong_E, images_E, strict=True)]
    low_E, high_E = (np.array([float(pair[side]) for pair in limits]) for side in (0, 1))
    grid = np.linspace(epsilon_E[0], epsilon_E[-1], 500)
    proved = np.sort(run.table["radius"][run.table["correct"] == 1])
    below = (len(proved) - np.searchsorted(proved, grid, side="left")) / len(run.table)
    # What an attack leaves is an upper bound at its norm and beyond; a straight line to the next one would be none.
    above = np.minimum.accumulate(accuracy_E)[np.searchsorted(epsilon_E, grid, side="right") - 1]
    axes.fill_between(grid, below, above, color=GREY, alpha=0.15, linewidth=0, label="between: not known")
    marks = axes.errorbar(
        epsilon_E,
        accuracy_E,
        [np.maximum(accuracy_E - low_E, 0), np.maximum(high_E - accuracy_E, 0)],
        fmt="v--",
        drawstyle="steps-post",
        color=COLOURS[1],
        linewidth=1.2,
        markersize=5,
        capsize=2,
        label="not wrong under attack (95 % interval): the truth is no higher",
    )
    for artist in marks.get_children():
        artist.set_clip_on(False)  # at an accuracy of 1, too
    if ceiling is not None:
        axes.axvline(ceiling, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
        axes.annotate(
            f"ceiling {floor_text(ceiling, 3)}",
            (ceiling, 1),
            xycoords=axes.get_xaxis_transform(),
            xytext=(0, 3),
            textcoords="offset points",
            ha="center",
            color=GREY,
            fontsize=9.5,
        )
    axes.legend(frameon=False, fontsize=9, loc="best")
    return figure


def _conditions(run: Run, certified: int | None) -> str:
    """Two lines: which images, and with how many samples and which alpha they were certified, if the rows record."""
    summary = run.summary
    part = f" that were attacked, of {certified:,} certified" if certified not in (None, summary.images) else ""
    n = "unknown" if summary.n is None else f"{summary.n:,}"
    alpha = "unknown" if summary.alpha is None else f"{summary.alpha:g}"
    return f"{summary.images:,} images{part}\ncertificates: n = {n} samples, alpha = {alpha}"
