"""The command ``certify`` in a folder of its own, with a factory, some images and a checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from places import HELPERS
from typer.testing import CliRunner

from maxup_smoothing.certify.commands.app import app
from maxup_smoothing.data import registry
from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.checkpoint import Architecture


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of one's own with a factory, some images, a checkpoint, and no influence from outside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    (tmp_path / "mymodel.py").write_text((HELPERS / "oracles.py").read_text())
    sample = registry.load("fashion-sample", "test")
    np.savez("images.npz", images=sample.images[:40, 0], labels=sample.labels[:40], classes=np.array(sample.classes))
    architecture = Architecture(arch="lenet", image_shape=(1, 28, 28), num_classes=10, options={})
    torch.manual_seed(0)
    metadata: dict[str, Any] = {"config": {"sigma": 0.25, "dataset": "images.npz"}, "epoch": 1}
    checkpoint.save(Path("run/checkpoint.safetensors"), architecture.build(), architecture, metadata)


PIXEL = ["run", "mymodel:factory", "--data", "images.npz", "--sigma", "0.5", "--n", "200", "--seed", "1"]
PIXEL += ["--batch-size", "64", "--out", "out/radii.tsv"]


def certify(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout
