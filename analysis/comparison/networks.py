"""Two radius tables over the same images, compared image by image.

Two models see the same images, and most images are easy or hard for both: comparing each image with itself takes that
out, where two separate intervals would keep it. What is compared are two trained networks, not two methods: another
training seed would give other networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from maxup_smoothing.analysis.comparison.significance import (
    LEVEL,
    holm,
    mcnemar_p_value,
    mean_interval,
    paired_interval,
    sign_flip_p_value,
)
from maxup_smoothing.certify.logs.settings import norm_of
from maxup_smoothing.certify.statistics.rounding import ceil_text, floor_text, radius_text
from maxup_smoothing.certify.tables.summary import average_certified_radius, contributions

#: What a log of the field's scripts does not say, since they know nothing else.
CONVENTION: dict[str, object] = {"procedure": "fixed", "bound": "clopper-pearson"}
_WHY = {
    "sigma": "radii under different noise answer another question; pass different_sigma=True if it is yours",
    "n": "ACR and radii near the ceiling grow with n; certify both tables with the same --n",
    "alpha": "ACR grows with alpha; certify both tables with the same --alpha",
    "procedure": "they spend samples differently; certify both tables with the same --procedure",
    "bound": "they turn the same votes into other radii; certify both tables with the same --bound",
}


@dataclass(frozen=True, kw_only=True)
class AtRadius:
    """Certified accuracy of two tables at one radius.

    ``only_a`` images are certified (and right) by A alone, ``only_b`` by B alone. ``difference`` is A's certified
    accuracy minus B's, in [-1, 1], ``low`` and ``high`` its `paired_interval`. ``p_value`` is McNemar's exact one,
    ``p_holm`` the same adjusted for all radii of the comparison.
    """

    radius: float
    only_a: int
    only_b: int
    difference: float
    low: float
    high: float
    p_value: float
    p_holm: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A against B on the same ``images``; ``difference`` is A's ACR minus B's, within its interval ``low, high``.

    ``p_value`` is that of `sign_flip_p_value`: with few images that differ the interval alone is too short.
    """

    images: int
    acr_a: float
    acr_b: float
    difference: float
    low: float
    high: float
    p_value: float
    at: tuple[AtRadius, ...]


def compare_tables(
    a: pd.DataFrame, b: pd.DataFrame, radii: Sequence[float], *, seed: int = 0, different_sigma: bool = False
) -> Comparison:
    """Compare two radius tables over the same images, paired.

    Args:
        a: Rows as `certify.tables.radius_table.read` returns them, in any order.
        b: The table that it is held against.
        radii: Where certified accuracies are compared, chosen before looking, numbers >= 0.
        seed: Of the bootstrap of the ACR difference.
        different_sigma: Compare also models under different noise.

    Returns:
        Differences with 95 % intervals, and p-values adjusted by Holm's method over ``radii``.

    Raises:
        ValueError: If the tables have no rows, are about different images or labels, or were certified with different
            n, alpha, procedure, bound or (unless asked for) sigma; or if a radius is negative or not finite.

    References:
        McNemar (1947); Holm (1979); Agresti and Min (2005); Efron (1987); Fisher (1935).
    """
    at = np.asarray(list(radii), dtype=np.float64)
    if not np.all(np.isfinite(at) & (at >= 0)):
        raise ValueError(f"radii must be finite numbers >= 0, got {list(radii)}.")
    a, b = checked_pair(a, b, different_sigma=different_sigma)
    certified_a, certified_b = contributions(a), contributions(b)
    right_a, right_b = (table["correct"].to_numpy() == 1 for table in (a, b))
    counts = []
    for radius in at:
        shown_a, shown_b = right_a & (certified_a >= radius), right_b & (certified_b >= radius)
        counts.append((int((shown_a & ~shown_b).sum()), int((shown_b & ~shown_a).sum())))
    p_values = [mcnemar_p_value(*pair) for pair in counts]
    found = []
    for radius, (only_a, only_b), p_value, adjusted in zip(at, counts, p_values, holm(p_values), strict=True):
        low, high = paired_interval(only_a, only_b, len(a))
        found.append(
            AtRadius(
                radius=float(radius),
                only_a=only_a,
                only_b=only_b,
                difference=(only_a - only_b) / len(a),
                low=low,
                high=high,
                p_value=p_value,
                p_holm=float(adjusted),
            )
        )
    acr_a, acr_b = average_certified_radius(a), average_certified_radius(b)
    change = certified_a - certified_b
    low, high = mean_interval(change, seed=seed)
    return Comparison(
        images=len(a),
        acr_a=acr_a,
        acr_b=acr_b,
        difference=acr_a - acr_b,
        low=low,
        high=high,
        p_value=sign_flip_p_value(change, seed=seed),
        at=tuple(found),
    )


def verdict(comparison: Comparison, a: str, b: str) -> str:
    """What a comparison says, as one sentence about the names ``a`` and ``b``."""
    found = comparison
    interval = f"95 % interval {outwards_text(found.low, found.high, 4)}"
    higher = [radius_text(row.radius) for row in found.at if row.p_holm <= LEVEL and row.difference > 0]
    lower = [radius_text(row.radius) for row in found.at if row.p_holm <= LEVEL and row.difference < 0]
    if not (found.low > 0 or found.high < 0) or found.p_value > LEVEL:
        acr = f"No difference in ACR is shown between {a} and {b} ({found.difference:+.4f}, {interval})"
    else:
        word = "higher" if found.difference > 0 else "lower"
        acr = f"{a} has the {word} ACR, {found.difference:+.4f} against {b} ({interval})"
    shown = [f"{word} at r = {', '.join(at)}" for word, at in (("higher", higher), ("lower", lower)) if at]
    none = f"at none of {len(found.at)} radii is a difference shown"
    accuracy = f"the certified accuracy of {a} is {' and '.join(shown)}" if shown else f"{none} in certified accuracy"
    return f"{acr}; {accuracy}."


def p_text(p_value: float, equals: str = "") -> str:
    """A p-value with three decimals, rounded up, behind ``equals`` where that is not ``≤ 0.001``."""
    return f"{equals}{ceil_text(p_value, 3)}" if p_value > 0.001 else "≤ 0.001"


def outwards_text(low: float, high: float, digits: int) -> str:
    """An interval with signs, ``[-0.0012, +0.0301]``, its limits rounded outwards."""
    limits = floor_text(low, digits), ceil_text(high, digits)
    return f"[{', '.join(text if text.startswith('-') else f'+{text}' for text in limits)}]"


def checked_pair(
    a: pd.DataFrame, b: pd.DataFrame, *, different_sigma: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Both tables by ascending ``idx``.

    Raises:
        ValueError: If they have no rows, or differ in images, labels, n, alpha, procedure, bound or (unless asked for)
            sigma. Also if their radii are of different norms, or of an unknown one.
    """
    only_a, only_b = len(set(a["idx"]) - set(b["idx"])), len(set(b["idx"]) - set(a["idx"]))
    if only_a or only_b:
        raise ValueError(
            f"the tables are about different images ({only_a} are in the first alone, {only_b} in the second alone); "
            "certify both with the same --protocol and --limit."
        )
    if len(a) == 0:
        raise ValueError("the tables have no rows; certify some images first.")
    norm_a, norm_b = norm_of(a), norm_of(b)
    if norm_a != norm_b or norm_a is None:
        shown = " and ".join("unknown (too large for l2)" if norm is None else norm for norm in (norm_a, norm_b))
        raise ValueError(f"the norms of the radii are {shown}: a radius of one norm is no radius of another.")
    a, b = a.sort_values("idx"), b.sort_values("idx")
    if different := int((a["label"].to_numpy() != b["label"].to_numpy()).sum()):
        raise ValueError(
            f"{different} of {len(a)} images have another label in the second table, so the data sets differ; "
            "compare tables of one data set."
        )
    for name, why in _WHY.items():
        values_a, values_b = _values(a, name), _values(b, name)
        if values_a != values_b and not (name == "sigma" and different_sigma):
            raise ValueError(f"the tables have different {name}, {_shown(values_a)} and {_shown(values_b)}: {why}.")
    return a, b


def _values(table: pd.DataFrame, name: str) -> list[object]:
    """The values that a setting has in a table; of n only where it is one: early stopping has as many as rows."""
    if name not in table and name in CONVENTION:
        return [CONVENTION[name]]
    if name not in table or (name == "n" and "procedure" in table and set(table["procedure"]) != {"fixed"}):
        return []
    return sorted(set(table[name].tolist()))


def _shown(values: list[object]) -> str:
    return "/".join(map(str, values[:3])) + ("/…" if len(values) > 3 else "") if values else "unknown"
