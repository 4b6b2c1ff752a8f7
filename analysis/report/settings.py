"""The recorded settings of the runs of a report, and a table of those that differ."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxup_smoothing.analysis.report.numbers import Cell, Table
from maxup_smoothing.analysis.report.subjects import UNKNOWN, ReportRun
from maxup_smoothing.analysis.report.text import shown

_MOST_ENTRIES = 400
_MOST_DIFFERENCES = 40
_LONGEST_VALUE = 2000
_LONGEST_DIFFERENCE = 70
_DEEPEST = 6


@dataclass(frozen=True, kw_only=True)
class RecordedSettings:
    """All that is recorded of a run: the commands that made it, and sections of names and values."""

    name: str
    commands: tuple[tuple[str, str], ...]
    sections: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]


def settings(subject: ReportRun) -> RecordedSettings:
    """Everything that stands in the files of a run, as it stands there."""
    notes = subject.told("notes")
    kept = notes if isinstance(notes, dict) else {}
    commands = [("certification", kept.get("command")), ("training", subject.environment.get("command"))]
    audit = subject.audit
    file = {
        "name": subject.path.name,
        "sha256": _sha256(subject.path),
        "rows": len(subject.run.table),
        "columns": " ".join(map(str, subject.run.table.columns)),
        "audit": audit.verdict,
        **{name: str(getattr(audit, name)) for name in ("sigma", "n", "alpha")},
    }
    parts: dict[str, Mapping[str, Any]] = {
        "The table": file,
        "Certification (manifest)": subject.run.manifest,
        "Training (config.toml)": subject.config,
        "Training (environment.json)": subject.environment,
    }
    return RecordedSettings(
        name=subject.name,
        commands=tuple((what, shown(command, _LONGEST_VALUE)) for what, command in commands if command),
        sections=tuple((title, _entries(values)) for title, values in parts.items() if values),
    )


def differing(subjects: Sequence[ReportRun]) -> Table | None:
    """What the files of at least two runs record with different values; None where that is nothing.

    A value that only some runs record is not a difference: files outlive the version that wrote them. Commands are left
    out, since what they set is there by itself.
    """
    told: dict[str, list[str | None]] = {}
    for at, subject in enumerate(subjects):
        for part, kept in _parts(subject):
            for name, value in _flat("", kept, _DEEPEST):
                if name.rpartition(".")[2] != "command":
                    told.setdefault(f"{part}: {name}", [None] * len(subjects))[at] = value
    rows = {name: values for name, values in told.items() if len({value for value in values if value}) > 1}
    if not rows:
        return None
    some = f" (the first {_MOST_DIFFERENCES} of {len(rows)})" if len(rows) > _MOST_DIFFERENCES else ""
    lines = list[tuple[Cell, ...]]()
    for name, values in list(rows.items())[:_MOST_DIFFERENCES]:
        lines.append((name, *(UNKNOWN if value is None else shown(value, _LONGEST_DIFFERENCE) for value in values)))
    return Table(
        caption=f"What differs between the runs{some}",
        header=("", *(subject.name for subject in subjects)),
        rows=tuple(lines),
    )


def _sha256(path: Path) -> str:
    """The hash of a file, or of a folder's arrays one after another in the order of their names."""
    files = sorted(path.glob("*.npy")) if path.is_dir() else [path]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _parts(subject: ReportRun) -> list[tuple[str, Mapping[str, Any]]]:
    return [
        ("training", subject.config),
        ("training", subject.environment),
        ("certification", subject.run.manifest),
    ]


def _entries(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Names, dotted within sections, with their values exactly as they were read; not endlessly many."""
    found = _flat("", values, _DEEPEST)
    more = len(found) - _MOST_ENTRIES
    return (*found[:_MOST_ENTRIES], *([("…", f"{more:,} more")] if more > 0 else []))


def _flat(prefix: str, value: Any, depth: int) -> list[tuple[str, str]]:
    if isinstance(value, Mapping) and value and depth:
        return [pair for name, one in value.items() for pair in _flat(f"{prefix}.{name}".lstrip("."), one, depth - 1)]
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return [(shown(prefix), shown(text, _LONGEST_VALUE))]
