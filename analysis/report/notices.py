"""Warnings of a report: faults that the audit found, differences between runs, and recorded warnings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from maxup_smoothing.analysis.comparison.settings import different_norm, refuted
from maxup_smoothing.analysis.report.subjects import UNKNOWN, ReportRun
from maxup_smoothing.analysis.report.text import shown
from maxup_smoothing.analysis.runs import run

_LEVELS = ("error", "warning", "note")
_SETTINGS = {
    "sigma": "radii under different noise answer different questions",
    "n": "ACR and accuracies at large radii grow with n",
    "alpha": "ACR and radii grow with alpha",
    "procedure": "they spend samples differently",
    "bound": "they turn the same votes into other radii",
}
#: What else a manifest records that may change radii or their last digits.
_RECORDED = {
    "noise source": ("noise", "source"),
    "noise seed": ("noise", "seed"),
    "batch size": ("classifier", "batch_size"),
    "dtype": ("classifier", "dtype"),
    "device": ("classifier", "device"),
    "torch version": ("classifier", "torch"),
}


@dataclass(frozen=True, kw_only=True)
class Notice:
    """One thing to be careful about: ``level`` is error, warning or note; ``about`` a run's name, or "all runs"."""

    level: str
    about: str
    text: str


def notices(subjects: Sequence[ReportRun]) -> list[Notice]:
    """All there is to warn of, the worst first.

    They come from the audit of each table, from the files beside it, and from the warnings that its manifest keeps
    (``warnings``, ``notes.warnings``, ``notes.preflight``). Others say where runs differ in images or settings.
    """
    found = [notice for subject in subjects for notice in _of_run(subject)]
    if len(subjects) > 1:
        found += _of_all(subjects)
    return sorted(found, key=lambda notice: _LEVELS.index(notice.level))


def different_settings(subjects: Sequence[ReportRun]) -> list[str]:
    """A sentence for each setting in which the runs are known to differ, and why that matters."""
    found = []
    for name, why in _SETTINGS.items():
        told: dict[str, list[str]] = {}
        for subject in subjects:
            if (value := subject.setting(name, source=False)) != UNKNOWN:
                told.setdefault(value, []).append(subject.name)
        if len(told) > 1:
            values = "; ".join(f"{value} ({', '.join(who)})" for value, who in told.items())
            found.append(f"certified with different {name}: {values}; {why}.")
    loaded = [subject.run for subject in subjects]
    if (norms := different_norm(loaded)) is not None:
        found.append(f"not comparable: {norms}.")
    elif not found and (reason := refuted(loaded)) is not None:
        found.append(f"{reason}: not the same settings.")
    first, *others = subjects
    for other in others:
        if (differing := run.different_stopping(first.run, other.run)) is not None:
            found.append(f"{first.name} and {other.name} were certified with different {differing}.")
    return found


def agreement(subjects: Sequence[ReportRun]) -> str:
    """In which settings that matter several runs agree, in which they differ, and which not all record."""
    told: dict[str, list[str | None]] = {
        "data": [_told(one, "data", "fingerprint") for one in subjects],
        "images": [" ".join(map(str, sorted(one.run.table["idx"]))) for one in subjects],
    }
    for name in ("procedure", "sigma", "n0", "n", "alpha", "bound"):
        found = [subject.setting(name, source=False) for subject in subjects]
        told[name] = [None if value == UNKNOWN else value for value in found]
    for name, keys in _RECORDED.items():
        told[name] = [_told(subject, *keys) for subject in subjects]
    agreed, differing, missing = list[str](), list[str](), list[str]()
    for name, values in told.items():
        if len({value for value in values if value is not None}) > 1:
            differing.append(name if name in ("data", "images") else f"{name}: {_whose(values, subjects)}")
        elif None in values:
            missing.append(name)
        else:
            agreed.append(name)
    parts = {
        f"The runs agree in {', '.join(agreed)}.": agreed,
        f"They differ in {'; '.join(differing)}.": differing,
        f"Not all of them tell: {', '.join(missing)}.": missing,
    }
    return " ".join(text for text, names in parts.items() if names)


def _told(subject: ReportRun, *keys: str) -> str | None:
    value = subject.told(*keys)
    return None if value is None else shown(value)


def _whose(values: Sequence[str | None], subjects: Sequence[ReportRun]) -> str:
    names: dict[str, list[str]] = {}
    for value, subject in zip(values, subjects, strict=True):
        names.setdefault(UNKNOWN if value is None else value, []).append(subject.name)
    return ", ".join(f"{value} ({', '.join(who)})" for value, who in names.items())


def _of_run(subject: ReportRun) -> Iterator[Notice]:
    for finding in subject.audit.findings:
        yield Notice(level=finding.level, about=subject.name, text=f"{finding.check}: {finding.message}")
    for text in subject.notes:
        yield Notice(level="warning", about=subject.name, text=text)
    for text in subject.remarks:
        yield Notice(level="note", about=subject.name, text=text)
    for keys in (("warnings",), ("notes", "warnings"), ("notes", "preflight")):
        kept = subject.told(*keys)
        for item in kept if isinstance(kept, list) else [kept]:
            if item:
                text = f"before the run it was warned: {_sentence(item)}"
                yield Notice(level="warning", about=subject.name, text=text)


def _of_all(subjects: Sequence[ReportRun]) -> Iterator[Notice]:
    if (differing := run.different_images([subject.run for subject in subjects])) is not None:
        yield Notice(level="warning", about="all runs", text=f"not comparable: {differing}.")
    data = {str(found): subject for subject in subjects if (found := subject.told("data", "fingerprint"))}
    if len(data) > 1:
        names = "; ".join(f"{shown(one.told('data', 'name'))} ({one.name})" for one in data.values())
        text = f"not comparable: certified on different data: {names}, among others."
        yield Notice(level="warning", about="all runs", text=text)
    for text in different_settings(subjects):
        yield Notice(level="warning", about="all runs", text=text)


def _sentence(item: Any) -> str:
    if isinstance(item, dict):
        return shown("; ".join(f"{key}: {shown(value, 400)}" for key, value in item.items()), 1000)
    return shown(item, 1000)
