"""Rows of tables whose radius holds for another classifier than the one that voted, and how they are made.

There is no network here, and no torch.
A transferred row is a row of a radius table with one more column, the pairs that carried it over. Its votes and looks
are still those of the certified classifier f, at their part of alpha; bounds, class and radius are those of the
deployed one. `certify.tables.row` checks both, so every reader of radius tables does.
"""

from dataclasses import dataclass
from fractions import Fraction

from maxup_smoothing.certify.statistics.binomial import LARGEST_N, require_alpha
from maxup_smoothing.certify.statistics.disagreement import TRANSFER, Pairs, format_pairs
from maxup_smoothing.certify.statistics.radius import ABSTAIN, is_right, two_class_radius
from maxup_smoothing.certify.statistics.rounding import rounded_down
from maxup_smoothing.certify.tables.durable import DurableTable
from maxup_smoothing.certify.tables.fields import ABSTAINED, CERTIFIED, as_attributes
from maxup_smoothing.certify.tables.recompute import recompute_row
from maxup_smoothing.certify.tables.row import COLUMNS, Row, format_row, parse_fields

_WHOLE = 1 - 1e-9  # of what its bounds give: a radius below that had a distance taken off that belongs to another image


@dataclass(frozen=True, kw_only=True)
class TransferredRow(Row):
    """A row of a transferred table; ``transfer`` are its pairs."""

    transfer: Pairs


def _format(row: TransferredRow) -> str:
    return f"{format_row(row)}\t{format_pairs(row.transfer)}"


def _parse(line: str) -> TransferredRow:
    return TransferredRow(**as_attributes(parse_fields(line, TransferredTable.columns)))


class TransferredTable(DurableTable[TransferredRow]):
    """A transferred table open for writing; see `certify.tables.durable`."""

    columns = (*COLUMNS, TRANSFER)
    kind = "transferred table"
    format = staticmethod(_format)
    parse = staticmethod(_parse)


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """The settings of a transfer.

    Attributes:
        pairs: Answers of both classifiers to the same noisy copy, for each image.
        alpha: Failure probability of each transferred certificate, in (0, 1).
        split: Share of alpha that is spent on the pairs, in (0, 1); the votes get the rest.
        probability_error: See `certify.tables.recompute.recompute_row`.

    Raises:
        ValueError: If a setting is out of range.
    """

    pairs: int
    alpha: float
    split: float
    probability_error: float | None = None

    def __post_init__(self) -> None:
        """Check every setting."""
        if self.pairs < 1:
            raise ValueError(f"--pairs must be at least 1, got {self.pairs}.")
        if self.pairs > LARGEST_N:
            raise ValueError(f"--pairs must be at most {LARGEST_N}, got {self.pairs}.")
        require_alpha(self.alpha)
        if not 0 < self.split < 1:
            raise ValueError(
                f"--alpha-share, the share of alpha for the pairs, must lie between 0 and 1, got {self.split}."
            )

    @property
    def votes_alpha(self) -> float:
        """What the votes may spend."""
        return self.alpha * (1 - self.split)

    @property
    def level(self) -> float:
        """What the pairs may spend: the rest, rounded down."""
        return rounded_down(Fraction(self.alpha) - Fraction(self.votes_alpha))

    def voted(self, row: Row) -> Row:
        """The row at what the votes may spend.

        Raises:
            ValueError: If the row had something taken off its radius, or alpha is too small.
        """
        if 0 < row.radius < _WHOLE * float(two_class_radius(row.p_a_lower, row.p_b_upper, row.sigma)):
            raise ValueError(
                f"the radius of idx {row.idx} is less than its bounds give, so another input than the data set's was "
                "certified; its pairs cannot be drawn."
            )
        return recompute_row(row, alpha=self.votes_alpha, probability_error=self.probability_error)

    def can_certify(self, row: Row) -> bool:
        """Whether anything is left of the row if no pair is lost; if not, none need be drawn."""
        best = self.carry(row, differing=0, lost=0)
        return best.predict != ABSTAIN

    def carry(
        self, row: Row, *, differing: int, lost: int, pairs: int | None = None, seconds: float = 0.0
    ) -> TransferredRow:
        """The row's certificate for f', by the pairs that were counted.

        With probability at least 1 - alpha it is true or an abstention.

        Args:
            row: As it was certified, for f.
            differing: See `certify.statistics.disagreement`.
            lost: See `certify.statistics.disagreement`.
            pairs: How many; ``self.pairs`` if None, 0 for an abstention without any.
            seconds: What they took.
        """
        voted = self.voted(row)
        counted = Pairs(self.pairs if pairs is None else pairs, differing, lost, self.level)
        p_a_lower, p_b_upper = counted.carried(voted.p_a_lower, voted.p_b_upper, row.bound)
        kept = voted.predict != ABSTAIN and row.predict != ABSTAIN and p_a_lower > p_b_upper
        radius = float(two_class_radius(p_a_lower, p_b_upper, row.sigma)) if kept else 0.0
        predict = row.selected if kept else ABSTAIN
        fields = {name: getattr(voted, name) for name in Row.__dataclass_fields__}
        fields |= {"predict": predict, "radius": radius, "correct": is_right(predict, row.label), "seconds": seconds}
        fields |= {"p_a_lower": p_a_lower, "p_b_upper": p_b_upper, "alpha": self.alpha}
        fields |= {"status": CERTIFIED if kept else ABSTAINED}
        return TransferredRow(**fields, transfer=counted)
