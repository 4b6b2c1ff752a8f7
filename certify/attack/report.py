"""The report of attacks as text: accuracy under attack beside certified accuracy, and the alarm."""

import math
from collections.abc import Sequence

import pandas as pd

from maxup_smoothing.certify.attack.table import CONFIRMED, REFUTED, AttackRow
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.statistics.rounding import floor_text, fraction_text, radius_text
from maxup_smoothing.certify.tables.population import false_certificates, largest_alpha

_LITTLE = 0.5  # of the norm that was allowed
_SHOWN = 5


def render(rows: Sequence[AttackRow]) -> str:
    """The tables, at most 80 columns, without a line end at the end."""
    fixed, relative = ([row for row in rows if (row.factor is None) == kind] for kind in (True, False))
    lines = []
    if fixed:
        lines.append(
            f"{'epsilon':>8}  {'certified':>15}  {'right under attack':>18}  {'gap':>6}  {'abstained':>9}  used"
        )
        for epsilon in sorted({row.epsilon for row in fixed}):
            part = [row for row in fixed if row.epsilon == epsilon]
            # Abstentions and wrong certificates have no radius that counts.
            certified = sum(row.predict == row.label and row.radius >= epsilon for row in part)
            right = sum(row.right for row in part)
            # An abstention is not a success: more samples may show that g is right.
            above = right + _abstained(part)
            lines.append(
                f"{radius_text(epsilon):>8}  {_share(certified, part):>15}  {_share(right, part):>18}  "
                f"{(above - certified) / len(part):>6.3f}  {_abstained(part):>9}  {_used(part)}"
            )
    if relative:
        lines += [""] if fixed else []
        lines.append(
            f"{'of radius':>9}  {'images':>6}  {'successes':>9}  {'inside':>6}  {'confirmed inside':>16}  "
            f"{'abstained':>9}  used"
        )
        for factor in sorted({row.factor for row in relative if row.factor is not None}):
            part = [row for row in relative if row.factor == factor]
            successes = [row for row in part if row.success]
            lines.append(
                f"{radius_text(factor):>9}  {len(part):>6}  {len(successes):>9}  "
                f"{sum(row.inside for row in successes):>6}  {sum(row.confirmed == CONFIRMED for row in part):>16}  "
                f"{_abstained(part):>9}  {_used(part)}"
            )
    lines += [
        "",
        "used: mean of distance / epsilon over what was moved. Inputs are 8-bit images, so distances are exact.",
        *(["gap: (right or abstained) - certified; the truth lies between."] if fixed else []),
    ]
    moved = _ratios(rows)
    if moved and sum(moved) / len(moved) < _LITTLE:
        lines.append("The attacks used little of what they were allowed: they show little.")
    refuted = sum(row.confirmed == REFUTED for row in rows)
    if refuted:
        lines.append(f"{refuted} successes within a radius were not confirmed by PREDICT at the strict alpha.")
    if not any(row.confirmed == CONFIRMED for row in rows):
        lines.append("No attack was confirmed within a certified radius.")
    return "\n".join(lines)


def alarm(rows: Sequence[AttackRow], table: pd.DataFrame, confirm_alpha: float) -> str | None:
    """What to say of attacks that were confirmed within a certified radius; None if there is none.

    Args:
        rows: Of the table of attacks.
        table: The certified table, as `certify.tables.radius_table.read` returns it.
        confirm_alpha: Of PREDICT, with which they were confirmed.
    """
    broken = [row for row in rows if row.confirmed == CONFIRMED]
    if not broken:
        return None
    images = sorted({row.idx for row in broken})
    plural = "s" if len(images) > 1 else ""
    lines = [f"ALARM: {len(images)} certificate{plural} broken: another class within the certified radius."]
    for row in broken[:_SHOWN]:
        found = max((kind for kind in row.confirm_counts if kind >= 0), key=row.confirm_counts.__getitem__)
        lines.append(
            f"  idx {row.idx}: class {row.predict} within {floor_text(row.radius, 4)}, but class {found} at distance "
            f"{row.distance:.4f} ({row.attack}): {row.confirm_counts[found]:,} of "
            f"{sum(row.confirm_counts.values()):,} votes, alpha {confirm_alpha:g}"
        )
    if len(broken) > _SHOWN:
        lines.append(f"  … and {len(broken) - _SHOWN} more rows")
    alpha, false = largest_alpha(table), false_certificates(table)
    if alpha is not None and false is not None:
        lines.append(
            f"Each certificate may be false with probability {alpha:g}; of this table's {false.certificates}, at most "
            f"{false.at_most} are\nwith probability {false.probability:.4g}. One that is false by chance is nearly "
            "true: its attack needs nearly\nthe whole radius, and with another seed the image gets a smaller one."
        )
    lines.append(
        "Otherwise the chain is broken. Check that `certify verify` draws the rows again (votes, seed, bound),\n"
        "that `certify audit` and `certify selftest` pass, that the model is in evaluation mode, normalises\n"
        "inside and treats each row of a batch by itself, and that the seed was not the best of several.\n"
        "Until then use no radius of this table."
    )
    return "\n".join(lines)


def _share(part: int, rows: Sequence[AttackRow]) -> str:
    return f"{fraction_text(part, len(rows), 4)} {part}/{len(rows)}"


def _abstained(rows: Sequence[AttackRow]) -> int:
    return sum(row.attacked_predict == ABSTAIN for row in rows)


def _ratios(rows: Sequence[AttackRow]) -> list[float]:
    """Distance by norm of the rows that were to be moved."""
    attacked = [row for row in rows if row.epsilon > 0 and row.predict in (row.label, ABSTAIN)]
    return [row.distance / row.epsilon for row in attacked]


def _used(rows: Sequence[AttackRow]) -> str:
    found = _ratios(rows)
    return floor_text(math.fsum(found) / len(found), 3) if found else "-"
