"""The numbers of a report as text: key figures and tables, all rounded down like every number here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from maxup_smoothing.analysis.comparison.outcomes import wrong_at
from maxup_smoothing.analysis.comparison.significance import mean_interval
from maxup_smoothing.analysis.report.subjects import ReportRun
from maxup_smoothing.certify.statistics.rounding import ceil_text, floor_text, fraction_text, radius_text
from maxup_smoothing.certify.tables.population import false_certificates
from maxup_smoothing.certify.tables.summary import certified_accuracy, contributions, radii_of

_MOST_RADII = 12
#: A cell is a text, or a text and what stands below it in small.
Cell = str | tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of a page; the first cell of each row is its heading. ``rules`` are headings with a line above them."""

    caption: str
    header: tuple[Cell, ...]
    rows: tuple[tuple[Cell, ...], ...]
    rules: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Card:
    """A run's key figures: ``accuracy`` in percent at a chosen radius with its ``interval``, and ``facts`` by name."""

    name: str
    images: str
    accuracy: str
    interval: str
    facts: tuple[tuple[str, str], ...]


def chosen_radii(subjects: Sequence[ReportRun]) -> list[float]:
    """The radii of a table of these runs: multiples of 0.25, as far as any of them reaches, a dozen at most."""
    return _thinned(max((radii_of(subject.run.table) for subject in subjects), key=len))


def shared_radii(subjects: Sequence[ReportRun]) -> list[float]:
    """Radii at which one number may stand for each run: as far as all of them reach that certify anything at all.

    Beyond the ceiling of a small sigma its accuracy is 0 whatever the network, which would be no news of it.
    """
    reached = [radii_of(subject.run.table) for subject in subjects]
    return _thinned(min([radii for radii in reached if len(radii) > 1] or reached, key=len))


def _thinned(radii: list[float]) -> list[float]:
    return radii[:: math.ceil(len(radii) / _MOST_RADII)]


def card(subject: ReportRun, radius: float) -> Card:
    """The key figures of a run at one radius."""
    summary = subject.run.summary
    (row,) = certified_accuracy(subject.run.table, [radius]).to_dict("records")
    facts = (
        ("ACR", acr_text(subject)),
        ("images", f"{summary.images:,}"),
        ("wrong", f"{summary.wrong:,}"),
        (f"wrong, and certified at {radius_text(radius)}", f"{int(wrong_at(subject.run.table, radius).sum()):,}"),
        ("abstained", f"{summary.abstained:,}"),
    )
    return Card(
        name=subject.name,
        images=f"{summary.images:,}",
        accuracy=percent(row["certified"], row["images"]),
        interval=interval_text(row["low"], row["high"], row["images"]),
        facts=facts,
    )


def accuracy_table(subject: ReportRun, radii: Sequence[float]) -> Table:
    """Everything that is known of one run's certified accuracy, one row per radius, percentages of all images."""
    rows = []
    for row in certified_accuracy(subject.run.table, radii).to_dict("records"):
        bound = "unknown" if math.isnan(row["population"]) else _points(floor_text(row["population"], 3))
        count = f"{row['certified']:,} of {row['images']:,}"
        accuracy = percent(row["certified"], row["images"])
        interval = interval_text(row["low"], row["high"], row["images"])
        rows.append((radius_heading(row["radius"]), count, accuracy, interval, bound))
    return Table(
        caption=f"Certified accuracy of {subject.name}",
        header=(
            "radius",
            "certified",
            "accuracy, %",
            "95 % interval",
            "all such images, at least, % (one-sided 95 % bound)",
        ),
        rows=tuple(rows),
    )


def side_by_side_table(subjects: Sequence[ReportRun], radii: Sequence[float]) -> Table:
    """Certified accuracies of several runs side by side, with intervals below them, and the ACR in the last line."""
    columns = []
    for subject in subjects:
        found = certified_accuracy(subject.run.table, radii).to_dict("records")
        columns.append(
            [
                (percent(row["certified"], row["images"]), interval_text(row["low"], row["high"], row["images"]))
                for row in found
            ]
        )
    lines: list[tuple[Cell, ...]] = [
        (radius_heading(radius), *cells) for radius, *cells in zip(radii, *columns, strict=True)
    ]
    averages = [_acr(subject) for subject in subjects]
    lines.append(("ACR", *((acr, f"{low} to {high}") for acr, low, high in averages)))
    return Table(
        caption="Certified accuracy in percent of all images, with 95 % intervals, and average certified radius",
        header=("radius", *(subject.name for subject in subjects)),
        rows=tuple(lines),
        rules=("ACR",),
    )


def radius_heading(radius: float) -> Cell:
    """A radius as the heading of a row; at 0 it says what is counted there."""
    return (radius_text(radius), "right, not abstained") if radius == 0 else radius_text(radius)


def ceiling_text(subject: ReportRun) -> str:
    """The largest radius that a run's n samples can prove, with as many decimals as figures and pictures show."""
    ceiling = subject.run.summary.ceiling
    return "not told by the rows" if ceiling is None else floor_text(ceiling, 3)


def acr_text(subject: ReportRun) -> str:
    """A run's average certified radius with its 95 % interval, rounded outwards: ``1.2185 [1.1531, 1.2825]``."""
    acr, low, high = _acr(subject)
    return f"{acr} [{low}, {high}]"


def false_text(subject: ReportRun) -> str:
    """How many certificates of a run may be false, in words."""
    found = false_certificates(subject.run.table)
    if found is None:
        return "unknown: the file does not tell alpha"
    number = f"at most {found.at_most:,}" if found.at_most else "none"
    summary = subject.run.summary
    parts = f"{found.certificates:,} certificates ({summary.correct:,} right, {summary.wrong:,} wrong)"
    probability = floor_text(found.probability, 4).rstrip("0").rstrip(".")
    return f"{number} of {parts}, with probability {probability}"


def percent(count: int, images: int) -> str:
    """A share in percent, rounded down, with as many decimals as tell single images apart."""
    return fraction_text(100 * int(count), images, _digits(images))


def interval_text(low: float, high: float, images: int) -> str:
    """An interval of a share in percent, its limits rounded outwards."""
    digits = 2 + _digits(images)
    return f"{_points(floor_text(low, digits))} to {_points(ceil_text(high, digits))}"


def _acr(subject: ReportRun) -> tuple[str, str, str]:
    low, high = mean_interval(contributions(subject.run.table))
    return floor_text(subject.run.summary.acr, 4), floor_text(low, 4), ceil_text(high, 4)


def _points(fraction: str) -> str:
    """A decimal fraction in percent, digit by digit."""
    return f"{Decimal(fraction).scaleb(2):f}"


def _digits(images: int) -> int:
    return 1 if images <= 1000 else 2
