"""Networks of transformers in a local folder, where that library is installed."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from maxup_smoothing.certify.commands.app import app as certify_app
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


@pytest.mark.usefixtures("vit")
def test_classes_in_another_order_than_id2label_are_refused_or_numbered_by_the_names() -> None:
    names = list(registry.load("fashion-sample", "train").classes)
    config = transformers.AutoConfig.from_pretrained("vit")
    config.id2label = dict(enumerate(reversed(names)))
    transformers.AutoModelForImageClassification.from_config(config).save_pretrained("vit")
    assert loading.load("hf:vit", SHAPE, 10).classes == tuple(reversed(names))
    run = ["run", "hf:vit", "--data", "gray.npz", "--sigma", "0.25", "--n", "20", "--limit", "5", "--batch-size", "10"]
    run += ["--seed", "1", "--no-check", "--device", "cpu"]
    with pytest.raises(ValueError, match="hf:vit was trained with Ankle boot as class 0, but in the data set it is cl"):
        CliRunner().invoke(certify_app, [*run, "--out", "a.tsv"], catch_exceptions=False)
    for out, way in (("a.tsv", "auto"), ("b.tsv", "vit/config.json")):
        found = CliRunner().invoke(certify_app, [*run, "--class-map", way, "--out", out], catch_exceptions=False)
        assert ("labels are numbered as hf:vit names its classes: T-shirt/top is 9, Tr" in found.output) == (
            way == "auto"
        )
    assert [line.split("\t")[:2] for line in Path("a.tsv").read_text().splitlines()] == [
        line.split("\t")[:2] for line in Path("b.tsv").read_text().splitlines()
    ]
    assert "trained with Ankle boot as class 0, but in the data set it is class 9" in train("a", "arch=hf:vit")[1]
    assert train("b", "arch=hf:vit", "init_head=reset", "epochs=1") == (0, "")
