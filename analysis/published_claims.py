"""What papers claim of accuracy and perplexity, as data in ``analysis/published/claims``: numbers to stand beside ours.

Unlike the rows of `analysis.published` nobody can compute them again: there are no logs, only the number in the text.
"""

import csv
import io
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.results_text import escaped, table_text
from certify.summary import ceil_text, floor_text
from data.bounded import read_bytes

_LARGEST = 1_000_000
_FILE = Path(__file__).with_name("published") / "claims" / "maxup.csv"
_COLUMNS = ("data", "method", "measure", "split", "value", "unknown", "source")
_MEASURES = {"accuracy": 100.0, "perplexity": math.inf}
# Ours look no better here than in the tables above: an accuracy is rounded down there, a perplexity up.
_ROUNDED: Mapping[str, Callable[[float, int], str]] = {"accuracy": floor_text, "perplexity": ceil_text}


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One number: ``measure`` is accuracy, in percent, or perplexity; ``unknown`` is what we do not know of it."""

    data: str
    method: str
    measure: str
    split: str
    value: float
    unknown: str
    source: str


def load_claims(path: str | os.PathLike[str] = _FILE) -> list[Claim]:
    """Read claims.

    Args:
        path: A CSV file with the columns that `Claim` names; by default those of the MaxUp paper.

    Raises:
        ValueError: If a column is missing, or a value is none, with file and line.
        OSError: If the file cannot be read.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_bytes(path, _LARGEST).decode("utf-8-sig"), newline=""))
        missing = [name for name in _COLUMNS if name not in (reader.fieldnames or ())]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8: {error}.") from None
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; add them to its first line.")
    claims = []
    try:
        for line in reader:
            claims.append(_claim(line))
    except (TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    return claims


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


def _claim(line: Mapping[str, str]) -> Claim:
    value, largest = float(line["value"]), _MEASURES.get(line["measure"])
    if largest is None:
        raise ValueError(f"measure must be one of {', '.join(_MEASURES)}, got {line['measure']!r}.")
    if not (0 < value < math.inf and value <= largest):
        raise ValueError(f"value must be positive and a possible {line['measure']}, got {value}.")
    texts = {name: line[name] for name in _COLUMNS if name != "value"}
    return Claim(value=value, **texts)
