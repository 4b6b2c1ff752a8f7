"""What the loop offers every objective: moving average, smoothed labels, compilation, held-out certification."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from typer.testing import CliRunner

from maxup_smoothing.certify import validation
from maxup_smoothing.certify.smoothing import SmoothedClassifier
from maxup_smoothing.data import registry
from maxup_smoothing.train import checkpoint, models, objectives
from maxup_smoothing.train.__main__ import app
from maxup_smoothing.train.config_file import load
from maxup_smoothing.train.loop import Epoch, Trainer
from maxup_smoothing.train.run_folder import Board
from maxup_smoothing.train.step import Step


@pytest.fixture
def images(tmp_path: Path) -> Path:
    sample = registry.load("fashion-sample", "train")
    path = tmp_path / "images.npz"
    np.savez(path, images=sample.images[:160, 0], labels=sample.labels[:160], classes=np.array(sample.classes))
    return path


def trainer(images: Path, *changes: str) -> Trainer:
    settings = [f"dataset={images}", "epochs=2", "batch_size=40", "probe=40", "lr=0.05", *changes]
    config = load("fashion_sample_gaussian", settings)
    dataset = registry.load(str(images), "train")
    torch.manual_seed(config.seed)
    model = models.build(config.arch, dataset.images.shape[1:], dataset.num_classes)
    x, y = torch.from_numpy(dataset.images), torch.from_numpy(dataset.labels)
    return Trainer(model, objectives.build(config), x, y, config)


def run(out: Path, images: Path, *changes: str) -> str:
    settings = [f"dataset={images}", "epochs=2", "batch_size=40", "probe=40", "lr=0.05", *changes]
    options = [part for change in settings for part in ("--set", change)]
    result = CliRunner().invoke(
        app, ["fashion_sample_gaussian", *options, "--out", str(out), "--resume"], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.output


def test_the_moving_average_is_the_recursion_over_the_steps(images: Path) -> None:
    plain, averaged = trainer(images), trainer(images, "ema=0.75")
    seen: list[dict[str, torch.Tensor]] = []
    plain.optimizer.register_step_post_hook(
        lambda *_: seen.append({name: value.clone() for name, value in plain.model.state_dict().items()})
    )
    plain.epoch()
    averaged.epoch()
    expected = seen[0]
    for weights in seen[1:]:
        expected = {name: 0.75 * expected[name] + 0.25 * weights[name] for name in expected}
    for name, value in averaged.result.state_dict().items():
        torch.testing.assert_close(value, expected[name])
    for ours, theirs in zip(averaged.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(ours, theirs), "the average does not disturb the training"


def test_the_average_is_what_is_saved_and_a_resumed_run_goes_on_with_it(images: Path, tmp_path: Path) -> None:
    straight = trainer(images, "ema=0.9")
    for _ in range(2):
        straight.epoch()
    first = trainer(images, "ema=0.9")
    first.epoch()
    torch.save(first.state(), tmp_path / "state.pt")
    again = trainer(images, "ema=0.9")
    again.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    again.epoch()
    run(tmp_path / "run", images, "ema=0.9")
    saved = checkpoint.load(tmp_path / "run" / "checkpoint.safetensors").model.state_dict()
    for name, value in straight.result.state_dict().items():
        assert torch.equal(again.result.state_dict()[name], value)
        assert torch.equal(saved[name], value)
    assert not torch.equal(straight.model.state_dict()["backbone.fc2.bias"], saved["backbone.fc2.bias"])


def test_labels_are_smoothed_in_the_loss(images: Path) -> None:
    t = trainer(images, "label_smoothing=0.2", "sigma=0")
    x, y = torch.rand(4, 1, 28, 28), torch.tensor([1, 2, 3, 4])
    target = 0.8 * F.one_hot(y, 10) + 0.2 / 10
    expected = -(target * t.model(x).log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(t.objective(t.model, x, y, Step(0)).loss, expected)


def test_compiled_models_train_to_the_same_weights(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Without the code generator: what the compiler makes of selection, modes and gradients is tested here.
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: compiler(model, backend="aot_eager"))
    changes = ["objective=maxup", "m=3", "selection=eval"]
    plain, compiled = trainer(images, *changes), trainer(images, *changes, "compile=true")
    assert compiled.passed is not compiled.model
    for _ in range(2):
        plain.epoch()
        compiled.epoch()
    for name, value in plain.model.state_dict().items():
        torch.testing.assert_close(compiled.model.state_dict()[name], value, rtol=1e-4, atol=1e-6)


def test_held_out_images_are_certified_and_the_best_epoch_is_kept(images: Path, tmp_path: Path) -> None:
    settings = ["holdout=40", "validate_every=2", "validate_images=20", "validate_n=200", "epochs=5"]
    printed = run(tmp_path / "run", images, *settings)
    assert printed.count("validation ACR") == 3
    rows = [line.split(",") for line in (tmp_path / "run" / "train.csv").read_text().splitlines()]
    column = rows[0].index("validation_acr")
    found = [float(row[column]) for row in rows[1:]]
    assert [math.isnan(value) for value in found] == [True, False, True, False, False]
    best = checkpoint.load(tmp_path / "run" / "best.safetensors")
    measured = {epoch: value for epoch, value in enumerate(found, 1) if not math.isnan(value)}
    assert measured[best.metadata["epoch"]] == max(measured.values())
    # The number is what a user who certifies the same images gets.
    held_out = registry.load(str(images), "train")
    picked = np.arange(20) * 8  # every second of the 40 held out of 160, which are every fourth
    certifier = validation.certifier(
        held_out.images[picked], held_out.labels[picked], num_classes=10, sigma=0.5, n=200, seed=0
    )
    assert certifier(best.model) == pytest.approx(max(measured.values()), rel=1e-5)


def test_the_validation_radius_is_the_certified_one_rounded_down_to_the_grid() -> None:
    """A classifier by the first pixel: margin 0.45 and 0.1, both right; and one image of the wrong class."""

    class Half(torch.nn.Module):
        def forward(self, x_BCHW: torch.Tensor) -> torch.Tensor:
            first_B = x_BCHW[:, 0, 0, 0]
            return torch.stack([0.5 - first_B, first_B - 0.5], dim=1)

    images = np.zeros((3, 1, 1, 1), dtype=np.uint8)
    images[:, 0, 0, 0] = (242, 153, 242)
    certifier = validation.certifier(images, [1, 1, 0], num_classes=2, sigma=0.25, n=4000, seed=1)
    certificates = SmoothedClassifier(Half().eval(), 2, 0.25, seed=1).certify(images, n=4000)
    assert 0.375 < certificates[0].radius < 0.45
    # 0.45 = 1.8 sigma, of which 4,000 samples prove 1.5 sigma and not 1.75 sigma; 0.1 = 0.4 sigma, of which 0.25 sigma.
    assert certifier(Half().eval()) == pytest.approx((1.5 * 0.25 + 0.25 * 0.25 + 0) / 3)
    with pytest.raises(ValueError, match="raise validate_n"):
        validation.certifier(images, [1, 1, 0], num_classes=2, sigma=0.25, n=12, seed=1)


def test_tensorboard_is_an_extra_and_its_absence_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = Epoch(
        epoch=1, lr=0.1, loss=2.0, mean_loss=2.0, gap=0.0, noisy_accuracy=0.5, validation_acr=math.nan,
        images_per_second=1.0, seconds=1.0,
    )  # fmt: skip
    written: list[tuple[object, ...]] = []

    class Writer:
        def __init__(self, folder: str, purge_step: int) -> None:
            written.append((folder, purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def flush(self) -> None: ...

    module = type(torch)("torch.utils.tensorboard")
    module.SummaryWriter = Writer  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", module)
    Board(tmp_path, finished=3).record(line)
    assert written[0] == (str(tmp_path), 4)
    assert ("loss", 2.0, 1) in written
    assert not any(entry[0] == "validation_acr" for entry in written)
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"pip install 'maxup-smoothing\[tensorboard\]'"):
        Board(tmp_path, finished=0)


def test_best_weights_are_those_of_their_epoch(images: Path, tmp_path: Path) -> None:
    settings = ["holdout=40", "validate_every=1", "validate_images=10", "validate_n=100", "epochs=1"]
    run(tmp_path / "run", images, *settings)
    last, best = (load_file(tmp_path / "run" / f"{name}.safetensors") for name in ("checkpoint", "best"))
    assert all(torch.equal(last[name], best[name]) for name in last)


def test_the_first_of_equally_good_epochs_is_the_best(images: Path) -> None:
    t = trainer(images, "holdout=40", "validate_every=1", "epochs=3")
    found = iter([0.5, 0.5, 0.7])
    t.validate = lambda model: next(found)
    improved = []
    for _ in range(3):
        t.epoch()
        improved.append(t.improved)
    assert improved == [True, False, True]
    assert t.best == 0.7


def test_a_run_does_not_go_on_with_another_teacher(images: Path, tmp_path: Path) -> None:
    run(tmp_path / "teacher", images)
    settings = ["objective=catrs", "m=2", "steps=1", f"teacher={tmp_path / 'teacher'}", "teacher_n=3"]
    run(tmp_path / "run", images, *settings)
    run(tmp_path / "run", images, *settings)
    run(tmp_path / "other", images, "seed=5")
    (tmp_path / "teacher" / "checkpoint.safetensors").write_bytes(
        (tmp_path / "other" / "checkpoint.safetensors").read_bytes()
    )
    with pytest.raises(ValueError, match=r"the teacher .* has changed since the run began; give another --out"):
        run(tmp_path / "run", images, *settings)
