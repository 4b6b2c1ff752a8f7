"""Certified accuracy from below and accuracy under attack from above: the truth lies between them.

No attack may succeed within a certified radius. Where one does, either the certificate, the attack's norm or the way
the two files belong together is wrong.
"""

# Shapes: E attacks.

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from analysis.curves import step_curve
from analysis.figures import COLOURS, GREY, new_axes, plain
from analysis.runs import Run
from certify.binomial import proportion_interval
from certify.radius import ABSTAIN


@dataclass(frozen=True, kw_only=True)
class Attacked:
    """The smoothed classifier under one attack.

    Attributes:
        epsilon: Largest l2 norm of the attack, in the radii's units.
        right: Images that were predicted rightly all the same.
        images: All that were attacked.
        broken: ``idx`` of images that are certified at epsilon or more and were predicted wrongly, not abstained.
    """

    epsilon: float
    right: int
    images: int
    broken: tuple[int, ...]


def under_attack(run: Run, epsilon: float, predictions: pd.DataFrame) -> Attacked:
    """Hold predictions of attacked images against their certificates.

    Args:
        run: The certified table.
        epsilon: Largest l2 norm of the attack, at least 0.
        predictions: Columns idx, label and predict (-1 for an abstention): what PREDICT said of the attacked images,
            some or all of those in the table.

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
    broken = both["idx"][certified & ~right & (both["predict"] != ABSTAIN)]
    return Attacked(
        epsilon=float(epsilon), right=int(right.sum()), images=len(both), broken=tuple(int(idx) for idx in broken)
    )


def draw_sandwich(run: Run, attacks: Mapping[float, Attacked]) -> Figure:
    """Certified accuracy as a step curve, accuracy under attack as points with intervals, and what lies between.

    Args:
        run: The certified table.
        attacks: At least one, by epsilon.
    """
    ceiling = run.summary.ceiling
    found = [attacks[epsilon] for epsilon in sorted(attacks)]
    end = 1.04 * max(run.summary.largest_radius, ceiling or 0.0, *(attack.epsilon for attack in found))
    figure, axes = new_axes(end or 1.0, "accuracy")
    axes.set_ylim(0, 1)
    certified = step_curve(run.table, min(end, ceiling or run.summary.largest_radius) or 1.0)
    x, y = np.append(certified.radius, certified.radius[-1]), np.append(certified.accuracy, 0.0)
    axes.plot(x, y, drawstyle="steps-pre", color=COLOURS[0], linewidth=1.6, label=plain(f"certified, {run.name}"))
    epsilon_E = np.array([attack.epsilon for attack in found])
    right_E, images_E = (np.array([getattr(attack, key) for attack in found]) for key in ("right", "images"))
    accuracy_E = right_E / images_E
    limits = [proportion_interval(right, images) for right, images in zip(right_E, images_E, strict=True)]
    low_E, high_E = (np.array([float(pair[side]) for pair in limits]) for side in (0, 1))
    grid = np.linspace(epsilon_E[0], epsilon_E[-1], 500)
    proved = np.sort(run.table["radius"][run.table["correct"] == 1])
    below = (len(proved) - np.searchsorted(proved, grid, side="left")) / len(run.table)
    above = np.interp(grid, epsilon_E, accuracy_E)
    axes.fill_between(grid, below, above, color=GREY, alpha=0.15, linewidth=0, label="not known")
    axes.errorbar(
        epsilon_E,
        accuracy_E,
        [np.maximum(accuracy_E - low_E, 0), np.maximum(high_E - accuracy_E, 0)],
        fmt="v--",
        color=COLOURS[1],
        linewidth=1.2,
        markersize=5,
        capsize=2,
        label="under attack (95 % interval)",
    )
    if ceiling is not None:
        axes.axvline(ceiling, color=GREY, linewidth=1, linestyle=(0, (1, 2)))
    axes.legend(frameon=False, fontsize=9, loc="best")
    return figure
