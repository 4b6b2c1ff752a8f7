"""Paired comparisons of a report: which runs are about the same images, and which of them is better there."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

from analysis.compare import CONVENTION, AtRadius, Comparison, compare_tables, outwards_text, p_text, verdict
from analysis.pairs import LEVEL
from analysis.report_notices import different_settings
from analysis.report_numbers import Table, radius_heading
from analysis.report_subjects import Subject
from analysis.runs import is_named
from certify.summary import radius_text

#: The settings that logs of other projects leave out, with the value they have there, None where it varies.
_USUAL = {"sigma": None, "n": None, "alpha": None, **CONVENTION}
_ALL_PAIRS = 3  # runs on the same images of which every pair is compared, not only those with the control


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A run compared with another: a verdict in a sentence and a table, or the reason why there is none.

    ``details`` are what the verdict leaves out: radii without a difference, abstentions and wrong answers. ``assumed``
    names the settings that only one of the two tells, and that were taken for equal.
    """

    subject: Subject
    control: Subject
    verdict: str | None = None
    details: str = ""
    table: Table | None = None
    reason: str | None = None
    assumed: str = ""


def require_control(subjects: Sequence[Subject], control: str | None) -> None:
    """Refuse a control that is none of the runs.

    Raises:
        ValueError: If it is none, with the names there are.
    """
    if control is not None and not any(is_named(subject.name, control) for subject in subjects):
        names = ", ".join(subject.name for subject in subjects)
        raise ValueError(f"--control {control} is none of the runs; name one of {names}.")


def pairs(subjects: Sequence[Subject], control: str | None, radii: Sequence[float]) -> tuple[list[Pair], list[Subject]]:
    """All runs with the control of those on the same images, and the runs that are alone with their images.

    The control is the one that is named, or the first run of the group where the name is not among them. Of a group of
    up to three runs the remaining pairs follow, the earlier run compared with the later one.
    """
    groups: list[list[Subject]] = []
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


def _pair(subject: Subject, control: Subject, radii: Sequence[float]) -> Pair:
    if different := different_settings([subject, control]):
        return Pair(subject=subject, control=control, reason=" ".join(different))
    unknown = [name for name in _USUAL if _taken_as_usual(name, subject, control)]
    try:
        a, b = (one.run.table.drop(columns=unknown, errors="ignore") for one in (subject, control))
        found = compare_tables(a, b, radii)
    except ValueError as error:
        return Pair(subject=subject, control=control, reason=str(error))
    digits = 1 if found.images <= 1000 else 2
    acr = ("ACR", f"{found.difference:+.4f}", outwards_text(found.low, found.high, 4), "", "", "")
    table = Table(
        caption=f"{subject.name} minus {control.name}, paired over {found.images:,} images: accuracies in points",
        header=("radius", "difference", "95 % interval", f"only {subject.name}", f"only {control.name}", "p (Holm)"),
        rows=(*(_row(row, digits) for row in found.at), acr),
    )
    sentence = verdict(found, subject.name, control.name)
    return Pair(
        subject=subject,
        control=control,
        verdict=sentence,
        details=f"{_undecided(found, digits)}{_counts(subject, control)}",
        table=table,
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


def _counts(subject: Subject, control: Subject) -> str:
    a, b = subject.run.summary, control.run.summary
    return (
        f"{subject.name} abstains on {a.abstained:,} images against {b.abstained:,}, and answers wrongly on "
        f"{a.wrong:,} against {b.wrong:,} (counts, without a test)."
    )


def _listed(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def _taken_as_usual(name: str, a: Subject, b: Subject) -> bool:
    """Whether one table alone tells a setting, which is the field's usual one there or what the audit infers."""
    if (name in a.run.table) == (name in b.run.table):
        return False
    knows = a if name in a.run.table else b
    usual = _USUAL[name]
    return knows.run.summary.procedure in ("fixed", None) and usual in (None, knows.recorded(name))


def _row(row: AtRadius, digits: int) -> tuple[str, ...]:
    interval = outwards_text(100 * row.low, 100 * row.high, digits)
    difference = f"{100 * row.difference:+.{digits}f}"
    return radius_heading(row.radius), difference, interval, f"{row.only_a:,}", f"{row.only_b:,}", p_text(row.p_holm)


def _same_images(a: Subject, b: Subject) -> bool:
    """Whether two tables are about the same images, by their data where both tell it, their idx and their labels."""
    prints = {str(one.told("data", "fingerprint")) for one in (a, b) if one.told("data", "fingerprint")}
    labels_a, labels_b = (one.run.table.set_index("idx")["label"].sort_index() for one in (a, b))
    return len(prints) < 2 and labels_a.equals(labels_b)
