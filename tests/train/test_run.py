"""Whole training runs on a few real images: resuming, the run folder, the checkpoint, the command line."""

import csv
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from maxup_smoothing.data import registry
from maxup_smoothing.data.runtime.hardware import cpu_name
from maxup_smoothing.train import checkpoint, models, objectives
from maxup_smoothing.train import optimizer as optimizers
from maxup_smoothing.train.__main__ import app
from maxup_smoothing.train.checkpoint import Architecture
from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.config_file import load
from maxup_smoothing.train.loop import Trainer

SMALL = [
    "--set", "epochs=3", "--set", "batch_size=50", "--set", "probe=100",
]  # fmt: skip


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A few real images as a user's file."""
    sample = registry.load("fashion-sample", "train")
    path = tmp_path / "images.npz"
    np.savez(path, images=sample.images[:240, 0], labels=sample.labels[:240], classes=np.array(sample.classes))
    return path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def trainer(config: TrainConfig, images: Path) -> Trainer:
    dataset = registry.load(str(images), "train")
    torch.manual_seed(config.seed)
    model = models.build(config.arch, dataset.images.shape[1:], dataset.num_classes)
    x, y = torch.from_numpy(dataset.images), torch.from_numpy(dataset.labels)
    return Trainer(model, objectives.build(config), x, y, config)


@pytest.mark.parametrize("config", ["fashion_sample_gaussian", "fashion_sample_maxup"])
def test_a_resumed_run_ends_with_the_same_bits(config: str, images: Path, tmp_path: Path) -> None:
    settings = load(config, [f'dataset="{images}"', "epochs=3", "batch_size=50", "probe=100"])
    straight, resumed = trainer(settings, images), trainer(settings, images)
    for _ in range(3):
        straight.epoch()
    resumed.epoch()
    torch.save(resumed.state(), tmp_path / "state.pt")
    del resumed
    again = trainer(settings, images)
    again.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    for _ in range(2):
        again.epoch()
    for ours, theirs in zip(again.model.state_dict().values(), straight.model.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_run_killed_at_any_epoch_and_resumed_leaves_the_files_of_an_undisturbed_one(
    images: Path, tmp_path: Path
) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    change = ["--set", f"dataset={images}", *SMALL]
    run("fashion_sample_maxup", *change, "--out", str(whole))
    # SIGKILL right after the first line of train.csv, wherever the run is by then.
    process = subprocess.Popen(
        [sys.executable, "-m", "maxup_smoothing.train", "fashion_sample_maxup", *change, "--out", str(cut)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    table = cut / "train.csv"
    while process.poll() is None:
        if table.exists() and table.read_bytes().count(b"\n") > 1:
            process.kill()
        time.sleep(0.01)
    process.wait()
    run("fashion_sample_maxup", *change, "--out", str(cut), "--resume")
    assert checkpoint.load(cut / "checkpoint.safetensors").metadata["epoch"] == 3
    assert (cut / "checkpoint.safetensors").read_bytes() == (whole / "checkpoint.safetensors").read_bytes()
    timeless = [
        [
            {name: value for name, value in row.items() if "second" not in name}
            for row in csv.DictReader((folder / "train.csv").read_text().splitlines())
        ]
        for folder in (whole, cut)
    ]
    assert timeless[0] == timeless[1]
    assert [row["epoch"] for row in timeless[0]] == ["1", "2", "3"]


def test_the_run_folder_repeats_the_run(images: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    run("fashion_sample_gaussian", "--set", f"dataset={images}", *SMALL, "--out", str(first))
    run(str(first / "config.toml"), "--out", str(second))
    assert (first / "checkpoint.safetensors").read_bytes() == (second / "checkpoint.safetensors").read_bytes()
    environment = json.loads((first / "environment.json").read_text())
    assert environment["torch"] == torch.__version__
    assert environment["device"] == cpu_name() != ""


def test_a_run_does_not_go_on_with_other_images_or_a_damaged_state(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = ["fashion_sample_gaussian", "--set", f"dataset={images}", *SMALL, "--out", str(out), "--resume"]
    run(*arguments)
    whole = (out / "state.pt").read_bytes()
    torch.save({"data": registry.load(str(images), "train").fingerprint}, out / "state.pt")
    with pytest.raises(ValueError, match=r"state\.pt is damaged or of another version; delete it"):
        run(*arguments)
    (out / "state.pt").write_bytes(whole)
    with np.load(images) as old:
        np.savez(images, images=old["images"] // 2, labels=old["labels"], classes=old["classes"])
    with pytest.raises(ValueError, match="the images are not those of the run"):
        run(*arguments)


def test_resuming_a_finished_run_changes_nothing(images: Path, tmp_path: Path) -> None:
    arguments = ["fashion_sample_gaussian", "--set", f"dataset={images}", *SMALL, "--out", str(tmp_path / "run")]
    run(*arguments, "--resume")
    environment = tmp_path / "run" / "environment.json"
    environment.write_text('{"device": "the one it was trained on"}')
    before = {file: file.read_bytes() for file in (tmp_path / "run").iterdir()}
    assert "is finished" in run(*arguments, "--resume")
    assert {file: file.read_bytes() for file in (tmp_path / "run").iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "already holds a run; pass --resume to go on with it, or another --out"),
        (["--resume", "--set", "lr=0.5"], r"has lr = 0\.1, this run 0\.5; give another --out"),
    ],
)
def test_a_run_is_not_overwritten(arguments: list[str], message: str, images: Path, tmp_path: Path) -> None:
    common = ["fashion_sample_gaussian", "--set", f"dataset={images}", *SMALL, "--out", str(tmp_path / "run")]
    run(*common)
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(ValueError, match=message):
        run(*common, *arguments)
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_a_users_mistake_is_one_line_and_status_2(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "maxup_smoothing.train",
        "mnist_maxup",
        "--set",
        "objectiv=x",
        "--out",
        str(tmp_path / "run"),
    ]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "unknown key 'objectiv'; did you mean 'objective'?" in result.stderr
    assert not (tmp_path / "run").exists()


def test_training_lowers_the_loss_and_maxup_has_a_gap(images: Path) -> None:
    change = [f'dataset="{images}"', "epochs=4", "batch_size=40", "lr=0.05", "probe=240", "sigma=0.25"]
    gaussian, maxup = (trainer(load(f"fashion_sample_{o}", change), images) for o in ("gaussian", "maxup"))
    plain, worst = ([t.epoch() for _ in range(4)] for t in (gaussian, maxup))
    assert plain[-1].loss < plain[0].loss
    assert plain[-1].noisy_accuracy > 0.3
    assert all(line.gap == 0 for line in plain)
    for line in worst:
        assert line.gap > 0
        # In float32 the gradient pass repeats the selection's numbers to rounding.
        assert line.loss == pytest.approx(line.mean_loss + line.gap, rel=1e-4)


def test_a_diverging_run_stops_with_the_fix(images: Path) -> None:
    t = trainer(load("fashion_sample_gaussian", [f'dataset="{images}"', "lr=1e30", "schedule=constant"]), images)
    with pytest.raises(ValueError, match="the loss is not a finite number in epoch 1; lower lr"):
        t.epoch()


def test_held_out_images_are_not_trained_on(images: Path) -> None:
    t = trainer(load("fashion_sample_gaussian", [f'dataset="{images}"', "holdout=40"]), images)
    everything = registry.load(str(images), "train").images
    held = np.arange(40) * 6
    assert torch.equal(t.images, torch.from_numpy(np.delete(everything, held, axis=0)))
    assert torch.equal(t.probe_images, torch.from_numpy(everything[held]))
    with pytest.raises(ValueError, match="holdout = 240 leaves none of the 240 images"):
        trainer(load("fashion_sample_gaussian", [f'dataset="{images}"', "holdout=240"]), images)


def test_of_images_that_lie_class_by_class_every_class_is_trained_held_out_and_probed(tmp_path: Path) -> None:
    path = tmp_path / "sorted.npz"
    np.savez(path, images=np.zeros((300, 28, 28), np.uint8), labels=np.repeat(np.arange(10), 30),
             classes=np.array(list("abcdefghij")))  # fmt: skip
    t = trainer(load("fashion_sample_gaussian", [f'dataset="{path}"', "holdout=60"]), path)
    assert t.labels.bincount().tolist() == [24] * 10
    assert t.probe_labels.bincount().tolist() == [6] * 10
    t = trainer(load("fashion_sample_gaussian", [f'dataset="{path}"', "probe=50"]), path)
    assert t.probe_labels.bincount().tolist() == [5] * 10


def test_one_class_alone_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "one.npz"
    np.savez(path, images=np.zeros((30, 28, 28), np.uint8), labels=np.zeros(30, np.int64), classes=np.array(["a"]))
    result = CliRunner().invoke(app, ["fashion_sample_gaussian", "--set", f"dataset={path}", "--out", str(tmp_path)])
    assert "has one class, so there is nothing to tell apart" in str(result.exception)


def test_schedules_have_their_shapes() -> None:
    def rates(schedule: str) -> list[float]:
        config = load("mnist_gaussian", [f"schedule={schedule}", "epochs=4", "step_epochs=2", "lr=1.0"])
        optimizer, scheduler = optimizers.build(torch.nn.Linear(1, 1), config, steps_per_epoch=5)
        seen = []
        for _ in range(20):
            seen.append(optimizers.learning_rate(optimizer))
            optimizer.step()
            scheduler.step()
        return seen

    assert rates("constant") == [1.0] * 20
    assert rates("step") == pytest.approx([1.0] * 10 + [0.1] * 10)
    cosine = [0.5 * (1 + np.cos(np.pi * step / 20)) for step in range(20)]
    assert rates("cosine") == pytest.approx(cosine)
    cycle = rates("onecycle")
    assert max(cycle) == pytest.approx(1.0, abs=0.02)
    assert cycle.index(max(cycle)) == 6
    assert cycle[-1] < 0.02


def test_checkpoints_return_the_model_and_what_it_is(tmp_path: Path) -> None:
    architecture = Architecture(arch="resnet20", image_shape=(3, 32, 32), num_classes=4, options={"shortcut": "pad"})
    model = architecture.build((0.1, 0.2, 0.3), (0.5, 0.5, 0.5))
    checkpoint.save(tmp_path / "a.safetensors", model, architecture, {"config": {"sigma": 0.5}})
    loaded = checkpoint.load(tmp_path / "a.safetensors")
    assert loaded.architecture == architecture
    assert loaded.metadata["config"]["sigma"] == 0.5
    assert not loaded.model.training
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded.model(x), model.eval()(x))


def test_damaged_and_foreign_checkpoints_are_refused(tmp_path: Path) -> None:
    architecture = Architecture(arch="lenet", image_shape=(1, 28, 28), num_classes=10, options={})
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, architecture.build(), architecture, {})
    whole = path.read_bytes()
    for size in (0, 7, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="not a readable safetensors file"):
            checkpoint.load(path)
    from safetensors.torch import save_file

    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(ValueError, match="does not say of what model"):
        checkpoint.load(path)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        checkpoint.load(tmp_path / "b.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["tensorboard=true"], "needs TensorBoard"),
        (["holdout=240"], "leaves none of the 240 images"),
        (["objective=catrs", "m=2", "teacher=nowhere"], "no checkpoint at"),
        (["arch=resnet20"], "resnet20 takes 32x32 images"),
    ],
)
def test_a_run_that_cannot_begin_leaves_no_folder(
    changes: list[str], message: str, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    options = [part for change in [f"dataset={images}", *changes] for part in ("--set", change)]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run("fashion_sample_gaussian", *options, "--out", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
