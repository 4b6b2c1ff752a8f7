"""Paired comparisons of a report: pairs of runs on the same images, with verdicts and tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from maxup_smoothing.analysis.comparison.networks import (
    CONVENTION,
    AtRadius,
    Comparison,
    compare_tables,
    outwards_text,
    p_text,
    verdict,
)
from maxup_smoothing.analysis.comparison.outcomes import PairedOutcome, certified_mistakes, failures
from maxup_smoothing.analysis.comparison.significance import LEVEL
from maxup_smoothing.analysis.report.notices import different_settings
from maxup_smoothing.analysis.report.numbers import Cell, Table, chosen_radii, radius_heading
from maxup_smoothing.analysis.report.subjects import ReportRun
from maxup_smoothing.analysis.runs.run import is_named
from maxup_smoothing.certify.statistics.rounding import radius_text

#: The settings that logs of other projects leave out, with the value they have there, None where it varies.
_USUAL = {"sigma": None, "n": None, "alpha": None, **CONVENTION}
_ALL_PAIRS = 3  # runs on the same images of which every pair is compared, not only those with the control


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A run compared with another: a verdict in a sentence and a table, or the reason why there is none.

    ``details`` are what the verdict leaves out: radii without a difference, wrong answers and abstentions. ``table``
    is about what is right, ``mistakes`` about what is wrong and yet certified; ``at`` are the radii of ``table``.
    ``assumed`` names the settings that only one of the two records, and that were taken for equal.
    """

    subject: ReportRun
    control: ReportRun
    verdict: str | None = None
    details: str = ""
    table: Table | None = None
    mistakes: Table | None = None
    at: tuple[AtRadius, ...] = ()
    reason: str | None = None
    assumed: str = ""


def require_control(subjects: Sequence[ReportRun], control: str | None) -> None:
    """Refuse a control that is none of the runs.

    Raises:
        ValueError: If it is none, with the names there are.
    """
    if control is not None and not any(is_named(subject.name, control) for subject in subjects):
        names = ", ".join(subject.name for subject in subjects)
        raise ValueError(f"--control {control} is none of the runs; name one of {names}.")


def pairs(
    subjects: Sequence[ReportRun], control: str | None, radii: Sequence[float] | None = None
) -> tuple[list[Pair], list[ReportRun]]:
    """All runs with the control of those on the same images, and the runs that are alone with their images.

    The control is the one that is named, or the first run of the group where the name is not among them. Of a group of
    up to three runs the remaining pairs follow, the earlier run compared with the later one. Without ``radii`` each
    pair is compared at those that its own two runs reach.
    """
    groups: list[list[ReportRun]] = []
    for subject in subjects:
        fitting = next((group for group in groups if _same_images(group[0], subject)), None)
        if fitting is None:
            groups.append([subject])
        else:
            fitting.append(subject)
    found = []
    for group in groups:
        held = next((one for one in group if control is not None and is_named(one.name, control)), group[0])
        others = [one for one in group if one is not held]
        found += [_pair(one, held, radii) for one in others]
        if len(group) <= _ALL_PAIRS:
            found += [_pair(earlier, later, radii) for earlier, later in combinations(others, 2)]
    return found, [group[0] for group in groups if len(group) == 1 and len(subjects) > 1]


def _pair(subject: ReportRun, control: ReportRun, radii: Sequence[float] | None) -> Pair:
    if different := different_settings([subject, control]):
        return Pair(subject=subject, control=control, reason=" ".join(different))
    radii = chosen_radii([subject, control]) if radii is None else radii
    unknown = [name for name in _USUAL if _taken_as_usual(name, subject, control)]
    try:
        a, b = (one.run.table.drop(columns=unknown, errors="ignore") for one in (subject, control))
        found = compare_tables(a, b, radii)
    except ValueError as error:
        return Pair(subject=subject, control=control, reason=str(error))
    digits = 1 if found.images <= 1000 else 2
    failed = failures(a, b)
    interval = outwards_text(found.low, found.high, 4)
    acr = ("ACR", (f"{found.difference:+.4f}", interval), (p_text(found.p_value), "by itself"), "", "")
    table = Table(
        caption=f"{subject.name} minus {control.name}, paired over {found.images:,} images, in percentage points",
        header=("radius", ("difference", "95 % interval"), "p (Holm)", ("only", subject.name), ("only", control.name)),
        rows=(*(_row(row, digits) for row in found.at), *(_failed_row(one, digits) for one in failed), acr),
        rules=("wrong", "ACR"),
    )
    wrong = certified_mistakes(a, b, [radius for radius in radii if radius > 0])
    sentence = verdict(found, subject.name, control.name)
    return Pair(
        subject=subject,
        control=control,
        verdict=sentence,
        details=f"{_undecided(found, digits)}{_cost(failed, wrong, subject.name, control.name)}",
        table=table,
        mistakes=_mistakes(wrong, subject.name, control.name),
        at=found.at,
        assumed=", ".join(unknown),
    )


def _undecided(found: Comparison, digits: int) -> str:
    """A sentence with the differences at radii where none is shown, which `verdict` leaves out."""
    rows = [row for row in found.at if row.p_holm > LEVEL]
    if not rows:
        return ""
    points = [f"{100 * row.difference:+.{digits}f}" for row in rows]
    if len(rows) == len(found.at):
        ordered = sorted(rows, key=lambda row: row.difference)
        low, high = (f"{100 * row.difference:+.{digits}f}" for row in (ordered[0], ordered[-1]))
        return f"The differences at these radii are {low if low == high else f'from {low} to {high}'} points. "
    at = [f"{radius_text(row.radius)} ({told} points)" for row, told in zip(rows, points, strict=True)]
    return f"No difference is shown at r = {_listed(at)}. "


def _cost(failed: Sequence[PairedOutcome], wrong: Sequence[PairedOutcome], a: str, b: str) -> str:
    """A sentence about wrong answers, abstentions, and wrong answers with the middle one of the radii."""
    parts = [_told("wrong answers", failed[0]), _told("abstentions", failed[1])]
    if wrong:
        middle = wrong[len(wrong) // 2]
        least = radius_text(float(middle.name))
        parts.append(_told(f"wrong answers with a certified radius of {least} or more", middle))
    return f"{a} against {b}: {'; '.join(parts)}. “Alone”: images on which only one of the two does so."


def _told(what: str, one: PairedOutcome) -> str:
    p_value = f"p {p_text(one.p_holm, '= ')}"
    word = "no difference shown in" if one.p_holm > LEVEL else "more" if one.difference > 0 else "fewer"
    return f"{word} {what} ({one.a:,} against {one.b:,}, alone {one.only_a:,} against {one.only_b:,}, {p_value})"


def _failed_row(one: PairedOutcome, digits: int) -> tuple[Cell, ...]:
    interval = outwards_text(100 * one.low, 100 * one.high, digits)
    heading = (one.name, f"{one.a:,} against {one.b:,}")
    difference = (f"{100 * one.difference:+.{digits}f}", interval)
    return heading, difference, p_text(one.p_holm), f"{one.only_a:,}", f"{one.only_b:,}"


def _mistakes(wrong: Sequence[PairedOutcome], a: str, b: str) -> Table | None:
    """Confident mistakes at each radius; None where neither makes one."""
    rows = [
        (
            radius_text(float(one.name)),
            *(f"{number:,}" for number in (one.a, one.b)),
            p_text(one.p_holm),
            *(f"{number:,}" for number in (one.only_a, one.only_b)),
        )
        for one in wrong
    ]
    if not any(one.a or one.b for one in wrong):
        return None
    return Table(
        caption="Confident mistakes: images answered wrongly, with a certified radius of at least",
        header=("radius", ("wrong", a), ("wrong", b), "p (Holm)", ("only", a), ("only", b)),
        rows=tuple(rows),
    )


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _taken_as_usual(name: str, a: ReportRun, b: ReportRun) -> bool:
    """Whether one table alone records a setting, which is the field's usual one there or what the audit infers."""
    if (name in a.run.table) == (name in b.run.table):
        return False
    knows = a if name in a.run.table else b
    usual = _USUAL[name]
    return knows.run.summary.procedure in ("fixed", None) and usual in (None, knows.recorded(name))


def _row(row: AtRadius, digits: int) -> tuple[Cell, ...]:
    interval = outwards_text(100 * row.low, 100 * row.high, digits)
    difference = (f"{100 * row.difference:+.{digits}f}", interval)
    return radius_heading(row.radius), difference, p_text(row.p_holm), f"{row.only_a:,}", f"{row.only_b:,}"


def _same_images(a: ReportRun, b: ReportRun) -> bool:
    """Whether two tables are about the same images, by their data where both record it, their idx and their labels."""
    prints = {str(one.told("data", "fingerprint")) for one in (a, b) if one.told("data", "fingerprint")}
    labels_a, labels_b = (one.run.table.set_index("idx")["label"].sort_index() for one in (a, b))
    return len(prints) < 2 and labels_a.equals(labels_b)
