"""Run folders as training and evaluation leave them: certified, evaluated without noise, and of language models."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maxup_smoothing.analysis.literature.curves import Published
from maxup_smoothing.analysis.results.document import MarkdownReport, build_report
from maxup_smoothing.analysis.runs.kinds import load_runs
from maxup_smoothing.train.evaluate import predictions_text

HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime\tn0\tn\tsigma\talpha\tprocedure\n"


TRAIN = "epoch,lr,loss,images_per_second,seconds\n"


CONFIG = {
    "dataset": "mnist", "arch": "lenet", "objective": "gaussian", "sigma": 0.5, "m": 1, "reduction": "max",
    "epochs": 2, "batch_size": 256, "dtype": "float32", "seed": 7,
}  # fmt: skip


INDICES = range(0, 10_000, 20)


def folder(
    path: Path,
    radii: Sequence[float] = (0.5, 0.25, 0.0, 1.0) * 125,
    *,
    epochs: int = 2,
    n: int = 1000,
    sigma: float = 0.5,
    manifest: dict[str, Any] | None = None,
    **config: object,
) -> Path:
    """A run folder with a radius an image of skip20; 0 is an abstention."""
    path.mkdir(parents=True)
    settings = {**CONFIG, "sigma": sigma, **config}
    path.joinpath("config.toml").write_text(
        "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
    )
    path.joinpath("environment.json").write_text(json.dumps({"threads": 2, "torch": "2.13.0", "device": "toaster"}))
    path.joinpath("train.csv").write_text(
        TRAIN + "".join(f"{epoch},0.1,0.5,{1000 * epoch},60\n" for epoch in range(1, epochs + 1))
    )
    lines = [
        f"{idx}\t3\t{3 if radius else -1}\t{radius}\t{int(radius > 0)}\t0.1\t100\t{n}\t{sigma}\t0.001\tfixed\n"
        for idx, radius in zip(INDICES, radii, strict=False)
    ]
    path.joinpath("radii.tsv").write_text(HEADER + "".join(lines))
    told = {
        "schema": 1,
        "sampling": {"procedure": "fixed", "n0": 100, "n": n, "alpha": 0.001},
        "model": {"epoch": 2},
        "data": {"name": settings["dataset"], "split": "test"},
        "protocol": {"name": "skip20", "indices": "0:10000:20"},
        "noise": {"source": "exact", "seed": 11},
        **(manifest or {}),
    }
    path.joinpath("radii.manifest.json").write_text(json.dumps(told))
    return path


def report(*folders: Path, controls: Sequence[str] = (), rows: Sequence[Published] = ()) -> MarkdownReport:
    return build_report(load_runs(folders), controls, rows, "report")


EASY = [True] * 150 + [False] * 50


CIFAR = {
    "dataset": "cifar10", "arch": "resnet20", "objective": "plain", "sigma": 0.0, "m": 1, "epochs": 2, "seed": 7,
    "perturbation": ["crop", "flip"], "dtype": "float32",
}  # fmt: skip


PTB = {
    "task": "language", "corpus": "ptb", "arch": "lstm", "sigma": 0.0, "m": 1, "reduction": "max", "epochs": 3,
    "layers": 2, "embedding": 200, "hidden": 100, "seed": 0,
}  # fmt: skip


def trained(path: Path, config: dict[str, Any], train: str) -> Path:
    path.mkdir(parents=True)
    (path / "config.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in config.items()))
    (path / "environment.json").write_text(json.dumps({"threads": 1, "torch": "2.13.0", "device": "toaster"}))
    (path / "train.csv").write_text(train)
    return path


def evaluated(
    path: Path,
    right: Sequence[bool] = EASY,
    *,
    epochs: int = 2,
    seconds: float = 60,
    predictions: bool = True,
    test: dict[str, Any] | None = None,
    **config: object,
) -> Path:
    """A run folder whose image i is of class 3 and predicted as it where ``right`` says so."""
    rows = "".join(f"{epoch},{1000 * epoch},{seconds}\n" for epoch in range(1, epochs + 1))
    trained(path, {**CIFAR, **config}, f"epoch,images_per_second,seconds\n{rows}")
    told: dict[str, Any] = {
        "right": sum(right), "images": len(right), "dataset": "cifar10", "split": "test", "fingerprint": "f",
        "checkpoint": "checkpoint.safetensors", "epoch": 2, "parameters": 272474,
    }  # fmt: skip
    if predictions:
        content = predictions_text(np.full(len(right), 3), np.where(right, 3, 4)).encode()
        (path / "test_predictions.tsv").write_bytes(content)
        told["predictions_sha256"] = hashlib.sha256(content).hexdigest()
    (path / "test.json").write_text(json.dumps({**told, **(test or {})}))
    return path


def language(path: Path, *, test_nats: float = 400.0, epochs: int = 3, seconds: float = 10, **config: object) -> Path:
    rows = "".join(f"{epoch},{200 - epoch},5000,{seconds}\n" for epoch in range(1, epochs + 1))
    trained(path, {**PTB, **config}, f"epoch,validation_perplexity,tokens_per_second,seconds\n{rows}")
    told = {
        "corpus": "ptb", "checkpoint": "best.safetensors", "epoch": 2,
        "validation": {"tokens": 200, "nats": 900.0}, "test": {"tokens": 100, "nats": test_nats},
    }  # fmt: skip
    (path / "perplexity.json").write_text(json.dumps(told))
    return path
