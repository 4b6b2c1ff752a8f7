"""Accuracies and perplexities that papers claim, as data in ``published/claims``.

Unlike the rows of `literature.curves` nobody can compute them again: there are no logs, only the number in the text.
"""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from maxup_smoothing.analysis.literature.curves import read_lines

_FILE = Path(__file__).with_name("published") / "claims" / "maxup.csv"
_COLUMNS = ("data", "method", "measure", "split", "value", "unknown", "source")
_MEASURES = {"accuracy": 100.0, "perplexity": math.inf}


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
    return read_lines(path, _COLUMNS, _claim)


def _claim(line: Mapping[str, str]) -> Claim:
    value, largest = float(line["value"]), _MEASURES.get(line["measure"])
    if largest is None:
        raise ValueError(f"measure must be one of {', '.join(_MEASURES)}, got {line['measure']!r}.")
    if not (0 < value < math.inf and value <= largest):
        raise ValueError(f"value must be positive and a possible {line['measure']}, got {value}.")
    texts = {name: line[name] for name in _COLUMNS if name != "value"}
    return Claim(value=value, **texts)
