"""The runs of a report: each table with its audit and what was recorded of its training."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maxup_smoothing.analysis.report.text import isolated, plain_name, shortened, shown
from maxup_smoothing.analysis.runs import run as runs
from maxup_smoothing.analysis.runs.folders import CertifiedFolder, load_training
from maxup_smoothing.analysis.runs.run import Run
from maxup_smoothing.certify.audit.auditing import Audit, audit_log
from maxup_smoothing.data.runtime import strict_json, toml
from maxup_smoothing.data.runtime.untrusted import read_bytes

UNKNOWN = "not recorded"
_LARGEST_ENVIRONMENT = 1_000_000
_SOURCES = {"inferred": "inferred from the radii", "file name": "from the file name"}


@dataclass(frozen=True, kw_only=True)
class ReportRun:
    """One run as a report sees it; what is not there is an empty mapping.

    Attributes:
        run: Under the name that texts show.
        drawn: The same table under a short name for figures.
        path: Of the table.
        audit: Of the table.
        config: Of the training, as it was read.
        environment: Of the training, as it was read.
        notes: Warnings that came up while reading, those of `CertifiedFolder` included.
        remarks: What a log of another project leaves to be assumed.
    """

    run: Run
    drawn: Run
    path: Path
    audit: Audit
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    notes: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def name(self) -> str:
        """The name as texts show it."""
        return self.run.name

    def told(self, *keys: str) -> Any:
        """A value of the manifest by its section and name; None where it is not there."""
        return self.run.told(*keys)

    def recorded(self, name: str) -> Any:
        """Sigma, n0, n, alpha, procedure or bound, of the rows or else of the manifest; None if neither records."""
        value = getattr(self.run.summary, name)
        return self.told("sampling", name) if value is None else value

    def setting(self, name: str, *, source: bool = True) -> str:
        """The same as text; what is not recorded as the audit infers it, with the ``source`` of that."""
        if (value := self.recorded(name)) is not None:
            early = name == "n" and self.run.summary.procedure not in ("fixed", None)
            return ("up to " if early else "") + shown(value)
        found = getattr(self.audit, name, None)
        if found is None or found.value is None:
            return UNKNOWN
        return shown(found.value) + (f" ({_SOURCES.get(found.source, found.source)})" if source else "")


def load_subjects(paths: Sequence[Path]) -> list[ReportRun]:
    """Read radius tables and all that lies beside them.

    Args:
        paths: Tables, ours or of any dialect that records its radii, at least one, each once. ``radii.tsv`` is taken
            for part of its run folder.

    Raises:
        ValueError: If a table is malformed, has no rows or is named twice. What lies beside it never raises.
        OSError: If a table cannot be read.
    """
    loaded = runs.load(paths)
    short = _short_names([plain_name(run.name) for run in loaded])
    return [_subject(path, run, name) for path, run, name in zip(paths, loaded, short, strict=True)]


def _short_names(names: Sequence[str]) -> list[str]:
    short = [shortened(name) for name in names]
    return [name if short.count(name) == 1 else f"{at}: {name}" for at, name in enumerate(short, start=1)]


def _subject(path: Path, run: Run, short: str) -> ReportRun:
    notes = list[str]()
    config, environment = dict[str, Any](), dict[str, Any]()
    if path.name == "radii.tsv":
        config = _read(path.with_name("config.toml"), toml.read, notes)
        environment = _read(path.with_name("environment.json"), _read_environment, notes)
    audit = audit_log(path)
    run = replace(run, damage=None)  # the audit names a manifest that cannot be read
    if not run.manifest and all(finding.check != "manifest" for finding in audit.findings):
        notes.append("there is no manifest beside the table: which data, model and noise it is about is not recorded.")
    if run.manifest and config:
        notes += _folder_warnings(path, run, environment)
    return ReportRun(
        run=replace(run, name=isolated(run.name)),
        drawn=replace(run, name=short),
        path=path,
        audit=audit,
        config=config,
        environment=environment,
        notes=tuple(notes),
        remarks=() if "status" in run.table else run.notes,
    )


def _read_environment(file: Path) -> Any:
    return strict_json.parse(read_bytes(file, _LARGEST_ENVIRONMENT))


def _read(file: Path, reader: Callable[[Path], Any], notes: list[str]) -> dict[str, Any]:
    """What a file beside a table says, {} if it is not there or damaged; damage is noted."""
    try:
        found = reader(file)
        if not isinstance(found, dict):
            raise ValueError("it holds no named values")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        notes.append(f"{file.name} cannot be read ({error}).")
        return {}
    return found


def _folder_warnings(path: Path, run: Run, environment: Mapping[str, Any]) -> list[str]:
    try:
        config, training = load_training(path.parent)
        folder = CertifiedFolder(run=run, config=config, environment=environment, training=training)
        return [f"{text}." for text in folder.warnings()]
    except (OSError, ValueError, TypeError, AttributeError) as error:  # values of other types than training writes
        return [f"the training that is described beside the table cannot be judged ({error})."]
