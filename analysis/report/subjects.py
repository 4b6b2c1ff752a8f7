"""The runs of a report: each table with what stands beside it, as far as it can be read, and names fit to be shown."""

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maxup_smoothing.analysis.runs import run as runs
from maxup_smoothing.analysis.runs.folders import RunFolder, load_training
from maxup_smoothing.analysis.runs.run import Run
from maxup_smoothing.certify.audit.auditing import Audit, audit_log
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.data.runtime import strict_json, toml
from maxup_smoothing.data.runtime.untrusted import read_bytes

UNKNOWN = "not recorded"
_LARGEST_ENVIRONMENT = 1_000_000
_LONGEST = 24  # characters of a name in a figure: two of them have to fit into its title
_BIDI_CONTROLS = frozenset("\u202a\u202b\u202c\u202d\u202e")
_ISOLATES = frozenset("\u2066\u2067\u2068\u2069")
_SOURCES = {"inferred": "inferred from the radii", "file name": "from the file name"}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One run as a report sees it; what is not there is an empty mapping.

    ``run`` bears the name that texts show and ``drawn`` the same table under a short one for figures. ``notes`` are
    warnings that came up while reading, those of `RunFolder` included; ``remarks`` is what a log of another project
    leaves to be assumed.
    """

    run: Run
    drawn: Run
    path: Path
    audit: Audit
    manifest: Mapping[str, Any]
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
        return manifests.told(self.manifest, *keys)

    def recorded(self, name: str) -> Any:
        """Sigma, n0, n, alpha, procedure or bound, of the rows or else of the manifest; None if neither tells."""
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


def load_subjects(paths: Sequence[Path]) -> list[Subject]:
    """Read radius tables and all that lies beside them.

    Args:
        paths: Tables, ours or of any dialect that tells its radii, at least one, each once. ``radii.tsv`` is taken
            for part of its run folder.

    Raises:
        ValueError: If a table is malformed, has no rows or is named twice. What lies beside it never raises.
        OSError: If a table cannot be read.
    """
    loaded = runs.load(paths)
    short = _short_names([plain_name(run.name) for run in loaded])
    return [_subject(path, run, name) for path, run, name in zip(paths, loaded, short, strict=True)]


def shown(value: object, longest: int = 200) -> str:
    """A value out of a file as text of limited length; numbers with separators, other structures as JSON."""
    if isinstance(value, int) and not isinstance(value, bool):
        text = f"{value:,}" if abs(value) < 10**18 else "a number of more than 18 digits"
    elif isinstance(value, float):
        text = f"{value:,.0f}" if value.is_integer() and 1000 <= abs(value) < 1e15 else f"{value:.12g}"
    else:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= longest else f"{text[: longest - 2]} …"


def printable(text: str) -> str:
    """Text without what no HTML or SVG may hold, or would turn the text after it round: replaced by U+FFFD.

    That is control characters, halves of surrogate pairs (file names that are not UTF-8), and the embeddings and
    overrides of writing direction.
    """
    return "".join("\ufffd" if _forbidden(character) else character for character in text)


def plain_name(name: str) -> str:
    """A name as `printable` text in one line, without isolates either: nothing in it reaches beyond it."""
    return "".join(
        "\ufffd" if character in _ISOLATES or character in "\n\t" else character for character in printable(name)
    )


def isolated(name: str) -> str:
    """A name for running text: kept apart from the words around it where it is written from right to left."""
    name = plain_name(name)
    turned = any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in name)
    return f"\u2068{name}\u2069" if turned else name


def shortened(name: str, longest: int = _LONGEST) -> str:
    """A name of at most so many characters, its middle left out."""
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[:half]}…{name[-half:]}"


def _forbidden(character: str) -> bool:
    category = unicodedata.category(character)
    return (category == "Cc" and character not in "\n\t") or category == "Cs" or character in _BIDI_CONTROLS


def _short_names(names: Sequence[str]) -> list[str]:
    short = [shortened(name) for name in names]
    return [name if short.count(name) == 1 else f"{at}: {name}" for at, name in enumerate(short, start=1)]


def _subject(path: Path, run: Run, short: str) -> Subject:
    notes = list[str]()
    # A manifest that cannot be read is an error that the audit names.
    manifest = _read(manifests.manifest_path(path), manifests.read, [])
    config, environment = dict[str, Any](), dict[str, Any]()
    if path.name == "radii.tsv":
        config = _read(path.with_name("config.toml"), toml.read, notes)
        environment = _read(path.with_name("environment.json"), _read_environment, notes)
    audit = audit_log(path)
    if not manifest and all(finding.check != "manifest" for finding in audit.findings):
        notes.append("there is no manifest beside the table: which data, model and noise it is about is not recorded.")
    if manifest and config:
        notes += _folder_warnings(path, run, manifest, environment)
    named = replace(run, name=isolated(run.name))
    return Subject(
        run=named,
        drawn=replace(run, name=short),
        path=path,
        audit=audit,
        manifest=manifest,
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


def _folder_warnings(path: Path, run: Run, manifest: Mapping[str, Any], environment: Mapping[str, Any]) -> list[str]:
    try:
        config, training = load_training(path.parent)
        folder = RunFolder(run=run, config=config, environment=environment, manifest=manifest, training=training)
        return [f"{text}." for text in folder.warnings()]
    except (OSError, ValueError, TypeError, AttributeError) as error:  # values of other types than training writes
        return [f"the training that is described beside the table cannot be judged ({error})."]
