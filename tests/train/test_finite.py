"""Weights that stop being finite numbers: the run ends in one line, and the last good files stay."""

import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_language import write
from torch import Tensor, nn

import maxup_smoothing.train.__main__ as training
from maxup_smoothing.data.runtime import console
from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.distributed import World
from maxup_smoothing.train.language import trainer as language
from maxup_smoothing.train.loop import Trainer

COMMAND = ["train", "tiny.toml", "--out", "run"]
IMAGES = """
dataset = "images.npz"
arch = "small"
objective = "gaussian"
sigma = 0.25
epochs = 3
batch_size = 20
lr = 0.01
holdout = 20
validate_every = 1
validate_images = 4
validate_n = 50
ema = 0.9
device = "cpu"
"""
TEXT = """
task = "language"
corpus = "text"
arch = "lstm"
sigma = 0.0
epochs = 3
batch_size = 4
bptt = 5
lr = 0.01
embedding = 6
hidden = 7
device = "cpu"
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 60)
    images = draw.integers(0, 100, (60, 8, 8)) + 60 * labels[:, None, None]
    np.savez("images.npz", images=images.astype(np.uint8), labels=labels)
    write(Path("text"))


def run(*more: str) -> int:
    patched, sys.argv = sys.argv, [*COMMAND, *more]
    try:
        console.run(training.app)
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = patched
    return 0


def files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path("run").iterdir() if path.suffix in (".safetensors", ".pt")}


def spoil(tensor: Tensor, value: float) -> None:
    with torch.no_grad():
        tensor.flatten()[-1] = value


def a_weight(trainer: Any) -> Tensor:
    return next(iter(trainer.model.parameters()))


def an_averaged_weight(trainer: Trainer) -> Tensor:
    assert trainer.average is not None
    return next(trainer.average.parameters())


def a_momentum(trainer: Trainer) -> Tensor:
    found: Tensor = next(iter(trainer.optimizer.state.values()))["momentum_buffer"]
    return found


PARTS = {"weight": a_weight, "average": an_averaged_weight, "momentum": a_momentum}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS.keys())
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_last_good_epoch_stays_where_the_next_ones_last_step_diverges(
    part: Callable[[Trainer], Tensor], value: float, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("tiny.toml").write_text(IMAGES)
    good = dict[str, bytes]()
    average_buffers = World.average_buffers

    def after_the_last_step(world: World, model: nn.Module) -> None:
        average_buffers(world, model)
        trainer = trainers[0]
        if model is trainer.model and trainer.finished == 2:
            good.update(files())
            spoil(part(trainer), value)

    trainers, prepare = list[Trainer](), Trainer.prepare

    def prepared(trainer: Trainer) -> None:
        trainers.append(trainer)
        prepare(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "prepare", prepared)
        patch.setattr(World, "average_buffers", after_the_last_step)
        assert run() == 2
    said = capfd.readouterr().err
    assert "a weight or a statistic is not a finite number in epoch 3; what was saved after epoch 2 stays;" in said
    assert "lower lr (now 0.01)" in said
    assert "Traceback" not in said
    assert files() == good
    assert {"checkpoint.safetensors", "best.safetensors", "state.pt"} == good.keys()
    assert checkpoint.load(Path("run/checkpoint.safetensors")).metadata["epoch"] == 2
    assert run("--resume") == 0
    assert checkpoint.load(Path("run/checkpoint.safetensors")).metadata["epoch"] == 3


@pytest.mark.parametrize(("lr", "what"), [("1e30", "a logit"), ("1e38", "(a weight or a statistic|a logit|the loss)")])
def test_one_step_that_diverges_saves_nothing(lr: str, what: str, capfd: pytest.CaptureFixture[str]) -> None:
    Path("tiny.toml").write_text(IMAGES.replace("ema = 0.9\n", "").replace('"small"', '"lenet"'))
    draw = np.random.default_rng(0)
    np.savez("images.npz", images=draw.integers(0, 256, (60, 28, 28)).astype(np.uint8), labels=np.arange(60) // 6)
    assert run("--set", f"lr={lr}", "--set", "batch_size=60", "--set", "epochs=1") == 2
    said = capfd.readouterr().err
    assert re.search(f"error: {what} is not a finite number in epoch 1; lower lr", said)
    assert not files()


def test_batch_statistics_are_looked_at_too(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("tiny.toml").write_text(IMAGES.replace('"small"', '"resnet20"').replace("epochs = 3", "epochs = 1"))
    np.savez("images.npz", images=np.zeros((60, 32, 32, 3), np.uint8), labels=np.arange(60) // 6)
    average_buffers = World.average_buffers

    def spoiled(world: World, model: nn.Module) -> None:
        average_buffers(world, model)
        for name, buffer in model.named_buffers():
            if name.endswith("running_var"):
                spoil(buffer, math.inf)

    with monkeypatch.context() as patch:
        patch.setattr(World, "average_buffers", spoiled)
        assert run() == 2
    assert not files()


@pytest.mark.parametrize("optimizer", ["adamw", "asgd"])
def test_a_language_model_keeps_its_last_good_epoch(
    optimizer: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("tiny.toml").write_text(f'{TEXT}optimizer = "{optimizer}"\n')
    good, real = dict[str, bytes](), language.Trainer._step

    def step(trainer: language.Trainer, window: slice, state: Any, number: int) -> Any:
        found = real(trainer, window, state, number)
        if trainer.finished == 1 and window.stop == trainer.words_BL.shape[1]:
            good.update(files())
            spoil(a_weight(trainer), math.inf)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(language.Trainer, "_step", step)
        assert run() == 2
    said = capfd.readouterr().err
    assert "a weight is not a finite number in epoch 2; what was saved after epoch 1 stays; lower lr" in said
    assert files() == good
    assert run("--resume") == 0


def test_a_state_that_is_not_finite_is_not_gone_on_with(capfd: pytest.CaptureFixture[str]) -> None:
    Path("tiny.toml").write_text(IMAGES)
    assert run() == 0
    state = torch.load("run/state.pt", weights_only=True)
    spoil(next(iter(state["model"].values())), math.nan)
    torch.save(state, "run/state.pt")
    Path("run/checkpoint.safetensors").unlink()
    assert run("--resume") == 2
    assert "state.pt is damaged or of another version" in capfd.readouterr().err
    assert not Path("run/checkpoint.safetensors").exists()
