"""Run folders of every kind, recognised by the files in them.

A classifier's folder may hold a radius table, of `certify run`, and its accuracy on test images, of
`python -m train.evaluate`; a language model's holds its perplexity.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from maxup_smoothing.analysis.runs.evaluated import ACCURACY, EVALUATE, AccuracyFolder, load_accuracy
from maxup_smoothing.analysis.runs.folders import CERTIFY, CertifiedFolder, load_folders, load_trained, require_files
from maxup_smoothing.analysis.runs.language import FINISH, PERPLEXITY, LanguageFolder, is_language, load_language
from maxup_smoothing.analysis.runs.run import names


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Runs by what is known of them; a classifier that was both certified and evaluated is in both lists."""

    certified: Sequence[CertifiedFolder] = ()
    evaluated: Sequence[AccuracyFolder] = ()
    language: Sequence[LanguageFolder] = ()

    def names(self) -> list[str]:
        """Their names, each once."""
        every: Sequence[Sequence[Named]] = (self.certified, self.evaluated, self.language)
        return list(dict.fromkeys(run.name for kind in every for run in kind))


def load_runs(folders: Sequence[str | os.PathLike[str]]) -> Runs:
    """Read run folders of every kind, and name them so that they differ.

    Args:
        folders: At least one, each once.

    Raises:
        ValueError: If a folder lacks what makes it one of a kind, with the command that makes it, a file is malformed,
            or a folder is there twice.
        OSError: If a file cannot be read.
    """
    paths = [Path(folder) for folder in folders]
    kinds = [_kinds(path) for path in paths]
    named = list(zip(paths, names([path / "radii.tsv" for path in paths]), kinds, strict=True))
    certified = [(path, name) for path, name, kind in named if "radii.tsv" in kind]
    return Runs(
        certified=load_folders([path for path, _ in certified], [name for _, name in certified]),
        evaluated=[load_accuracy(path, name) for path, name, kind in named if ACCURACY in kind],
        language=[load_language(path, name) for path, name, kind in named if PERPLEXITY in kind],
    )


def _kinds(path: Path) -> set[str]:
    """Which of the files that record results are to be read."""
    if is_language(load_trained(path).config):
        require_files(path, {PERPLEXITY: FINISH})
        return {PERPLEXITY}
    found = {name for name in ("radii.tsv", ACCURACY) if (path / name).is_file()}
    if not found:
        raise ValueError(
            f"{path} has no radii.tsv: {CERTIFY.format(folder=path)}; and no {ACCURACY}, which would do, too: "
            f"{EVALUATE.format(folder=path)}."
        )
    return found


class Named(Protocol):
    """Whatever a report names."""

    @property
    def name(self) -> str:
        """The name as shown, not yet escaped."""


class Warned(Named, Protocol):
    """What may have to be read with care."""

    def warnings(self) -> list[str]:
        """What a reader must know before using the numbers."""
