"""The log of a search: the configuration keys that differ between runs, and accuracy on held-out images."""

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from maxup_smoothing.analysis.results.markdown import UNKNOWN, escaped
from maxup_smoothing.analysis.runs.folders import load_training
from maxup_smoothing.certify.statistics.rounding import floor_text

#: Keys that say nothing about the recipe.
_ASIDE = {"device", "tensorboard", "probe"}


def search_log_text(folders: Sequence[Path]) -> str:
    """A Markdown table, a line a run, the best by validation first, and above it what all runs have in common.

    Each line has the keys of the configuration that differ between runs. It has the average certified radius of the
    held-out images after the last epoch that certified them, rounded down, and of the best epoch if that is another.
    Noisy accuracy after the last epoch and minutes of training follow. Unfinished runs say so. Runs without validation
    come last. Equal runs are in the order of their names.

    Args:
        folders: Run folders with config.toml and train.csv; radius tables are not read, so that no choice depends on
            test images.

    Raises:
        ValueError: If a folder lacks a file, or a file is malformed.
    """
    runs = {folder.as_posix(): load_training(folder) for folder in folders}
    configs = [config for config, _ in runs.values()]
    common, different = _common(configs), _different(configs)
    lines = sorted(_line(name, config, training, different) for name, (config, training) in runs.items())
    head = ["run", "differs in", "validation ACR", "best epoch", "noisy accuracy", "epochs", "minutes"]
    rows = [head, ["---", "---", *["---:"] * 5], *(cells for _, _, cells in lines)]
    shared = ", ".join(f"{key} = {_told(value)}" for key, value in common.items() if value not in ("", None))
    return f"In common: {escaped(shared)}.\n\n" + "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _common(configs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    first = configs[0]
    same = [key for key in first if all(key in config and config[key] == first[key] for config in configs)]
    return {key: first[key] for key in same if key not in _ASIDE}


def _different(configs: Sequence[Mapping[str, Any]]) -> set[str]:
    """Keys with different values in the runs that have them.

    A key that only some runs have is not a difference by itself: folders outlive the version that wrote them, and each
    version adds keys.
    """
    told: dict[str, list[Any]] = {}
    for config in configs:
        for key, value in config.items():
            told.setdefault(key, []).append(value)
    return {key for key, values in told.items() if any(value != values[0] for value in values)} - _ASIDE


def _line(
    name: str, config: Mapping[str, Any], training: pd.DataFrame, different: Collection[str]
) -> tuple[float, str, list[str]]:
    differs = ", ".join(f"{key} = {_told(value)}" for key, value in config.items() if key in different)
    known = training.dropna(subset="validation_acr") if "validation_acr" in training else training[:0]
    epoch, acr = known["epoch"].to_numpy(), known.get("validation_acr", known["epoch"]).to_numpy(float)
    last, best = (float(acr[-1]), float(acr.max())) if len(acr) else (-math.inf, -math.inf)
    epochs, planned = len(training), config.get("epochs")
    seconds = training["seconds"].sum() / 60 if "seconds" in training else float("nan")
    noisy = training["noisy_accuracy"].iloc[-1] if epochs and "noisy_accuracy" in training else float("nan")
    cells = [
        escaped(name),
        escaped(differs) or "nothing",
        floor_text(last, 4) if len(acr) else UNKNOWN,
        f"{floor_text(best, 4)} (epoch {epoch[acr.argmax()]})" if best > last else UNKNOWN,
        f"{noisy:.3f}",
        str(epochs) if epochs == planned else f"{epochs} of {planned}, unfinished",
        f"{seconds:.0f}",
    ]
    return -last, name, cells


def _told(value: object) -> str:
    return " ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)
