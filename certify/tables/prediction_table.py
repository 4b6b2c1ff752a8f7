"""The table of predictions: what PREDICT returned for each input, with the votes behind it.

Its first columns are those of this research field's prediction logs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maxup_smoothing.certify.statistics.radius import ABSTAIN, is_right
from maxup_smoothing.certify.tables.durable import DurableTable
from maxup_smoothing.certify.tables.fields import (
    as_attributes,
    contradiction,
    format_counts,
    format_seconds,
    parse_line,
)
from maxup_smoothing.certify.tables.row import FIELDS
from maxup_smoothing.data.dataset import UNLABELLED

COLUMNS = ("idx", "label", "predict", "correct", "time", "n", "sigma", "alpha", "counts")


@dataclass(frozen=True, kw_only=True)
class PredictionRow:
    """The answer for one input; ``predict`` is `ABSTAIN` where the votes did not decide, ``correct`` is then false."""

    idx: int
    label: int
    predict: int
    correct: bool
    seconds: float
    n: int
    sigma: float
    alpha: float
    counts: Mapping[int, int]

    @property
    def key(self) -> int:
        """What tells the rows of a table apart."""
        return self.idx


def format_prediction(row: PredictionRow) -> str:
    """The row's line, without its end."""
    fields = [row.idx, row.label, row.predict, int(row.correct), format_seconds(row.seconds), row.n]
    return "\t".join(map(str, [*fields, repr(row.sigma), repr(row.alpha), format_counts(row.counts)]))


def parse_prediction(line: str) -> PredictionRow:
    """The inverse of `format_prediction`.

    Raises:
        RowError: If a field is malformed or contradicts another one.
    """
    row = PredictionRow(**as_attributes(parse_line(line, COLUMNS, FIELDS)))
    if row.correct != is_right(row.predict, row.label):
        message = f"correct is {int(row.correct)}, but predict is {row.predict} and label {row.label}."
        raise contradiction("correct", message)
    if sum(row.counts.values()) != row.n:
        raise contradiction("counts", f"counts sum to {sum(row.counts.values())}, but n is {row.n}.")
    return row


class PredictionTable(DurableTable[PredictionRow]):
    """A table of predictions open for writing; see `certify.tables.durable`."""

    columns = COLUMNS
    kind = "table of predictions"
    format = staticmethod(format_prediction)
    parse = staticmethod(parse_prediction)


def render_predictions(rows: Mapping[int, PredictionRow]) -> str:
    """How many are right, wrong and abstained, and what they took; of images without labels, how many have a class."""
    right = sum(row.correct for row in rows.values())
    abstained = sum(row.predict == ABSTAIN for row in rows.values())
    wrong = len(rows) - right - abstained
    text = f"right {right}/{len(rows)}, wrong {wrong}/{len(rows)}, abstained {abstained}/{len(rows)}"
    if all(row.label == UNLABELLED for row in rows.values()):
        text = f"predicted {len(rows) - abstained}/{len(rows)}, abstained {abstained}/{len(rows)}; there are no labels"
    samples = _percentiles([row.n for row in rows.values()])
    times = _percentiles([row.seconds for row in rows.values()])
    if samples[0] < samples[-1]:
        text += "\nsamples an image: median {:.0f}, 90 % {:.0f}, 99 % {:.0f}".format(*samples)
    return text + "\nseconds an image: median {:.3g}, 90 % {:.3g}, 99 % {:.3g}".format(*times)


def _percentiles(values: Sequence[float]) -> list[float]:
    """The median, and what 90 % and 99 % of the values do not exceed."""
    ordered = sorted(values)
    return [ordered[max(0, -(-len(ordered) * share // 100) - 1)] for share in (50, 90, 99)]
