"""Paired counts of wrong answers, of abstentions, and of wrong answers that are certified."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from maxup_smoothing.analysis.comparison.networks import checked_pair
from maxup_smoothing.analysis.comparison.significance import holm, mcnemar_p_value, paired_interval
from maxup_smoothing.certify.statistics.radius import ABSTAIN


@dataclass(frozen=True, kw_only=True)
class PairedOutcome:
    """How many of the same ``images`` have one outcome under each of two networks, and under one of them alone.

    ``difference`` is the share under A minus that under B, in [-1, 1], ``low`` and ``high`` its 95 % interval.
    ``p_holm`` is McNemar's exact p-value, adjusted for the outcomes that were asked for together.
    """

    name: str
    images: int
    a: int
    b: int
    only_a: int
    only_b: int
    low: float
    high: float
    p_holm: float

    @property
    def difference(self) -> float:
        """In [-1, 1]."""
        return (self.a - self.b) / self.images


def failures(a: pd.DataFrame, b: pd.DataFrame) -> list[PairedOutcome]:
    """Wrong answers and abstentions of two tables over the same images; Holm's correction is over these two.

    Raises:
        ValueError: If the tables cannot be compared, see `analysis.comparison.networks.checked_pair`.
    """
    a, b = checked_pair(a, b)
    wrong, abstained = (_wrong(a), _wrong(b)), (_abstained(a), _abstained(b))
    return _outcomes({"wrong": wrong, "abstained": abstained})


def certified_mistakes(a: pd.DataFrame, b: pd.DataFrame, radii: Sequence[float]) -> list[PairedOutcome]:
    """Images that are answered wrongly with each radius or a larger one; Holm's correction is over the radii.

    The names are the radii, exactly.

    Raises:
        ValueError: If the tables cannot be compared, see `analysis.comparison.networks.checked_pair`.
    """
    a, b = checked_pair(a, b)
    return _outcomes({repr(float(radius)): (wrong_at(a, radius), wrong_at(b, radius)) for radius in radii})


def wrong_at(table: pd.DataFrame, radius: float) -> NDArray[np.bool_]:
    """Which images are answered wrongly, with a certificate of this radius or more, (rows,)."""
    return _wrong(table) & (table["radius"].to_numpy(np.float64) >= radius)


def _wrong(table: pd.DataFrame) -> NDArray[np.bool_]:
    return np.asarray((table["correct"].to_numpy() != 1) & ~_abstained(table))


def _abstained(table: pd.DataFrame) -> NDArray[np.bool_]:
    return np.asarray(table["predict"].to_numpy() == ABSTAIN)


def _outcomes(masks: dict[str, tuple[NDArray[np.bool_], NDArray[np.bool_]]]) -> list[PairedOutcome]:
    alone = [(int((a & ~b).sum()), int((b & ~a).sum())) for a, b in masks.values()]
    adjusted = holm([mcnemar_p_value(*counts) for counts in alone])
    found = []
    for (name, (a, b)), (only_a, only_b), p_holm in zip(masks.items(), alone, adjusted, strict=True):
        low, high = paired_interval(only_a, only_b, len(a))
        found.append(
            PairedOutcome(
                name=name,
                images=len(a),
                a=int(a.sum()),
                b=int(b.sum()),
                only_a=only_a,
                only_b=only_b,
                low=low,
                high=high,
                p_holm=float(p_holm),
            )
        )
    return found
