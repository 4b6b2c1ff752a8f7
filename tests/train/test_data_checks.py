"""The data of a run, checked as a whole before it begins: both halves, all classes, and what is measured on."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from typer.testing import CliRunner

from maxup_smoothing.certify.commands import app as cli
from maxup_smoothing.data import registry
from maxup_smoothing.data.subset import spread
from maxup_smoothing.train.__main__ import app
from maxup_smoothing.train.loop import Trainer

TOML = """
dataset = "images.npz"
arch = "lenet"
objective = "gaussian"
sigma = 0.25
epochs = 1
batch_size = 20
lr = 0.01
device = "cpu"
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.toml").write_text(TOML)


def pictures(count: int, seed: int = 0, channels: int = 1, side: int = 28) -> NDArray[np.uint8]:
    shape = (count, side, side) if channels == 1 else (count, side, side, channels)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def halves(y_train: Any, y_test: Any, x_test: NDArray[np.uint8] | None = None, **more: Any) -> None:
    x_train, default = pictures(len(y_train)), pictures(len(y_test), 1)
    np.savez("images.npz", x_train=x_train, y_train=y_train, x_test=default if x_test is None else x_test,
             y_test=y_test, **more)  # fmt: skip


def run(*changes: str, out: str = "run", resume: bool = False) -> str:
    options = [part for change in changes for part in ("--set", change)]
    more = ["--resume"] if resume else []
    result = CliRunner().invoke(app, ["c.toml", *options, "--out", out, *more], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stderr


def refused(message: str, *changes: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(*changes)
    assert not Path("run").exists()


EVEN = np.arange(40) % 4


def test_classes_of_both_halves_are_counted_and_one_without_training_images_is_said() -> None:
    halves(EVEN[EVEN < 3], EVEN)
    assert "warning: images.npz: no training image is of class 3 of 4, of which there are 10 test images;" in run()
    result = CliRunner().invoke(cli.app, ["run", "run", "--n", "50", "--limit", "4"], catch_exceptions=False)
    assert result.exit_code == 0
    halves(EVEN[EVEN < 3], EVEN[EVEN < 3])
    assert run(out="left out") == "\n"
    halves(EVEN[EVEN < 3], EVEN, classes=np.array(list("abcd")))
    said = run(out="named")
    assert "warning: images.npz: no training image is of class 3 (d) of 4, of which there are 10 test images;" in said
    result = CliRunner().invoke(cli.app, ["run", "named", "--n", "50", "--limit", "4"], catch_exceptions=False)
    assert result.exit_code == 0


@pytest.mark.parametrize(("channels", "side", "shown"), [(3, 28, r"\(28, 28, 3\)"), (1, 32, r"\(32, 32\)")])
def test_halves_of_different_shapes_are_refused(channels: int, side: int, shown: str) -> None:
    halves(EVEN, EVEN, pictures(40, 1, channels, side))
    refused(rf"images\.npz: x_train has images of shape \(28, 28\), but x_test of {shown}; bring them to one size")


@pytest.mark.parametrize("labels", [EVEN - 1, EVEN + 0.5, EVEN[:, None], EVEN[:30]], ids=["-1", "1.5", "column", "few"])
@pytest.mark.parametrize("half", ["train", "test"])
def test_labels_that_are_none_are_refused_in_either_half(half: str, labels: Any) -> None:
    arrays: dict[str, Any] = {"x_train": pictures(40), "x_test": pictures(40, 1), "y_train": EVEN, "y_test": EVEN}
    np.savez("images.npz", **{**arrays, f"y_{half}": labels})
    refused(rf"images\.npz \(x_{half}, y_{half}\): ")


def test_training_needs_labels_and_a_test_half_needs_none() -> None:
    np.savez("images.npz", x_train=pictures(4), x_test=pictures(40), y_test=EVEN)
    refused("images without labels, and training needs labels")
    np.savez("images.npz", x_train=pictures(40), y_train=EVEN, x_test=pictures(4, 1))
    assert run(out="unlabelled test") == "\n"
    np.savez("images.npz", x_train=pictures(40), y_train=EVEN)
    assert run() == "\n"


def folders(**modes: str) -> None:
    for half, mode in modes.items():
        for name in "ab":
            Path("pictures", half, name).mkdir(parents=True)
            for number in range(4):
                pixels = pictures(1, 100 * len(half) + number + ord(name))[0]
                Image.fromarray(pixels).convert(mode).save(Path("pictures", half, name, f"{number}.png"))


def test_the_halves_of_a_folder_are_compared_too() -> None:
    folders(train="L", test="RGB")
    refused("the images of train are gray, but pictures/test/a/0.png has colours", "dataset=pictures")


def test_a_folder_without_a_test_half_is_trained_on() -> None:
    folders(train="L")
    Path("pictures/test").mkdir()
    assert run("dataset=pictures") == "\n"


def test_a_class_without_images_is_said() -> None:
    np.savez("images.npz", images=pictures(40), labels=EVEN + 1)
    said = run()
    assert (
        "warning: images.npz: no training image is of class 0 of 5; the network will have 5 classes all the same"
        in said
    )
    assert "if labels are counted from 1, save labels - 1." in said
    np.savez("images.npz", images=pictures(40), labels=EVEN + 1 - 1)
    assert run(out="mended") == "\n"
    np.savez("images.npz", images=pictures(40), labels=3 * EVEN)
    assert "no training image is of classes 1, 2, 4, 5, 7 and 1 more of 10;" in run(out="gaps")


def test_a_holdout_that_takes_a_class_whole_is_said() -> None:
    np.savez("images.npz", images=pictures(40), labels=EVEN)
    assert run("holdout=36", "batch_size=2") == "\n"
    assert "warning: holdout = 38 leaves no training image of classes" in run("holdout=38", "batch_size=2", out="two")


def labels_of(held: Any) -> list[int]:
    return np.bincount(held.probe_labels.numpy(), minlength=10).tolist()


def trainers(monkeypatch: pytest.MonkeyPatch) -> list[Trainer]:
    made, init = list[Trainer](), Trainer.__init__

    def recorded(trainer: Trainer, *arguments: Any, **named: Any) -> None:
        init(trainer, *arguments, **named)
        made.append(trainer)

    monkeypatch.setattr(Trainer, "__init__", recorded)
    return made


def test_labels_in_cycles_are_held_out_validated_and_probed_in_all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    made = trainers(monkeypatch)
    np.savez("images.npz", images=pictures(200), labels=np.arange(200) % 10)
    validated = list[NDArray[np.int64]]()

    def certifier(images: Any, labels: NDArray[np.int64], **_: Any) -> None:
        validated.append(labels)

    monkeypatch.setattr("maxup_smoothing.certify.validation.certifier", certifier)
    monkeypatch.setattr(Trainer, "_validation_acr", lambda _: 0.0)
    run("holdout=40", "validate_every=1", "validate_images=20")
    run("probe=20", out="probed")
    assert [labels_of(trainer) for trainer in made] == [[4] * 10, [2] * 10]
    assert np.bincount(validated[0]).tolist() == [2] * 10


def test_a_run_that_an_older_version_has_begun_goes_on_with_its_held_out_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = trainers(monkeypatch)
    np.savez("images.npz", images=pictures(200), labels=np.arange(200) % 10)
    run("holdout=20")
    state = torch.load("run/state.pt", weights_only=True)
    assert state.pop("choice")
    torch.save(state, "run/state.pt")
    # The images of the older choice are all of class 0; the state says so for good.
    run("holdout=20", resume=True)
    assert labels_of(made[-1]) == [20] + [0] * 9
    dataset = registry.load("images.npz", "train")
    assert torch.equal(made[-1].probe_images, torch.from_numpy(dataset.images[spread(200, 20)]))
    assert "choice" not in made[-1].state()
    state["finished"] = 0
    torch.save(state, "run/state.pt")
    run("holdout=20", resume=True)
    assert "choice" not in torch.load("run/state.pt", weights_only=True)
    assert labels_of(made[0]) == [2] * 10


def test_a_run_that_has_begun_is_not_checked_again() -> None:
    np.savez("images.npz", images=pictures(40), labels=EVEN + 1)
    assert re.search("no training image is of class 0", run())
    assert run(resume=True) == "\n"
