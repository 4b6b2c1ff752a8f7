"""Several processes, and steps in parts: the same training as one process that takes each batch whole."""

import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from maxup_smoothing.data import registry
from maxup_smoothing.train import checkpoint, models, objectives
from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.config_file import load
from maxup_smoothing.train.distributed import World, join
from maxup_smoothing.train.loop import Trainer
from maxup_smoothing.train.step import Step

# 130 images in batches of 32: the last batch has two images, one a process.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
ROUNDING = 1e-4  # of weights after ten steps; see the test of what noise by rank alone would do
CHANGES = ["epochs=2", "batch_size=32", "probe=60", "lr=0.05", "augment=['crop', 'flip']"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    sample = registry.load("fashion-sample", "train")
    path = tmp_path / "images.npz"
    np.savez(path, images=sample.images[:130, 0], labels=sample.labels[:130], classes=np.array(sample.classes))
    return path


def weights(path: Path) -> dict[str, Tensor]:
    return dict(checkpoint.load(path / "checkpoint.safetensors").model.state_dict())


def far_apart(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest difference of two weights."""
    return max(float((ours[name] - theirs[name]).abs().max()) for name in theirs)


def command(images: Path, out: Path, *changes: str, processes: int = 1) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    settings = [f"dataset={images}", *CHANGES, *changes]
    return [
        sys.executable, *(launcher if processes > 1 else []), "-m", "maxup_smoothing.train", "fashion_sample_gaussian",
        "--out", str(out), "--resume", *(part for change in settings for part in ("--set", change)),
    ]  # fmt: skip


def train(images: Path, out: Path, *changes: str, processes: int = 1) -> str:
    arguments = command(images, out, *changes, processes=processes)
    result = subprocess.run(arguments, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert result.returncode == 0, result.stderr
    return result.stdout


def lines(folder: Path) -> list[dict[str, float]]:
    rows = csv.DictReader((folder / "train.csv").read_text().splitlines())
    return [{name: float(value) for name, value in row.items() if "second" not in name} for row in rows]


@pytest.mark.parametrize(
    "changes",
    [["objective=maxup", "m=4"], ["objective=consistency", "m=2", "worst_of=3", "selection=eval", "ema=0.9"]],
)
def test_two_processes_train_to_the_weights_of_one(changes: list[str], images: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    train(images, one, *changes)
    printed = train(images, two, *changes, processes=2)
    assert printed.count("epoch   2/2") == 1, "one process speaks"
    assert json.loads((two / "environment.json").read_text())["processes"] == 2
    assert far_apart(weights(two), weights(one)) < ROUNDING
    for ours, theirs in zip(lines(two), lines(one), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-3, nan_ok=True)


def test_a_killed_run_of_two_processes_goes_on_to_the_same_bits(images: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(images, whole, processes=2)
    process = subprocess.Popen(
        command(images, cut, processes=2), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
    )  # fmt: skip
    table = cut / "train.csv"
    while process.poll() is None:
        if table.exists() and table.read_bytes().count(b"\n") > 1:
            process.terminate()  # torchrun stops its processes, wherever they are by then
        time.sleep(0.01)
    process.wait()
    train(images, cut, processes=2)
    assert (cut / "checkpoint.safetensors").read_bytes() == (whole / "checkpoint.safetensors").read_bytes()


def trainer(images: Path, *changes: str, world: World | None = None) -> Trainer:
    config: TrainConfig = load("fashion_sample_maxup", [f"dataset={images}", *CHANGES, "m=3", *changes])
    dataset = registry.load(str(images), "train")
    torch.manual_seed(0)
    model = models.build(config.arch, dataset.images.shape[1:], dataset.num_classes)
    x, y = torch.from_numpy(dataset.images), torch.from_numpy(dataset.labels)
    return Trainer(model, objectives.build(config), x, y, config, world)


def test_accumulated_parts_are_the_step_of_the_whole_batch(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, cut = trainer(images), trainer(images, "accumulate=5")
    pairs = [(whole.epoch(), cut.epoch()) for _ in range(2)]
    assert far_apart(cut.model.state_dict(), whole.model.state_dict()) < ROUNDING
    for first, second in pairs:
        assert second.loss == pytest.approx(first.loss, rel=1e-4)
        assert second.gap == pytest.approx(first.gap, rel=1e-3)
    # Were the noise drawn for the rows of a part alone, the weights would be these:
    monkeypatch.setattr(Step, "of_rows", lambda self, perturb: perturb)
    wrong = trainer(images, "accumulate=5")
    for _ in range(2):
        wrong.epoch()
    assert far_apart(wrong.model.state_dict(), whole.model.state_dict()) > 20 * ROUNDING


SCRIPT = """
import os, torch, torch.distributed as dist
from maxup_smoothing.train import models, objectives
from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.distributed import World, join
from maxup_smoothing.train.loop import Trainer

config = TrainConfig(
    dataset="x", arch="resnet20", objective="gaussian", sigma=0.5, epochs=1, batch_size=8, lr=0.1, ema=0.5
)
torch.manual_seed(0)
model = models.build("resnet20", (3, 32, 32), 10)
images = torch.randint(0, 256, (16, 3, 32, 32), dtype=torch.uint8)
average, before = World.average_buffers, []

def watched(world, model):
    before.append([buffer.clone() for buffer in model.buffers() if buffer.is_floating_point()])
    average(world, model)

World.average_buffers = watched
with join("cpu") as world:
    trainer = Trainer(model, objectives.build(config), images, torch.arange(16) % 10, config, world)
    trainer.epoch()
    apart = False
    for kept, own in zip((trainer.model, trainer.average), before, strict=True):
        after = [buffer for buffer in kept.buffers() if buffer.is_floating_point()]
        for value, mine in zip(after, own, strict=True):
            both = [torch.empty_like(mine) for _ in range(2)]
            dist.all_gather(both, mine)
            apart = apart or not torch.equal(*both)
            assert torch.allclose(value, (both[0] + both[1]) / 2)
    assert apart, "each process has seen other rows"
threads = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
assert not any("gloo" in name for name in threads), "one that still runs can abort the process at its end"
"""


def test_running_statistics_of_model_and_average_become_those_of_all_processes(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "script.py"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=ENVIRONMENT,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def test_each_process_has_its_rows_and_together_they_have_all(images: Path) -> None:
    shares = [trainer(images, "accumulate=3", world=World(rank, 4))._rows(32) for rank in range(4)]
    assert [row for rows in shares for part in rows for row in range(part.first, part.stop)] == list(range(32))
    assert [len(rows) for rows in shares] == [3, 3, 3, 3]
    few = [trainer(images, "accumulate=3", world=World(rank, 4))._rows(6) for rank in range(4)]
    assert [len(rows) for rows in few] == [1, 1, 1, 1], "as many passes everywhere: they may be collective"
    assert [row for rows in few for part in rows for row in range(part.first, part.stop)] == list(range(6))
    fewer = [trainer(images, "accumulate=3", world=World(rank, 4))._rows(2) for rank in range(4)]
    assert sum(len(rows) for rows in fewer) == 2, "empty parts are not passed"


def test_a_last_batch_too_small_for_shared_statistics_is_refused(images: Path) -> None:
    t = trainer(images)
    model = torch.nn.Sequential(t.model, torch.nn.SyncBatchNorm(10))
    config = load("fashion_sample_maxup", [f"dataset={images}", *CHANGES, "m=3"])
    with pytest.raises(ValueError, match="the last batch of an epoch has 2 of 130 images, too few for 4 processes"):
        Trainer(model, t.objective, t.images, t.labels, config, World(0, 4))


def test_without_torchrun_the_world_is_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with join("cpu") as world:
        assert (world.rank, world.size, world.first) == (0, 1, True)
        assert world.of_first(lambda: 7) == 7


def test_more_processes_than_devices_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"LOCAL_RANK": "64", "RANK": "64", "WORLD_SIZE": "65"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match="torchrun started process 64 of this machine, which has"), join("cuda"):
        pass
