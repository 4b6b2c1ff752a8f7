"""Markdown tables, and values as text, for all parts of the report of results."""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

from maxup_smoothing.analysis.literature.claims import Claim
from maxup_smoothing.analysis.runs.folders import TrainedFolder
from maxup_smoothing.analysis.runs.kinds import Named, Warned
from maxup_smoothing.certify.statistics.rounding import ceil_text, floor_text

UNKNOWN = "–"


T = TypeVar("T", bound=Named)


def escaped(text: str) -> str:
    """Text as Markdown shows it unchanged, in a table too."""
    # An underscore between letters or digits marks nothing, and names are full of them.
    return re.sub(r"([\\|*`<>\[\]]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", " ".join(text.split()))


def table_text(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table, its first column to the left and the others to the right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [header, rule, *lines])


def told_text(value: object) -> str:
    """A value out of a file; a dash for none."""
    return UNKNOWN if value is None or (isinstance(value, float) and math.isnan(value)) else escaped(str(value))


def percent_digits(images: int) -> int:
    """Decimals of a percentage that tell single images apart."""
    return 1 if images <= 1000 else 2


def minutes_text(seconds: float | None) -> str:
    """A time of training."""
    return UNKNOWN if seconds is None else f"{seconds / 60:.1f} min"


def rate_text(rate: float | None) -> str:
    """Examples a second."""
    return UNKNOWN if rate is None else f"{rate:,.0f}"


def values_text(values: Iterable[object]) -> str:
    """Different values in their order, such as ``1 or 4``; whole numbers with separators."""
    told = (f"{value:,}" if type(value) is int else told_text(value) for value in values)
    return " or ".join(dict.fromkeys(told))


def compute_cells(folder: TrainedFolder, control: TrainedFolder) -> list[str]:
    """Whether a run is at equal epochs or equal compute with its control: epochs of both, and the ratio of times.

    Times of different devices, or of different numbers of threads or processes, have no ratio.
    """
    ours, theirs = folder.total_seconds(), control.total_seconds()
    ratio = f"× {ours / theirs:.2f}" if ours is not None and theirs else UNKNOWN
    where = ("device", "threads", "processes")
    if any(folder.environment.get(name) != control.environment.get(name) for name in where):
        ratio = "another device"
    return [f"{folder.epochs} : {control.epochs}", ratio]


def warnings_text(group: Sequence[Warned]) -> list[str]:
    """What must be read with care, with its heading; nothing where there is nothing."""
    found = [f"- **{escaped(folder.name)}**: {escaped(text)}.\n" for folder in group for text in folder.warnings()]
    return ["### To be read with care\n", "".join(found)] if found else []


def conditions_text(group: Sequence[T], tellers: Mapping[str, Callable[[T], object]]) -> str:
    """A line a condition: the value that all have, or each value and who has it."""
    lines = []
    for name, tell in tellers.items():
        told: dict[str, list[str]] = {}
        for folder in group:
            told.setdefault(told_text(tell(folder)), []).append(escaped(folder.name))
        alone = len(told) == 1
        lines.append(f"- {name}: " + "; ".join(v if alone else f"{v} ({', '.join(who)})" for v, who in told.items()))
    return "\n".join(lines) + "\n"


# Ours look no better here than in the tables above: an accuracy is rounded down there, a perplexity up.
_ROUNDED: Mapping[str, Callable[[float, int], str]] = {"accuracy": floor_text, "perplexity": ceil_text}


def claims_text(claims: Iterable[Claim], ours: Mapping[str, Sequence[float]], settings: Mapping[str, str]) -> str:
    """A table of the claims beside the range of our runs, both its ends rounded to the worse, and what differs.

    Args:
        claims: At least one, of one measure and one data set.
        ours: By split the values of all our runs, in the claims' unit.
        settings: What ours were trained with: a name, and the values of all runs.
    """
    lines, unknown = [], dict[str, None]()
    for claim in claims:
        found = [_ROUNDED[claim.measure](value, 2) for value in sorted(ours.get(claim.split, ()))]
        ranged = " to ".join(dict.fromkeys((found[0], found[-1]))) if found else "–"
        told = (claim.method, claim.measure, claim.split, f"{claim.value:.2f}", ranged, claim.source)
        lines.append([escaped(text) for text in told])
        unknown[claim.unknown] = None
    here = ", ".join(f"{name} {value}" for name, value in settings.items())
    return (
        table_text(["method", "measure", "split", "claimed", "all runs here", "source"], lines)
        + f"\nWhat differs. Here: {here}. There: {escaped('; '.join(unknown))} could not be looked up by this project. "
        "So the claim stands here for orientation; the difference to it is not one between methods.\n"
    )
