"""What fine-tuning takes: groups of weights, rates of layers, warm-up, clipping, and images from disk."""

import csv
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from typer.testing import CliRunner

from maxup_smoothing.data import registry
from maxup_smoothing.train import evaluate, images
from maxup_smoothing.train import optimizer as optimizers
from maxup_smoothing.train.__main__ import app
from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.loop import Trainer

BASE: dict[str, Any] = {
    "dataset": "d", "arch": "small", "objective": "gaussian", "sigma": 0.25, "epochs": 4, "batch_size": 5, "lr": 0.1,
}  # fmt: skip


def network() -> nn.Module:
    """A stem, two blocks, a norm and a head, 2 weights each."""
    blocks = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    parts = {"stem": nn.Linear(3, 3), "blocks": blocks, "norm": nn.LayerNorm(3), "head": nn.Linear(3, 2)}
    return nn.ModuleDict(parts)


@pytest.mark.parametrize(
    ("names", "layers"),
    [
        (["cls_token", "patch.w", "blocks.0.a.w", "blocks.0.b.0.w", "blocks.1.a.w", "norm.w"], [0, 0, 1, 1, 2, 3]),
        (["vit.embeddings.w", "vit.encoder.layer.0.mlp.w", "vit.encoder.layer.1.w", "classifier.w"], [0, 1, 2, 3]),
        (["conv1.w", "bn1.w", "layer1.0.conv1.w", "layer1.1.w", "layer2.0.downsample.0.w", "fc.w"], [0, 0, 1, 2, 3, 4]),
        (["stem.w", "stages.0.blocks.0.w", "stages.0.blocks.1.w", "stages.1.blocks.0.w", "head.w"], [0, 1, 2, 3, 4]),
        (["backbone.conv1.w", "backbone.conv1.b", "backbone.conv2.w", "backbone.fc.w"], [0, 0, 1, 2]),
        (["0.w", "2.w", "2.b", "4.w"], [1, 2, 2, 3]),
    ],
)  # fmt: skip
def test_a_layer_is_a_numbered_block_and_what_comes_before_and_after(names: list[str], layers: list[int]) -> None:
    assert optimizers.layers(names) == layers


def test_rates_fall_towards_the_input_and_norms_and_biases_do_not_decay() -> None:
    config = TrainConfig(**BASE, optimizer="adamw", layer_decay=0.5, decay_norms=False, weight_decay=0.1)
    optimizer, _ = optimizers.build(network(), config, 10)
    found = sorted(
        (round(group["initial_lr"], 6), group["weight_decay"], len(group["params"])) for group in optimizer.param_groups
    )
    assert found == [
        (0.0125, 0.0, 1), (0.0125, 0.1, 1), (0.025, 0.0, 1), (0.025, 0.1, 1), (0.05, 0.0, 1), (0.05, 0.1, 1),
        (0.1, 0.0, 3), (0.1, 0.1, 1),
    ]  # fmt: skip
    assert optimizers.learning_rate(optimizer) == pytest.approx(0.1)


def test_the_rate_grows_step_by_step_and_then_falls_as_a_cosine() -> None:
    config = TrainConfig(**BASE, schedule="cosine", lr_warmup=0.5, lr_min=0.01)
    optimizer, schedule = optimizers.build(network(), config, 8)
    rates = []
    for _ in range(32):
        rates.append(optimizers.learning_rate(optimizer))
        optimizer.step()
        schedule.step()
    assert rates[:5] == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.1])
    expected = [0.01 + 0.09 * (1 + math.cos(math.pi * step / 28)) / 2 for step in range(28)]
    assert rates[4:] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adam"}, "optimizer must be one of sgd, adamw, got 'adam'"),
        ({"optimizer": "adamw", "momentum": 0.5}, r'momentum = 0\.5 has no effect: it is read with optimizer = "sgd"'),
        ({"betas": (0.8, 0.9)}, 'betas = .* has no effect: it is read with optimizer = "adamw"'),
        ({"optimizer": "adamw", "betas": (0.9,)}, r"betas must be two numbers in \[0, 1\), got \[0\.9\]"),
        ({"layer_decay": 0.0}, r"layer_decay must lie in \(0, 1\], got 0\.0"),
        ({"clip": -1.0}, r"clip must be at least 0, got -1\.0"),
        ({"lr_warmup": 4.0}, "lr_warmup = 4 epochs leave none of 4 at the full rate"),
        ({"schedule": "onecycle", "lr_warmup": 1.0}, "schedule = 'onecycle' warms up by itself"),
        ({"lr_min": 0.01}, r'lr_min = 0\.01 has no effect: it is read with schedule = "cosine"'),
        ({"schedule": "cosine", "lr_min": 0.1}, r"lr_min = 0\.1 must be below lr = 0\.1"),
        ({"init_head": "new", "init": "x"}, "init_head must be one of keep, reset, got 'new'"),
        ({"init_head": "reset"}, "init_head = 'reset' has no effect: it is read with init"),
        ({"crop_scale": (0.1, 1.0)}, "crop_scale = .* has no effect: it is read with random_resized_crop in augment"),
        ({"interpolation": "bicubic"}, "interpolation = 'bicubic' has no effect: it is read with resize or crop"),
        ({"augment": ("random_resized_crop",)}, "random_resized_crop comes first in augment, and needs crop"),
        ({"augment": ("flip", "random_resized_crop"), "crop": 8}, "random_resized_crop comes first in augment"),
        ({"augment": ("random_resized_crop",), "crop": 8, "crop_scale": (0.5, 0.1)}, "crop_scale must be two parts"),
        ({"resize": 8, "crop": 9}, "crop must be at most resize"),
        ({"crop": 8, "interpolation": "cubic"}, "interpolation must be one of"),
    ],
)
def test_keys_that_make_no_sense_are_refused_with_the_fix(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainConfig(**BASE, **changes)


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """30 pictures of several sizes to train on, 6 to test, in 2 classes."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for split, count in (("train", 15), ("test", 3)):
        for k in range(2):
            folder = Path("photos", split, f"class{k}")
            folder.mkdir(parents=True)
            for number in range(count):
                height, width = draw.integers(12, 30, 2)
                pixels = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
                pixels[..., k] //= 4
                Image.fromarray(pixels).save(folder / f"{number}.png")
    Path("photos.toml").write_text(
        'dataset = "photos"\narch = "small"\nobjective = "maxup"\nm = 2\nsigma = 0.25\nepochs = 2\nbatch_size = 10\n'
        'lr = 0.05\nresize = 18\ncrop = 16\naugment = ["random_resized_crop", "flip"]\nworkers = 0\nprobe = 8\n'
    )
    return tmp_path / "photos"


def train(out: str, *changes: str, resume: bool = False) -> tuple[int, str, str]:
    options = [option for change in changes for option in ("--set", change)] + ["--resume"] * resume
    result = CliRunner().invoke(app, ["photos.toml", *options, "--out", out])
    return result.exit_code, str(result.exception) if result.exception else "", result.output


def weights(out: str) -> torch.Tensor:
    return torch.cat([tensor.flatten() for tensor in load_file(Path(out) / "checkpoint.safetensors").values()])


@pytest.mark.usefixtures("photos")
def test_pictures_of_any_size_are_trained_on_the_same_with_any_number_of_workers_and_parts() -> None:
    assert train("a")[:2] == (0, "")
    assert train("b", "workers=2")[:2] == (0, "")
    assert weights("a").equal(weights("b"))
    assert train("c", "accumulate=3")[:2] == (0, "")
    torch.testing.assert_close(weights("c"), weights("a"), atol=1e-6, rtol=0)
    assert train("d", "seed=1")[:2] == (0, "")
    assert not weights("d").equal(weights("a"))
    result = CliRunner().invoke(evaluate.app, ["a"])
    assert "photos, test:" in result.output
    assert "of 6 right" in result.output


@pytest.mark.usefixtures("photos")
def test_a_run_goes_on_with_another_number_of_workers_to_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train("whole", "workers=2")[:2] == (0, "")
    epoch = Trainer.epoch

    def once(trainer: Trainer, *arguments: Any) -> Any:
        if trainer.finished:
            raise RuntimeError("killed")
        return epoch(trainer, *arguments)

    with monkeypatch.context() as changed:
        changed.setattr(Trainer, "epoch", once)
        assert train("cut", "workers=2")[1] == "killed"
    assert "has lr = 0.05, this run 0.1; give another" in train("cut", "workers=0", "lr=0.1", resume=True)[1]
    assert train("cut", "workers=0", resume=True)[:2] == (0, "")
    for name in ("checkpoint.safetensors", "config.toml"):
        assert Path("whole", name).read_bytes() == Path("cut", name).read_bytes()


@pytest.mark.usefixtures("photos")
def test_without_random_crops_the_pictures_are_prepared_once_as_they_are_certified() -> None:
    assert train("a", "augment=[]")[:2] == (0, "")
    how = TrainConfig(**BASE, resize=18, crop=16).preprocessing()
    stored = np.asarray(registry.load("photos", "train", preprocessing=how).images)
    np.savez("same.npz", images=stored.transpose(0, 2, 3, 1), labels=np.arange(30) // 15)
    assert train("b", "augment=[]", "dataset=same.npz", "resize=0", "crop=0")[:2] == (0, "")
    assert weights("a").equal(weights("b"))


def test_files_that_cannot_be_read_are_named_or_passed_over_and_counted(photos: Path) -> None:
    broken = photos / "train" / "class0" / "3.png"
    broken.write_bytes(broken.read_bytes()[:200])
    code, said, _ = train("a")
    assert code != 0
    assert "3.png: not a readable image" in said
    assert not Path("a").exists()
    code, said, shown = train("a", "skip_unreadable=true", "holdout=6")
    assert (code, said) == (0, "")
    assert "1 training images cannot be read and are passed over" in shown


@pytest.mark.parametrize("most", [20_000, 10])
def test_test_images_that_are_trained_on_are_said(photos: Path, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many images on disk files are compared, since decoding takes long: then only copies byte for byte count."""
    monkeypatch.setattr(images, "_MOST_DECODED", most)
    assert "test images are trained on" not in train("a", "epochs=1")[2]
    shutil.copy(photos / "train" / "class1" / "7.png", photos / "test" / "class0" / "1.png")
    (photos / "test" / "class1" / "1.png").unlink()
    (photos / "test" / "class1" / "1.png").symlink_to("nowhere.png")
    said = train("b", "epochs=1", "skip_unreadable=true")[2]
    of = 6 if most < 30 else 5  # those that can be read
    assert f"photos: 1 of {of} test images are trained on, the first is number 1; accuracy on them" in said
    same = Image.open(photos / "train" / "class1" / "7.png")
    same.save(photos / "test" / "class0" / "1.png", compress_level=1)
    assert ("are trained on" in train("c", "epochs=1", "skip_unreadable=true")[2]) == (most > 30)


@pytest.mark.usefixtures("photos")
def test_the_weights_are_measured_beside_their_average() -> None:
    assert train("a", "ema=0.9", "augment=[]")[:2] == (0, "")
    assert train("b", "augment=[]")[:2] == (0, "")
    for out, measured in (("a", True), ("b", False)):
        with (Path(out) / "train.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert all(math.isfinite(float(row["weights_noisy_accuracy"])) == measured for row in rows)


@pytest.mark.usefixtures("photos")
def test_a_table_of_an_older_version_gets_the_columns_that_came_since() -> None:
    assert train("a", "augment=[]", "epochs=2")[:2] == (0, "")
    table = Path("a/train.csv")
    old = [line.rpartition(",")[0] for line in table.read_text().splitlines()]
    table.write_text("\n".join(old) + "\n")
    assert train("a", "augment=[]", "epochs=2", resume=True)[:2] == (0, "")
    assert [line.count(",") for line in table.read_text().splitlines()] == [9, 9, 9]


def test_the_gradient_is_clipped_to_the_norm_that_is_asked_for(photos: Path) -> None:
    small = [
        "augment=[]",
        "epochs=1",
        "batch_size=30",
        "momentum=0.0",
        "weight_decay=0.0",
        "lr=1.0",
        "channels_last=false",
    ]
    assert train("a", *small, "lr=1e-12")[:2] == (0, "")  # the initial weights
    assert train("b", *small, "clip=0.01")[:2] == (0, "")
    assert float((weights("b") - weights("a")).norm()) == pytest.approx(0.01, rel=1e-3)
