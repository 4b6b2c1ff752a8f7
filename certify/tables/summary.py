"""The numbers of a whole radius table: certified accuracy by radius, in the table and in the population, and ACR.

Printed accuracies, radii and lower limits are rounded down and upper limits up: no printed number claims more than the
table does.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from maxup_smoothing.certify.statistics.binomial import proportion_interval
from maxup_smoothing.certify.statistics.radius import ABSTAIN, ceiling_radius
from maxup_smoothing.certify.statistics.rounding import ceil_text, floor_text, fraction_text, radius_text
from maxup_smoothing.certify.tables.fields import format_seconds
from maxup_smoothing.certify.tables.population import (
    false_certificates,
    largest_alpha,
    of_one_class,
    population_lower_bound,
)
from maxup_smoothing.certify.tables.restated import AMONG
from maxup_smoothing.data.dataset import UNLABELLED

_STEP = 0.25


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A radius table in numbers; None for what the file does not say, or not once for all its rows.

    ``acr`` is the mean over all images of the radius, abstentions and wrong predictions counting 0. It grows with
    ``n`` and ``alpha``, so it means nothing without them. ``ceiling`` is the radius of a unanimous vote of n samples;
    procedures that stop early have neither one n nor a ceiling that the rows show.
    """

    images: int
    correct: int
    wrong: int
    abstained: int
    acr: float
    largest_radius: float
    median_seconds: float
    sigma: float | None
    n0: int | None
    n: int | None
    alpha: float | None
    procedure: str | None
    bound: str | None
    ceiling: float | None


def summarize(table: pd.DataFrame) -> Summary:
    """The numbers of a table as `certify.tables.radius_table.read` returns it.

    Raises:
        ValueError: If the table has no rows or no labels.
    """
    require_labels(table)
    correct, abstained = table["correct"] == 1, table["predict"] == ABSTAIN
    return Summary(
        images=len(table),
        correct=int(correct.sum()),
        wrong=int((~correct & ~abstained).sum()),
        abstained=int(abstained.sum()),
        acr=average_certified_radius(table),
        largest_radius=float(table["radius"].max()),
        median_seconds=float(table["time"].median()),
        **_settings(table),
    )


def _settings(table: pd.DataFrame) -> dict[str, Any]:
    """The last fields of a `Summary`, which do not depend on labels."""
    sigma, n0, n, alpha = (_common(table, column) for column in ("sigma", "n0", "n", "alpha"))
    procedure, bound = (_common(table, column) for column in ("procedure", "bound"))
    if "procedure" in table and procedure != "fixed":
        n = None
    plain = procedure in ("fixed", None) and bound in ("clopper-pearson", None)
    plain &= ("norm" not in table or _common(table, "norm") == "l2") and AMONG not in table
    unknown = sigma is None or n is None or alpha is None or not plain
    ceiling = None if unknown else ceiling_radius(n, alpha, sigma)
    settings = {"sigma": sigma, "n0": n0, "n": n, "alpha": alpha}
    return {**settings, "procedure": procedure, "bound": bound, "ceiling": ceiling}


def has_labels(table: pd.DataFrame) -> bool:
    """Whether the images of a table have labels.

    Raises:
        ValueError: If the table has no rows, or only some of its images have labels.
    """
    if len(table) == 0:
        raise ValueError("the table has no rows: nothing has been certified yet.")
    unlabelled = int((table["label"] == UNLABELLED).sum()) if "label" in table else 0
    if 0 < unlabelled < len(table):
        raise ValueError(
            f"{unlabelled} of {len(table)} rows have no label (-1), and such a mixture has no accuracy; certify images "
            "with labels and images without into tables of their own."
        )
    return unlabelled == 0


def require_labels(table: pd.DataFrame) -> None:
    """Refuse a table that no accuracy can be read off.

    Raises:
        ValueError: If it has no rows, or its images have no labels.
    """
    if not has_labels(table):
        raise ValueError("its images have no labels, so no accuracy is known; `certify show` prints its radii.")


def average_certified_radius(table: pd.DataFrame) -> float:
    """Mean over all images of the certified radius, 0 for an abstention or a wrong prediction.

    Raises:
        ValueError: If the table has no rows or no labels.
    """
    require_labels(table)
    return math.fsum(table["radius"][table["correct"] == 1]) / len(table)


def certified_accuracy(table: pd.DataFrame, radii: Sequence[float], confidence: float = 0.95) -> pd.DataFrame:
    """Share of all images that are predicted rightly and certified at each radius or a larger one.

    Args:
        table: Rows as `certify.tables.radius_table.read` returns them.
        radii: Numbers >= 0 in the table's units.
        confidence: In (0, 1), of the two-sided Clopper-Pearson interval for another image of the same kind, and of the
            one-sided bound for the population. It holds for each radius by itself, not for the whole curve at once.

    Returns:
        A line a radius: ``radius``, ``certified`` (count), ``images``, ``accuracy``, ``low``, ``high``, ``population``.
        The last is a lower bound on the share of all images that is truly robust, see `tables.population`. It is nan
        where alpha is unknown, or where all of more than four rows are of one class.

    Raises:
        ValueError: If the table has no rows or no labels, or a radius is negative or not finite.
    """
    require_labels(table)
    return certified_share(table, radii, confidence)


def certified_share(table: pd.DataFrame, radii: Sequence[float], confidence: float = 0.95) -> pd.DataFrame:
    """As `certified_accuracy`; of images without labels the share that is certified, right or not.

    The bound for the population is then on the images whose smoothed class, whichever it is, holds within the radius.
    """
    at = np.asarray(list(radii), dtype=np.float64)
    if not np.all(np.isfinite(at) & (at >= 0)):
        raise ValueError(f"radii must be finite numbers >= 0, got {list(radii)}.")
    counted = table["correct"] == 1 if has_labels(table) else table["predict"] != ABSTAIN
    proved = np.sort(table["radius"].to_numpy(np.float64)[counted.to_numpy()])
    certified = len(proved) - np.searchsorted(proved, at, side="left")  # inclusive: radius >= r
    low, high = proportion_interval(certified, len(table), confidence)
    alpha = None if of_one_class(table) else largest_alpha(table)
    return pd.DataFrame(
        {
            "radius": at,
            "certified": certified,
            "images": len(table),
            "accuracy": certified / len(table),
            "low": low,
            "high": high,
            "population": np.nan if alpha is None else population_lower_bound(certified, len(table), alpha, confidence),
        }
    )


def default_radii(ceiling: float, step: float = _STEP) -> list[float]:
    """0, 0.25, 0.5 … below ``ceiling``, each a multiple of ``step``; 0 alone where nothing can be certified."""
    # Divided and not multiplied, so that 3 steps of 0.1 are 0.3.
    return [
        index * step if step >= 1 / 4 else index / round(1 / step) for index in range(max(1, math.ceil(ceiling / step)))
    ]


def radii_of(table: pd.DataFrame) -> list[float]:
    """The default radii of a table: up to its ceiling, or to its largest radius where the file has no ceiling."""
    has_labels(table)  # which refuses a table without rows
    ceiling = _settings(table)["ceiling"]
    ceiling = math.nextafter(float(table["radius"].max()), math.inf) if ceiling is None else ceiling
    return default_radii(ceiling, _step(ceiling) if _common(table, "norm") == "linf" else _STEP)


def _step(ceiling: float) -> float:
    """1, 1/2, 1/4, 1/10, 1/20, 1/40 …: the first that divides the radii up to ``ceiling`` into at least four."""
    steps = (1 / (part * 10**digits) for digits in range(8) for part in (1, 2, 4))
    return next((step for step in steps if 4 * step <= ceiling), _STEP)


def render(table: pd.DataFrame, radii: Sequence[float] | None = None) -> str:
    """A table's summary as text of at most 80 columns, without a line end at its end.

    Args:
        table: Rows as `certify.tables.radius_table.read` returns them.
        radii: Where to state the certified accuracy; `radii_of` the table if None.

    Raises:
        ValueError: If the table has no rows or a radius is negative or not finite.
    """
    labelled, images = has_labels(table), len(table)
    settings = _settings(table)
    curve = certified_share(table, radii_of(table) if radii is None else radii).to_dict("records")
    unproved = "none" if of_one_class(table) else "unknown"
    width = max(8, *(len(radius_text(row["radius"])) for row in curve))
    share = "accuracy" if labelled else "share"
    lines = [f"{'radius':>{width}}  {'certified':>13}  {share:>8}  {'95 % interval':<16}  population >="]
    for row in curve:
        count = f"{row['certified']}/{row['images']}"
        lines.append(
            f"{radius_text(row['radius']):>{width}}  {count:>13}  "
            f"{fraction_text(row['certified'], row['images'], 4):>8}  "
            f"[{floor_text(row['low'], 4)}, {ceil_text(row['high'], 4)}]  "
            f"{unproved if math.isnan(row['population']) else floor_text(row['population'], 4):>13}"
        )
    told = ", ".join(f"{name}={settings[name]}" for name in ("sigma", "n0", "n", "alpha") if settings[name] is not None)
    procedures = (settings["procedure"], settings["bound"])
    unusual = [name for name in procedures if name not in (None, "fixed", "clopper-pearson")]
    told += "".join(f", {name}" for name in unusual)
    ceiling = "unknown: it takes one sigma, n and alpha for all rows"
    known = not any(settings[name] is None for name in ("sigma", "n", "alpha"))
    if known and AMONG in table:
        ceiling = "not known for radii of being among several classes"
    elif known and "norm" in table:
        ceiling = "not known for radii of this norm"
    if unusual:
        ceiling = f"not told by rows of {' and '.join(unusual)}; see `certify plan`"
    if settings["ceiling"] is not None:
        ceiling = f"{floor_text(settings['ceiling'], 4)}, the radius of a unanimous vote"
    abstained = int((table["predict"] == ABSTAIN).sum())
    if labelled:
        wrong = images - abstained - int((table["correct"] == 1).sum())
        acr = {"ACR": f"{floor_text(average_certified_radius(table), 4)} at {told or 'unknown n and alpha'}"}
        last = {"wrong": f"{wrong}/{images}, predicted and certified as another class"} if AMONG not in table else {}
    else:
        mean = math.fsum(table["radius"]) / images
        acr = {"mean radius": f"{floor_text(mean, 4)} at {told or 'unknown n and alpha'}, 0 for an abstention"}
        last = {"labels": "none: which of the certified classes are right is not known"}
    median = float(table["time"].median())
    facts = {
        **_restated_texts(table, labelled),
        **acr,
        "ceiling": ceiling,
        "largest radius": floor_text(float(table["radius"].max()), 4),
        "abstained": f"{abstained}/{images}",
        **last,
        **_proved_texts(table),
        "time": "unknown" if math.isnan(median) else f"{format_seconds(median)} an image (median)",
    }
    return "\n".join([*lines, "", *(f"{name:<16}{text}" for name, text in facts.items())])


def _restated_texts(table: pd.DataFrame, labelled: bool) -> dict[str, str]:
    """What the radii of a table are, where they are not l2 radii of one class."""
    texts = {}
    if AMONG in table:
        which = "the label" if labelled else "the selected class"
        texts["top-k"] = f"{which} is among the first {_common(table, AMONG)} classes within the radius"
    if (norm := _common(table, "norm")) not in (None, "l2"):
        texts["norm"] = f"{norm}: no change of smaller {norm} norm"
    return texts


def saved_text(table: pd.DataFrame, n: int) -> str:
    """What a procedure that stops early used, against a fixed number of samples, in a line.

    Args:
        table: Rows as `certify.tables.radius_table.read` returns them, with n0 and n.
        n: The fixed number.
    """
    used = (table["n0"] + table["n"]).mean()
    fixed = (table["n0"] + n).mean()
    return (
        f"samples         {used:,.0f} an image (median n {table['n'].median():,.0f}); "
        f"fixed n={n:,} takes {fixed / used:.1f} times as many"
    )


def _proved_texts(table: pd.DataFrame) -> dict[str, str]:
    found = false_certificates(table)
    if found is None:
        return dict.fromkeys(("false", "population"), "unknown: it takes alpha")
    number = f"at most {found.at_most}" if found.at_most else "none"
    probability = floor_text(found.probability, 4).rstrip("0").rstrip(".")
    return {
        "false": f"{number} of {found.certificates} certificates, with probability {probability}",
        "population": "no statement: all rows are of one class"
        if of_one_class(table)
        else "truly robust share at confidence 0.95, for randomly drawn images",
    }


def _common(table: pd.DataFrame, column: str) -> Any:
    """The value that a column has in all rows, None if there is no such value."""
    if column not in table or table[column].nunique() != 1:
        return None
    value = table[column].iloc[0]
    return value if isinstance(value, str) else value.item()


def contributions(table: pd.DataFrame) -> NDArray[np.float64]:
    """What each image adds to ACR, in the table's order: its radius, 0 where abstained or wrong; float64, (rows,)."""
    return np.where(table["correct"].to_numpy() == 1, table["radius"].to_numpy(np.float64), 0.0)
