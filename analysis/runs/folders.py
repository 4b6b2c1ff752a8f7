"""Run folders: a training run, and with it its certification.

A folder holds config.toml, environment.json and train.csv, which training wrote, and radii.tsv with
radii.manifest.json, which certification wrote. What else may lie there is read by `analysis.runs.kinds`.
"""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from maxup_smoothing.analysis.runs.run import Run, load
from maxup_smoothing.data.runtime import strict_json, toml
from maxup_smoothing.data.runtime.untrusted import read_bytes

_LARGEST_TRAINING, _LARGEST_OBJECT, _MOST_COLUMNS = 10_000_000, 1_000_000, 100
_TYPES: Mapping[str, tuple[type, ...]] = {"epochs": (int,), "sigma": (int, float)}
_NUMBERS = ("epoch", "seconds", "images_per_second", "tokens_per_second", "validation_perplexity")
_TRAINED = dict.fromkeys(("config.toml", "environment.json", "train.csv"), "train it with `python -m train`")
CERTIFY = "certify its checkpoint with `certify run {folder}/checkpoint.safetensors --out {folder}/radii.tsv`"
_NEEDED = {
    **_TRAINED,
    "radii.tsv": CERTIFY,
    "radii.manifest.json": "certify its checkpoint again: what the radii are about stands there alone",
}


@dataclass(frozen=True, kw_only=True)
class TrainedFolder:
    """What training left; ``training`` has a row an epoch, ``config`` and ``environment`` are as they were read.

    Unknown keys are kept and missing ones allowed: folders outlive the version that wrote them.
    """

    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    training: pd.DataFrame

    @property
    def epochs(self) -> int:
        """Epochs in train.csv."""
        return int(self.training["epoch"].nunique())

    def total_seconds(self) -> float | None:
        """Time that training took, measured epoch by epoch; None where the file does not say."""
        return float(self.training["seconds"].sum()) if self.epochs and "seconds" in self.training else None

    def median(self, column: str) -> float | None:
        """Median of a column over the epochs; None where the file does not say."""
        return float(self.training[column].median()) if self.epochs and column in self.training else None

    def warnings(self) -> list[str]:
        """What a reader must know before using the numbers: the run is unfinished, or its parts do not fit."""
        planned = self.config.get("epochs")
        if planned is None or self.epochs >= planned:
            return []
        return [f"unfinished training: {self.epochs} of {planned} epochs"]


@dataclass(frozen=True, kw_only=True)
class CertifiedFolder(TrainedFolder):
    """What training and certification left."""

    run: Run

    @property
    def name(self) -> str:
        """The folder's name, with as many parents as it takes to tell the runs apart."""
        return self.run.name

    @property
    def dataset(self) -> str:
        """The data that was certified."""
        return str(self.certified("data", "name") or self.config.get("dataset", "unknown"))

    @property
    def sigma(self) -> float:
        """The noise that was certified, which training may differ from; nan if nothing says it."""
        found = self.run.summary.sigma
        return float(self.config.get("sigma", "nan") if found is None else found)

    def certified(self, *keys: str) -> Any:
        """A value of the manifest by its section and name; None where it is not there."""
        return self.run.told(*keys)

    def warnings(self) -> list[str]:
        """What a reader must know before using the numbers: the run is unfinished, or its parts do not fit."""
        found = super().warnings()
        planned, epoch = self.config.get("epochs"), self.certified("model", "epoch")
        if planned is not None and epoch is not None and epoch < planned:
            found.append(f"certified after epoch {epoch} of {planned}")
        whole = self._protocol_images()
        if whole is not None and len(self.run.table) < whole:
            found.append(
                f"certified {len(self.run.table)} of the {whole} images of {self.certified('protocol', 'name')}"
            )
        trained_sigma, trained_data = self.config.get("sigma"), self.config.get("dataset")
        if trained_sigma is not None and trained_sigma != self.sigma:
            found.append(f"trained at sigma {trained_sigma:g}, certified at {self.sigma:g}")
        if trained_data is not None and trained_data != self.dataset:
            found.append(f"trained on {trained_data}, certified on {self.dataset}")
        return found

    def _protocol_images(self) -> int | None:
        try:
            start, stop, step = map(int, str(self.certified("protocol", "indices")).split(":"))
            return len(range(start, stop, step))
        except ValueError:
            return None


def load_folders(
    folders: Sequence[str | os.PathLike[str]], names: Sequence[str] | None = None
) -> list[CertifiedFolder]:
    """Read certified run folders, and name them so that they differ.

    Args:
        folders: Each once.
        names: Other names, one a folder.

    Raises:
        ValueError: If a folder lacks a file, a file is malformed or there are no certified images, with its path and
            what to do, or if a folder is there twice.
        OSError: If a file cannot be read.
    """
    paths = [Path(folder) for folder in folders]
    for path in paths:
        require_files(path, _NEEDED)
    runs = load([path / "radii.tsv" for path in paths], names)
    for run in runs:
        if run.damage is not None:
            raise ValueError(run.damage)
    return [CertifiedFolder(run=run, **vars(load_trained(path))) for path, run in zip(paths, runs, strict=True)]


def load_trained(path: Path) -> TrainedFolder:
    """What training left in a folder.

    Raises:
        ValueError: If a file is missing or damaged, with its path and what to do.
        OSError: If one cannot be read.
    """
    require_files(path, _TRAINED)
    config, training = load_training(path)
    environment = read_object(path / "environment.json", "train again")
    return TrainedFolder(config=config, environment=environment, training=training)


def require_files(path: Path, needed: Mapping[str, str]) -> None:
    """Raise ``ValueError`` unless a run folder holds the files that are named, each with what makes it."""
    if not path.is_dir():
        raise ValueError(f"{path} is no folder; name run folders, such as runs/NAME.")
    for name, remedy in needed.items():
        if not (path / name).is_file():
            raise ValueError(f"{path} has no {name}: {remedy.format(folder=path)}.")


def read_object(path: Path, remedy: str) -> dict[str, Any]:
    """The names and values of a JSON file.

    Raises:
        ValueError: If it is damaged, with what to do instead of restoring it.
        OSError: If it cannot be read.
    """
    content = read_bytes(path, _LARGEST_OBJECT)
    try:
        found = strict_json.parse(content)
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); restore it or {remedy}.") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} is no JSON object; restore it or {remedy}.")
    return found


def one_method(tables: Sequence[Path]) -> list[int | None]:
    """The training seeds of tables that are to be of one method, from the config.toml beside each; None without one.

    Raises:
        ValueError: If a seed is there twice, or two configurations differ in more than the seed.
    """
    configs = [
        _config(table.with_name("config.toml")) if table.with_name("config.toml").is_file() else None
        for table in tables
    ]
    told = [config for config in configs if config is not None]
    for config, table in zip(configs, tables, strict=True):
        if config is None:
            continue
        differs = sorted(key for key in {*config, *told[0]} - {"seed"} if config.get(key) != told[0].get(key))
        if differs:
            raise ValueError(
                f"{table.parent} is of another method: it differs in {', '.join(differs)}; name one method."
            )
    seeds = [config["seed"] if config and isinstance(config.get("seed"), int) else None for config in configs]
    twice = sorted({seed for seed in seeds if seed is not None and seeds.count(seed) > 1})
    if twice:
        raise ValueError(f"training seed {twice[0]} is there {seeds.count(twice[0])} times; name each network once.")
    return seeds


def load_training(path: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """The configuration of a run folder and its epochs, whether it has been certified or not.

    Raises:
        ValueError: If a file is missing or damaged, with its path and what to do.
    """
    for name in ("config.toml", "train.csv"):
        if not (path / name).is_file():
            raise ValueError(f"{path} has no {name}: {_NEEDED[name]}.")
    config = _config(path / "config.toml")
    return config, _training(path / "train.csv")


def _training(path: Path) -> pd.DataFrame:
    try:
        text = read_bytes(path, _LARGEST_TRAINING).decode("utf-8")
        if text.partition("\n")[0].count(",") >= _MOST_COLUMNS:  # pandas makes room for all of them in every line
            raise ValueError("too many columns")
        training = pd.read_csv(io.StringIO(text))
    except (ValueError, OverflowError) as error:  # of pandas: no columns, or a line with too many fields
        raise ValueError(f"{path} is damaged ({error}); restore it or train again.") from None
    if "epoch" not in training:
        raise ValueError(f"{path} has no column epoch; restore it or train again.")
    for name in _NUMBERS:
        if len(training) and name in training and not pd.api.types.is_numeric_dtype(training[name]):
            raise ValueError(f"{path} is damaged: {name} must be numbers; restore it or train again.")
    return training


def _config(path: Path) -> dict[str, Any]:
    content = read_bytes(path, toml.LARGEST)
    try:
        config = toml.parse(content.decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not TOML ({error}); restore it or train again.") from None
    for name, kinds in _TYPES.items():
        if name in config and type(config[name]) not in kinds:
            raise ValueError(f"{path} is damaged: {name} must be a number; restore it or train again.")
    return config
