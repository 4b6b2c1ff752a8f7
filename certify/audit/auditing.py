"""Whether the radii of a certification log are possible: ours, and the logs that this research field shares.

Nothing about a log makes `audit_log` raise; what is wrong with it becomes findings. An error is a claim that cannot be
true, or a contradiction. A warning is what makes numbers larger than what was proved (rounding, ties, rows that are
missing) or what cannot be checked.
"""

import os
import textwrap
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from maxup_smoothing.certify.audit.radii import of_radii
from maxup_smoothing.certify.logs.findings import LogFinding, RawLog, Setting, of_indices, of_manifest, where
from maxup_smoothing.certify.logs.log import Dialect, Given, Log, NamesColumns
from maxup_smoothing.certify.logs.reader import DIALECTS, UnknownLogError, dialect_of, open_source
from maxup_smoothing.certify.logs.rows import RUNNING, Rows
from maxup_smoothing.certify.logs.settings import L2, beyond_l2
from maxup_smoothing.certify.logs.source import Source
from maxup_smoothing.certify.logs.tabular import ANY_TABLE
from maxup_smoothing.certify.statistics.binomial import LARGEST_N, require_alpha
from maxup_smoothing.certify.statistics.radius import require_positive_sigma
from maxup_smoothing.certify.tables.fields import RowError
from maxup_smoothing.data.runtime.console import one_line

__all__ = ["Audit", "LogFinding", "Setting", "audit_log", "render"]

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
    findings: tuple[LogFinding, ...]

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
        path: A table of ours, or a log of any dialect in `certify.logs`, such as a folder of arrays.
        n: Estimation samples, in [1, 1e9], where the log does not have them.
        alpha: One-sided failure probability, in (0, 1), where the log does not have it.
        sigma: Standard deviation of the noise, positive, where the log does not have it.

    Returns:
        Errors first. A file that is not a radius table, or cannot be read, is one error and no rows.

    Raises:
        ValueError: If ``n``, ``alpha`` or ``sigma`` is out of range; never for what is in the file.
    """
    if n is not None and not 1 <= n <= LARGEST_N:
        raise ValueError(f"n must be in [1, {LARGEST_N}], got {n}.")
    if alpha is not None:
        require_alpha(alpha)
    if sigma is not None:
        require_positive_sigma(sigma)
    path = Path(path)
    given: dict[str, Any] = {"sigma": sigma, "n": n, "alpha": alpha}
    try:
        log, given = _read(path, given)
    except (OSError, ValueError) as error:
        check = "not-a-table" if isinstance(error, UnknownLogError) else "unreadable"
        found = [LogFinding("error", check, str(error), 0)]
        log, settings = RawLog(header=[]), {name: Setting(None, "unknown") for name in given}
    else:
        beside, manifest = of_manifest(path, log)
        with np.errstate(over="ignore", under="ignore"):  # a log may say sigma is 1e-300
            radii, settings = of_radii(path, log, given, manifest.get("sampling"))
        found = [*log.findings, *beside, *of_indices(log, manifest), *_of_norm(log, given), *radii]
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
        text = f"{finding.level:<9}{finding.check}: {one_line(finding.message)}"
        blocks.append(textwrap.fill(text, _WIDTH, initial_indent="  ", subsequent_indent=" " * 11))
    return "\n".join(blocks)


def _read(path: Path, given: dict[str, Any]) -> tuple[RawLog, dict[str, Any]]:
    """The log's rows, each checked by itself, as the readers of `certify.logs` read it.

    Args:
        path: The log.
        given: sigma, n and alpha as the caller says, None where the caller does not.

    Returns:
        The log, and what is given beside it: nothing of that where its radii were computed with it.

    Raises:
        UnknownLogError: If it is of no dialect, or has no rows of images.
        ValueError: If it is damaged as a whole, or radii follow only from settings that are not given.
        OSError: If the file cannot be read.
    """
    source = open_source(path)
    if {"idx", "label", "predict", "correct"} <= set(source.header):
        dialect: Dialect = next((one for one in DIALECTS if one.matches(source)), ANY_TABLE)
    else:
        dialect = dialect_of(source)
    if isinstance(dialect, NamesColumns):
        return _of_rows(source, dialect.rows(source)), given
    found = dialect.read(source, Given(**given))
    if found.kind == "curve":
        raise UnknownLogError("it is a curve, radii and accuracies; audit the log that it was made from.")
    if found.kind == "sampling":
        return _of_whole(found, found.table), dict.fromkeys(given)
    # What is given was added to the table; the audit holds it against the radii as given.
    return _of_whole(found, found.table.drop(columns=[name for name in given if given[name] is not None])), given


def _of_whole(found: Log, table: pd.DataFrame) -> RawLog:
    """A log that is read as a whole or not at all: arrays, votes, radii without labels."""
    texts = [_shortest(radius) for radius in table["radius"]] if "radius" in table else ["0.0"] * len(table)
    lines = list(range(1, len(table) + 1))
    log = RawLog(header=list(map(str, table)), count=len(table), radii=texts, lines=lines)
    log.rows = [{"radius": 0.0} | {str(name): value for name, value in row.items()} for row in table.to_dict("records")]
    log.indices = list(zip(table["idx"].tolist(), lines, strict=True))
    log.findings = [LogFinding("note", "log", f"{found.dialect}: {note}", 0) for note in found.notes]
    if "radius" not in table:
        log.findings.append(
            LogFinding("warning", "no-radius", f"a log of {found.kind}: there is no radius to audit.", 0)
        )
    return log


def _of_norm(log: RawLog, given: dict[str, Any]) -> list[LogFinding]:
    """Whether the radii can be l2, where nothing tells another norm; of another one there is no lattice to hold to."""
    told = {name: [row[name] for row in log.rows] for name in ("radius", *_SETTINGS, "norm") if name in log.header}
    table = pd.DataFrame(told | {name: value for name, value in given.items() if value is not None})
    if "radius" not in told or len(log.rows) == 0:
        return []
    if "norm" in told and set(told["norm"]) != {L2}:
        message = f"the radii are of the norm {told['norm'][0][:50]}: which of them votes can certify is not checked."
        return [LogFinding("note", "norm", message, 0)]
    doubt = beyond_l2(table)
    return [] if doubt is None or set(_SETTINGS) <= set(table) else [LogFinding("warning", "norm", doubt, 0)]


def _of_rows(source: Source, rows: Rows) -> RawLog:
    """The rows under a line that names their columns, with a finding for each kind of fault."""
    log = RawLog(header=rows.header, rows=rows.fields, radii=rows.radii, lines=rows.lines)
    log.indices, log.count = rows.indices, rows.count
    if "radius" not in rows.header:
        message = "a PREDICT log, of predictions without radii: there is no radius to audit."
        if "count" in source.header:
            message = "there is no radius to audit; the votes in the column count are what radii follow from."
        log.findings.append(LogFinding("warning", "no-radius", message, 0))
    elif "radius" not in source.header:
        name = source.header[rows.header.index("radius")]
        log.findings.append(LogFinding("note", "columns", f"the column {name} is taken for the radius.", 0))
    if rows.running:
        message = "correct is a running count of correct rows, not 0 or 1: certified accuracies from it are nonsense."
        log.findings.append(LogFinding("error", "running-count", message, rows.count))
    last = len(source.lines)
    torn = not source.ended and source.body[-1][0] == last and len(source.body) > 1
    if torn:
        message = f"the file ends within line {last}: it was cut off there, and its last row may be too."
        log.findings.append(LogFinding("warning", "torn-line", message, 1))
    faults: dict[tuple[str, str], list[tuple[int, RowError]]] = defaultdict(list)
    for number, error in rows.faults:
        if not (torn and number == last):
            faults[error.kind, error.field].append((number, error))
    for (check, _), found in faults.items():
        more = f" ({len(found)} such rows: {where([number for number, _ in found])})" if len(found) > 1 else ""
        message = f"line {found[0][0]}: {_short(str(found[0][1]))}{more}"
        log.findings.append(LogFinding("error", check, message, len(found)))
    log.findings += [LogFinding("note", "log", note, 0) for note in rows.notes if note != RUNNING]
    if not rows.count and not torn:
        log.findings.append(LogFinding("warning", "empty", "there are no rows: nothing has been certified.", 0))
    if untidy := _untidy(source):
        message = f"{untidy} lines are blank, end with CR LF or have white space around their fields."
        log.findings.append(LogFinding("note", "white-space", message, untidy))
    return log


def _untidy(source: Source) -> int:
    """How many lines of a tab-separated table are written in another way than scripts do."""
    lines = source.text.split("\n")[: None if source.lines[-1] else -1]
    columns = len(source.header)
    return (
        sum(line == "" or "\r" in line or line != "\t".join(source.fields(line)[: max(columns, 1)]) for line in lines)
        if source.separator == "\t"
        else 0
    )


def _shortest(radius: float) -> str:
    """A radius with the digits that identify it, those of float32 where it is one."""
    single = np.float32(radius)
    return str(single) if float(single) == radius else repr(float(radius))


def _short(message: str) -> str:
    return message if len(message) <= 300 else f"{message[:300]} …"
