"""Logs of published votes as the field's scripts write them, and what an audit says of one."""

import csv
from collections.abc import Callable
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

from places import REFERENCE

from maxup_smoothing.certify.audit.auditing import Audit, LogFinding, render
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound
from maxup_smoothing.certify.statistics.radius import certified_radius

# 500 CIFAR-10 images of a published log: the votes of 100,000 for the predicted class, at sigma 0.5.
with (REFERENCE / "counts-to-radius.tsv").open() as _lines:
    VOTES = [row for row in csv.DictReader(_lines, delimiter="\t") if row["sigma"] == "0.50" and row["pixels"] == "32"]

HEADER = "idx label predict radius correct time"
THREE_DIGITS: Callable[[float], str] = "{:.3}".format


def three_digits_down(radius: float) -> str:
    """As many digits as ``{:.3}``, but never above the radius."""
    number = Decimal(radius)
    return str(
        float(number.quantize(Decimal(1).scaleb(number.adjusted() - 2), rounding=ROUND_FLOOR)) if radius else 0.0
    )


def proved(row: dict[str, str], n: int = 100_000, alpha: float = 0.001, sigma: float = 0.5) -> float:
    if row["predict"] == "-1":
        return 0.0
    return float(certified_radius(lower_confidence_bound(int(row["count"]), n, alpha), sigma))


def field_log(print_radius: Callable[[float], str] = THREE_DIGITS, **setting: Any) -> list[str]:
    """The lines of a six-column log of `VOTES`, as the field's scripts write them."""
    lines = [HEADER.replace(" ", "\t")]
    for row in VOTES:
        radius = proved(row, **setting)
        predict = row["predict"] if radius > 0 else "-1"
        fields = [row["idx"], row["label"], predict, print_radius(radius), str(int(predict == row["label"])), "0:00:15"]
        lines.append("\t".join(fields))
    return lines


def write(folder: Path, lines: list[str], name: str = "log") -> Path:
    path = folder / name
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def of(result: Audit, check: str) -> LogFinding:
    found = [finding for finding in result.findings if finding.check == check]
    assert len(found) == 1, f"{check}: {render(result)}"
    return found[0]


def checks(result: Audit, *levels: str) -> set[str]:
    return {finding.check for finding in result.findings if finding.level in (levels or ("error", "warning", "note"))}


def replaced(lines: list[str], number: int, **fields: str) -> list[str]:
    """The log with other fields in the line of that number; the header is line 1."""
    header, texts = lines[0].split("\t"), lines[number - 1].split("\t")
    texts = [fields.get(name, text) for name, text in zip(header, texts, strict=True)]
    return [*lines[: number - 1], "\t".join(texts), *lines[number:]]


def with_columns(lines: list[str], **values: str) -> list[str]:
    names, texts = "\t".join(values), "\t".join(values.values())
    return [f"{line}\t{texts if number else names}" for number, line in enumerate(lines)]
