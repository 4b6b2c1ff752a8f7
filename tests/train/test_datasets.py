"""What training says of a data set before it begins, and what it refuses."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from maxup_smoothing.data import registry
from maxup_smoothing.train import checkpoint, evaluate
from maxup_smoothing.train.__main__ import app

SAMPLE = registry.load("fashion-sample", "train")
X, Y = SAMPLE.images[:40, 0], SAMPLE.labels[:40]
CONFIG = """
dataset = "{data}"
arch = "lenet"
objective = "gaussian"
sigma = 0.25
epochs = 1
batch_size = 16
lr = 0.01
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def train(data: str, out: str = "run") -> Any:
    Path("base.toml").write_text(CONFIG.format(data=data))
    return CliRunner().invoke(app, ["base.toml", "--out", out])


def save(**arrays: Any) -> None:
    np.savez("data.npz", allow_pickle=False, **arrays)


def save_class(folder: str, label: int, count: int = 4, suffix: str = ".png") -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(SAMPLE.images[SAMPLE.labels == label, 0][:count]):
        Image.fromarray(image).save(f"{folder}/{number}{suffix}", format="JPEG" if suffix == ".jfif" else None)


def test_files_that_are_passed_over_are_said_before_training() -> None:
    for half in ("train", "test"):
        save_class(f"pictures/{half}/a", 0, 2)
        save_class(f"pictures/{half}/b", 1, 2)
    save_class("pictures/train/a/more", 0, 2)
    save_class("pictures/train/a", 0, 2, ".jfif")
    Path("pictures/train/b/x.gif").write_bytes(b"GIF89a")
    result = train("pictures")
    assert result.exit_code == 0
    note = "note: pictures/train: files passed over: 3 (a 2 in folders inside it, b 1 with the ending .gif)."
    assert result.stderr.splitlines()[0] == note
    assert "on pictures: 6 images" in result.stdout  # .jfif is JPEG


def test_labels_that_count_from_1_are_said_before_training() -> None:
    save(images=X, labels=Y + 1)
    result = train("data.npz")
    assert "no image has the label 0, so class 0 of 11 stays empty; if the labels count from 1" in result.stderr
    save(images=X, labels=Y)
    assert "note" not in train("data.npz", "other").stderr


def test_training_and_test_images_have_the_same_number_of_classes() -> None:
    few = Y < 9
    save(x_train=X[few], y_train=Y[few], x_test=X, y_test=Y)
    result = train("data.npz")
    assert "1 of 10 classes have no image: 9" in result.stderr
    assert checkpoint.load(Path("run/checkpoint.safetensors")).architecture.num_classes == 10
    assert CliRunner().invoke(evaluate.app, ["run"]).exit_code == 0


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": X}, "has images without labels, and training needs labels"),
        ({"images": X, "labels": np.full(40, -1)}, "has images without labels, and training needs labels"),
        ({"images": X, "labels": Y.astype(str)}, r"numpy\.unique\(labels, return_inverse=True\)"),
        (
            {"x_train": X, "y_train": Y, "x_test": X[:, 1:], "y_test": Y},
            r"x_train has images of shape \(28, 28\), but x_test of \(27, 28\)",
        ),
    ],
)
def test_a_data_set_that_cannot_be_trained_on_leaves_no_folder(arrays: dict[str, Any], message: str) -> None:
    save(**arrays)
    result = train("data.npz")
    assert isinstance(result.exception, ValueError)
    with pytest.raises(ValueError, match=message):
        raise result.exception
    assert not Path("run").exists()


def test_the_advice_on_names_of_classes_trains_a_network() -> None:
    names, numbers = np.unique(np.array(SAMPLE.classes)[Y], return_inverse=True)
    save(images=X, labels=numbers, classes=names)
    assert train("data.npz").exit_code == 0
    assert checkpoint.load(Path("run/checkpoint.safetensors")).metadata["classes"] == names.tolist()


def test_accuracy_is_measured_on_validation_images_where_there_are_no_test_images() -> None:
    save(x_train=X, y_train=Y, x_val=X[:8], y_val=Y[:8])
    assert train("data.npz").exit_code == 0
    result = CliRunner().invoke(evaluate.app, ["run"])
    assert result.exit_code == 0
    assert "data.npz has no split test; its split val is used instead" in result.stderr
    assert "data.npz, val: " in result.stdout


def test_classes_in_another_order_than_in_training_are_an_error() -> None:
    halves = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}
    save(**halves, classes=np.array(SAMPLE.classes))
    assert train("data.npz").exit_code == 0
    save(**halves, classes=np.array(SAMPLE.classes[::-1]))
    result = CliRunner().invoke(evaluate.app, ["run"])
    assert "was trained with the classes T-shirt/top, Trouser" in str(result.exception)
    assert "number the classes as in training" in str(result.exception)
