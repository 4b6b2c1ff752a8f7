"""Radius tables as named runs, each with its manifest, and checks that runs can be compared."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from maxup_smoothing.certify.logs.reader import read_log
from maxup_smoothing.certify.logs.settings import beyond_l2
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.evidence import Statement
from maxup_smoothing.certify.tables.summary import Summary, summarize
from maxup_smoothing.data.official import CLASSES

_EARLY = ("sequential", "anytime")
_STOPPING = ("n", "radii", "tolerance", "looks", "futility")


@dataclass(frozen=True)
class Run:
    """One radius table with the name that figures and tables show, and the manifest that lies beside it.

    Attributes:
        name: As shown.
        table: Its rows.
        summary: Of the rows.
        notes: What the log's reader assumed, repaired or knows to be wrong.
        manifest: As it was read; empty where there is none, or it is damaged.
        damage: Why the manifest cannot be read; None where it can, or where there is none.
    """

    name: str
    table: pd.DataFrame
    summary: Summary
    notes: tuple[str, ...] = ()
    manifest: Mapping[str, Any] = field(default_factory=dict)
    damage: str | None = None

    def told(self, *keys: str) -> Any:
        """A value of the manifest by its section and name; None where it is not there.

        Raises:
            ValueError: If there is a manifest that cannot be read.
        """
        if self.damage is not None:
            raise ValueError(self.damage)
        return manifests.told(self.manifest, *keys)

    @property
    def dataset(self) -> str | None:
        """Name of the data set; None where the manifest does not record it."""
        name = self.told("data", "name")
        return None if name is None else str(name)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Names of the classes of a well-known data set; None for another one.

        A class map has given the labels the numbers of another network's classes, whose names are not known.
        """
        return None if self.told("data", "class_map") is not None else CLASSES.get(self.dataset or "")

    @property
    def stopping(self) -> Mapping[str, Any] | None:
        """The settings that decide when a procedure stops early; None where no manifest records them."""
        if manifests.told(self.manifest, "sampling", "procedure") not in _EARLY:
            return None
        return {name: manifests.told(self.manifest, "sampling", name) for name in _STOPPING}


@dataclass(frozen=True)
class Traced:
    """A curve that a file records by itself, without images: ``table`` has ``radius``, rising, and ``accuracy``."""

    name: str
    table: pd.DataFrame
    notes: tuple[str, ...] = ()


def load(paths: Sequence[str | os.PathLike[str]], labels: Sequence[str] | None = None) -> list[Run]:
    """Read radius tables and name them.

    Args:
        paths: Tables, or logs of any dialect that records its radii; see `certify.logs.reader`.
        labels: Names to show, one a file; by default `names` of the paths.

    Raises:
        ValueError: If a file is malformed or has no rows, is named twice, or the labels do not fit the files.
        OSError: If a file cannot be read.
    """
    found = list[Run]()
    for path, one in zip(paths, load_all(paths, labels), strict=True):
        if isinstance(one, Traced):
            raise ValueError(
                f"{path} is a log of curve: it has no radii of images to show; `analysis curve` draws it as it is."
            )
        found.append(one)
    return found


def load_all(paths: Sequence[str | os.PathLike[str]], labels: Sequence[str] | None = None) -> list[Run | Traced]:
    """The same, and files that hold a curve alone as it is.

    Raises:
        ValueError: As `load`, except for curves.
        OSError: If a file cannot be read.
    """
    if labels is not None and (len(labels) != len(paths) or len(set(labels)) < len(labels)):
        raise ValueError(f"labels must be {len(paths)} different names, one a file, got {len(labels)}: {list(labels)}.")
    shown = names(paths) if labels is None else labels
    found = list[Run | Traced]()
    for name, path in zip(shown, paths, strict=True):
        log = read_log(path)
        if log.kind == "curve":
            found.append(Traced(name, log.table, log.notes))
            continue
        if "radius" not in log.table:
            raise ValueError(f"{path} is a log of {log.kind} ({log.dialect}): it has no radii of images to show.")
        try:
            found.append(Run(name, log.table, summarize(log.table), log.notes, *_manifest(Path(path))))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    return found


def stated(runs: Sequence[Run], statement: Statement) -> list[Run]:
    """The runs as a statement wants them, in its norm and among its first classes; see `certify.tables.restated`.

    Args:
        runs: As they were loaded.
        statement: What their radii are to state.

    Raises:
        ValueError: If a run does not record what that takes, or its radii cannot be l2; with its name.
    """
    if statement == Statement():
        return list(runs)
    read_again = []
    for run in runs:
        try:
            if statement.norm != "l2" and (doubt := beyond_l2(run.table)) is not None:
                raise ValueError(doubt)
            run.told()  # refuses a damaged manifest
            table = statement.of(run.table, run.manifest or None)
            read_again.append(replace(run, table=table, summary=summarize(table)))
        except ValueError as error:
            raise ValueError(f"{run.name}: {error}") from None
    return read_again


def on_common_images(runs: Sequence[Run]) -> list[Run]:
    """The runs with the rows of those images that all of them have.

    Raises:
        ValueError: If there is no such image.
    """
    shared = set[int].intersection(*(set(run.table["idx"]) for run in runs))
    if not shared:
        raise ValueError("the tables have no image in common.")
    parts = [(run, run.table[run.table["idx"].isin(shared)]) for run in runs]
    return [replace(run, table=table, summary=summarize(table)) for run, table in parts]


def names(paths: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Short names: ``NAME`` of ``…/NAME/radii.tsv``, else the file's stem, with as many parents as they need to differ.

    Raises:
        ValueError: If a file is there twice.
    """
    full = [Path(path).resolve() for path in paths]
    for path, times in Counter(full).items():
        if times > 1:
            raise ValueError(f"{path} is given {times} times; each run is shown once.")
    parts = [[*path.parts[1:-1], *([] if path.name == "radii.tsv" else [_stem(path)])] or [path.name] for path in full]
    depths = [1] * len(full)
    while True:
        found = ["/".join(part[-depth:]) for part, depth in zip(parts, depths, strict=True)]
        clashing = [index for index, name in enumerate(found) if found.count(name) > 1]
        if not clashing:
            return found
        if all(depths[index] >= len(parts[index]) for index in clashing):
            return [str(path) for path in full]  # a.tsv and a.txt of one folder
        for index in clashing:
            depths[index] += 1


def is_named(name: str, asked: str) -> bool:
    """Whether a run of this name is the one asked for: by the whole name, or by its last part."""
    return asked in (name, name.rsplit("/", 1)[-1])


def different_images(runs: Sequence[Run]) -> str | None:
    """In which images runs differ, without a full stop; None if all cover the same ones.

    Certified accuracies over different images differ for that reason alone.
    """
    first, *others = runs
    for other in others:
        only_first = len(set(first.table["idx"]) - set(other.table["idx"]))
        only_other = len(set(other.table["idx"]) - set(first.table["idx"]))
        if only_first or only_other:
            return (
                f"{first.name} has {only_first} images that {other.name} has not, "
                f"and {only_other} are missing the other way round"
            )
    return None


def different_sigma(runs: Sequence[Run]) -> str | None:
    """A warning, without a full stop, if runs were certified under different noise, as far as they record; else None.

    Such radii may stand side by side, but a larger sigma buys large radii for accuracy at small ones: neither run is
    the better one for it.
    """
    told: dict[float, list[str]] = {}
    for run in runs:
        if run.summary.sigma is not None:
            told.setdefault(run.summary.sigma, []).append(run.name)
    if len(told) < 2:
        return None
    shown = " and ".join(f"{sigma:g} ({', '.join(told[sigma])})" for sigma in sorted(told))
    return f"sigma differs, {shown}: radii under different noise answer different questions"


def different_stopping(a: Run, b: Run) -> str | None:
    """In which of the settings that say when to stop two runs differ, of a procedure that stops early; None if in none.

    Such a run proves no more than it was asked for: between two of one classifier that were asked for different radii
    there are differences that look like those of two classifiers.
    """
    if a.stopping is None or b.stopping is None:
        return None
    for name in _STOPPING:
        ours, theirs = a.stopping.get(name), b.stopping.get(name)
        if ours != theirs:
            return f"{name}, {ours} and {theirs}: when they stopped decides what they prove; certify both alike"
    return None


def unknown_stopping(runs: Sequence[Run]) -> list[str]:
    """Names of the runs that stopped early, of which no manifest records when."""
    return [run.name for run in runs if run.summary.procedure in _EARLY and run.stopping is None]


def common_conditions(runs: Sequence[Run]) -> str | None:
    """The data set, network and noise that all runs have in common, for the title of a figure; None for nothing.

    Raises:
        ValueError: If a manifest cannot be read.
    """
    told: dict[str, list[object]] = {
        "{}": [run.dataset for run in runs],
        "network {}": [run.told("model", "arch") for run in runs],
        "noise σ = {:g}": [run.summary.sigma for run in runs],
    }
    common = [
        form.format(values[0])
        for form, values in told.items()
        if values and values[0] is not None and all(value == values[0] for value in values)
    ]
    return ", ".join(common) or None


def _manifest(path: Path) -> tuple[dict[str, Any], str | None]:
    """The manifest beside a table, and why it cannot be read."""
    try:
        return manifests.read(manifests.manifest_path(path)), None
    except FileNotFoundError:
        return {}, None
    except (OSError, ValueError, RecursionError) as error:
        return {}, str(error)


def _stem(path: Path) -> str:
    """The name without its suffix; the end of ``noise_0.25`` is none."""
    return path.stem if path.suffix[1:2].isalpha() else path.name
