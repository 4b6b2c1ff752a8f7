"""Whether the radii of a certification log are possible: ours, and the logs that this research field shares.

Nothing about a log makes `audit_log` raise; what is wrong with it becomes findings. An error is a claim that cannot be
true, or a contradiction; a warning is what makes numbers larger than what was proved (rounding, ties, rows that are
missing) or what cannot be checked.
"""

import os
import re
import textwrap
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from certify.binomial import LARGEST_N
from certify.claims import of_radii
from certify.findings import Finding, Log, Setting, of_indices, of_manifest, where
from certify.row import FIELD_COLUMNS, parse_fields

__all__ = ["Audit", "Finding", "Setting", "audit_log", "render"]

_RADIUS_NAMES = ("radius", "exact_radius", "l2_radius")  # as other projects call it
_SETTINGS = ("sigma", "n", "alpha")
_WIDTH = 100


@dataclass(frozen=True, kw_only=True)
class Audit:
    """What was found in a log: ``rows`` lines of data, and the settings as told, given or inferred."""

    path: Path
    rows: int
    columns: tuple[str, ...]
    sigma: Setting
    n: Setting
    alpha: Setting
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether no finding is an error; the exit status of the command."""
        return all(finding.level != "error" for finding in self.findings)

    @property
    def verdict(self) -> str:
        """``PASS``, ``PASS with warnings`` or ``FAIL``."""
        if not self.ok:
            return "FAIL"
        return "PASS with warnings" if any(finding.level == "warning" for finding in self.findings) else "PASS"


def audit_log(
    path: str | os.PathLike[str], *, n: int | None = None, alpha: float | None = None, sigma: float | None = None
) -> Audit:
    """Hold every row of a certification log against what its settings allow.

    Args:
        path: A tab-separated log whose first line names its columns.
        n: Estimation samples, in [1, 1e9], where the log does not tell them.
        alpha: One-sided failure probability, in (0, 1), where the log does not tell it.
        sigma: Standard deviation of the noise, positive, where the log does not tell it.

    Returns:
        Errors first. A file that is no radius table, or cannot be read, is one error and no rows.

    Raises:
        ValueError: If ``n``, ``alpha`` or ``sigma`` is out of range; never for what is in the file.
    """
    if n is not None and not 1 <= n <= LARGEST_N:
        raise ValueError(f"n must be in [1, {LARGEST_N}], got {n}.")
    if alpha is not None and not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}.")
    if sigma is not None and not 0 < sigma < float("inf"):
        raise ValueError(f"sigma must be positive and finite, got {sigma}.")
    path = Path(path)
    given = {"sigma": sigma, "n": n, "alpha": alpha}
    try:
        log = _read(path)
    except (OSError, _NoTableError) as error:
        check = "unreadable" if isinstance(error, OSError) else "not-a-table"
        found = [Finding("error", check, str(error), 0)]
        log, settings = Log(header=[]), {name: Setting(None, "unknown") for name in given}
    else:
        beside, manifest = of_manifest(path, log)
        with np.errstate(over="ignore", under="ignore"):  # a log may say sigma is 1e-300
            radii, settings = of_radii(path, log, given, manifest.get("sampling"))
        found = [*log.findings, *beside, *of_indices(log, manifest), *radii]
    levels = ("error", "warning", "note")
    return Audit(
        path=path,
        rows=log.count,
        columns=tuple(log.header),
        findings=tuple(sorted(found, key=lambda finding: levels.index(finding.level))),
        **settings,
    )


def render(result: Audit) -> str:
    """An audit as text of at most 100 columns, its verdict first, without a line end at its end."""
    blocks = [textwrap.fill(f"{result.verdict}: {result.path}", _WIDTH)]
    settings = [f"{name} {getattr(result, name)}" for name in _SETTINGS]
    if result.columns:
        blocks.append(textwrap.fill(f"{result.rows} rows; {', '.join(settings)}", _WIDTH, initial_indent="  "))
    for finding in result.findings:
        text = f"{finding.level:<9}{finding.check}: {finding.message}"
        blocks.append(textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent=" " * 11))
    return "\n".join(blocks)


class _NoTableError(Exception):
    """The file is something else than a log of rows; the message says what."""


def _read(path: Path) -> Log:
    """The log's rows, each checked by itself.

    Raises:
        OSError: If the file cannot be read.
        _NoTableError: If its first line is not that of a log.
    """
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    lines = text.split("\n")
    ended = lines[-1] == ""
    if ended:
        lines.pop()
    header = [name.strip() for name in lines[0].split("\t")] if lines else []
    _require_table(lines, header)
    log = Log(header=header)
    faults: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    name = next((name for name in _RADIUS_NAMES if name in header), None)
    parsed = ["radius" if column == name else column for column in header]
    if name is None:
        parsed.append("radius")
        message = "a PREDICT log, of predictions without radii: there is no radius to audit."
        if "count" in header:
            message = "there is no radius to audit; the votes in the column count are what radii follow from."
        log.findings.append(Finding("warning", "no-radius", message, 0))
    elif name != "radius":
        log.findings.append(Finding("note", "columns", f"the column {name} is taken for the radius.", 0))
    body = [(number, _fields(line, len(header))) for number, line in enumerate(lines[1:], start=2) if line.strip()]
    if counted := _running_count(header, [texts for _, texts in body]):
        message = "correct is a running count of correct rows, not 0 or 1: certified accuracies from it are nonsense."
        log.findings.append(Finding("error", "running-count", message, len(body)))
    for number, texts in body:
        if counted:
            texts[header.index("correct")] = str(int(texts[header.index("predict")] == texts[header.index("label")]))
        torn = not ended and number == len(lines)
        try:
            row = parse_fields("\t".join(texts if name else [*texts, "0.0"]), parsed)
        except ValueError as error:
            if not torn:
                faults[_kind(str(error))].append((number, str(error)))
        else:
            log.rows.append(row)
            log.lines.append(number)
            log.radii.append(texts[parsed.index("radius")] if name else "0.0")
        if torn:
            message = f"the file ends within line {number}: it was cut off there, and its last row may be too."
            log.findings.append(Finding("warning", "torn-line", message, 1))
        if not torn or log.lines[-1:] == [number]:
            log.count += 1
            position = header.index("idx")
            if position < len(texts) and re.fullmatch("[0-9]{1,18}", texts[position]):
                log.indices.append((int(texts[position]), number))
    for (check, _), found in faults.items():
        more = f" ({len(found)} such rows: {where([number for number, _ in found])})" if len(found) > 1 else ""
        message = f"line {found[0][0]}: {_short(found[0][1])}{more}"
        log.findings.append(Finding("error", check, message, len(found)))
    if not body:
        log.findings.append(Finding("warning", "empty", "there are no rows: nothing has been certified.", 0))
    if untidy := sum(line == "" or line != "\t".join(_fields(line, len(header))) for line in lines):
        message = f"{untidy} lines are blank, end with CR LF or have white space around their fields."
        log.findings.append(Finding("note", "white-space", message, untidy))
    return log


def _require_table(lines: Sequence[str], header: Sequence[str]) -> None:
    first = next((line.strip() for line in lines if line.strip()), "")
    wanted = ("idx", "label", "predict", "correct")
    missing = [name for name in wanted if name not in header]
    if not first:
        raise _NoTableError("the file is empty.")
    if not missing and len(set(header)) == len(header):
        return
    what = f"its first line must name the columns {' '.join(FIELD_COLUMNS)}, tab-separated, each once"
    if "\0" in first:
        what = "it is a binary file"
    elif re.match(r"[xo] \S+ \S+", first) and any(re.match(r"o [0-9]+ [0-9]", line) for line in lines):
        what = "it has DSRS's lines `x key value` and `o idx low high`, which are limits of probabilities, not radii"
    elif re.fullmatch(r"[0-9.]+\s+[0-9.]+", first):
        what = "it is a curve, a radius and an accuracy a line; audit the log that it was made from"
    elif not missing:
        what += "; one is there twice"
    elif set(wanted) <= set(re.split(r"[\s,;]+", first)):
        what += "; here something else separates them"
    raise _NoTableError(f"not a radius table: {what}.")


def _fields(line: str, columns: int) -> list[str]:
    texts = [text.strip() for text in line.split("\t")]
    while len(texts) > columns and not texts[-1]:  # trailing tabs
        texts.pop()
    return texts


def _running_count(header: Sequence[str], body: Sequence[Sequence[str]]) -> bool:
    hits = 0
    for texts in body:
        row = dict(zip(header, texts, strict=False))
        hits += row.get("predict") == row.get("label")
        if row.get("correct") != str(hits):
            return False
    return hits > 1


def _kind(message: str) -> tuple[str, str]:
    """The check that a row failed, and a key that is one for all rows that failed it in the same way."""
    if match := re.match(r"(\w+) must be |expected \d+ tab-separated", message):
        return "malformed", match[1] or "fields"
    return "ceiling" if " is above " in message else "contradiction", re.sub(r"-?[0-9.]+(e-?[0-9]+)?", "#", message)


def _short(message: str) -> str:
    return message if len(message) <= 300 else f"{message[:300]} …"
