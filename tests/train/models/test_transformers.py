"""Networks of transformers in a local folder, where that library is installed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from maxup_smoothing.certify.models import loading
from maxup_smoothing.data import registry
from maxup_smoothing.train.__main__ import app

transformers = pytest.importorskip("transformers", reason="transformers is not installed")
SHAPE = (1, 28, 28)
BASE = """
dataset = "gray.npz"
objective = "maxup"
m = 2
sigma = 0.25
epochs = 2
batch_size = 20
lr = 0.05
probe = 20
"""


def train(out: str, *changes: str) -> tuple[int, str]:
    Path("base.toml").write_text(BASE)
    options = [option for change in changes for option in ("--set", change)]
    result = CliRunner().invoke(app, ["base.toml", *options, "--out", out])
    return result.exit_code, str(result.exception) if result.exception else ""


@pytest.fixture
def vit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sample = registry.load("fashion-sample", "train")
    pixels, labels = np.asarray(sample.images), sample.labels
    np.savez("gray.npz", images=pixels[:60, 0], labels=labels[:60], classes=np.array(sample.classes))
    config = transformers.ViTConfig(
        num_hidden_layers=2, hidden_size=16, num_attention_heads=2, intermediate_size=32, image_size=28, patch_size=7,
        num_channels=1, num_labels=10,
    )  # fmt: skip
    transformers.AutoModelForImageClassification.from_config(config).save_pretrained("vit")
    config.num_labels = 7
    transformers.AutoModelForImageClassification.from_config(config).save_pretrained("seven")


@pytest.mark.usefixtures("vit")
def test_a_folder_of_transformers_is_trained_and_certified_without_it() -> None:
    quick = ["arch=hf:vit", "optimizer=adamw", "lr=0.001", "grad_checkpointing=true", "layer_decay=0.7"]
    assert train("a", *quick) == (0, "")
    Path("vit").rename("away")  # the checkpoint says how to build it
    assert loading.load("a", SHAPE, 10).model(torch.rand(2, *SHAPE)).shape == (2, 10)
    Path("away").rename("vit")
    assert loading.load("hf:vit", SHAPE, 10).num_classes == 10
    assert "init_head=reset" in train("b", "arch=hf:seven")[1]
    assert train("b", "arch=hf:seven", "init_head=reset", "epochs=1") == (0, "")
    Path("vit/model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"vit holds no weights \(model\.safetensors\)"):
        loading.load("hf:vit", SHAPE, 10)
    assert train("c", "arch=hf:vit", "epochs=1") == (0, "")  # random weights
