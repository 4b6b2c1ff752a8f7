"""One run folder, several processes: whoever prepares, trains or tests in it keeps the others out."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_language import write

import maxup_smoothing.train.__main__ as training
from maxup_smoothing.data.runtime import console
from maxup_smoothing.train import config_file, evaluate
from maxup_smoothing.train.language import model, session
from maxup_smoothing.train.loop import Trainer
from maxup_smoothing.train.run_folder import RunFolder

IMAGES = """
dataset = "images.npz"
arch = "small"
objective = "gaussian"
sigma = 0.25
epochs = 1
batch_size = 20
lr = 0.01
device = "cpu"
"""
TEXT = """
task = "language"
corpus = "text"
arch = "lstm"
sigma = 0.0
epochs = 1
batch_size = 4
bptt = 5
lr = 0.01
embedding = 6
hidden = 7
device = "cpu"
"""
IN_USE = "run is being trained in by another process; wait for it or "


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images, labels = np.random.default_rng(0).integers(0, 256, (60, 8, 8)).astype(np.uint8), np.arange(60) * 3 // 60
    np.savez("images.npz", x_train=images[::2], y_train=labels[::2], x_test=images[1::2], y_test=labels[1::2])
    write(Path("text"))
    Path("images.toml").write_text(IMAGES)
    Path("text.toml").write_text(TEXT)


def command(*arguments: str, app: Callable[[], object] = training.app) -> int:
    before, sys.argv = sys.argv, ["train", *arguments]
    try:
        console.run(app)
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0


def meanwhile(*arguments: str) -> tuple[int, str]:
    """The exit status of a second process, and what it says of errors."""
    result = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, check=False)
    return result.returncode, result.stderr


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_a_second_run_is_refused_while_the_first_one_prepares(
    resume: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    second = list[tuple[int, str]]()

    def prepare(trainer: Trainer) -> None:
        if not second:
            second.append(meanwhile("train", "images.toml", "--set", "epochs=2", "--out", "run", *resume))

    monkeypatch.setattr(Trainer, "prepare", prepare)
    assert command("images.toml", "--out", "run") == 0
    ((status, said),) = second
    assert status == 2
    assert said == f"error: {IN_USE}give another --out.\n"
    assert config_file.load("run/config.toml").epochs == 1
    assert len(Path("run/train.csv").read_text().splitlines()) == 2


def test_a_process_that_decodes_images_does_not_hold_the_folder_of_a_run_that_was_killed() -> None:
    ready, done = os.pipe(), os.pipe()
    if not (run := os.fork()):
        with RunFolder(Path("run")).held():
            if not os.fork():  # as a worker of a loader, which outlives the run for a while
                os.write(ready[1], b"x")
                os.close(done[1])
                os.read(done[0], 1)
                os._exit(0)
            signal.pause()
    os.read(ready[0], 1)
    with pytest.raises(ValueError, match=IN_USE), RunFolder(Path("run")).held():
        pass
    os.kill(run, signal.SIGKILL)
    os.waitpid(run, 0)
    with RunFolder(Path("run")).held():
        pass
    os.write(done[1], b"x")
    for end in (*ready, *done):
        os.close(end)


def test_a_second_language_model_is_refused_while_the_first_one_prepares(monkeypatch: pytest.MonkeyPatch) -> None:
    second, build = list[tuple[int, str]](), model.build

    def slow(*arguments: Any) -> Any:
        second.append(meanwhile("train", "text.toml", "--set", "epochs=2", "--out", "run"))
        return build(*arguments)

    monkeypatch.setattr(session, "build", slow)
    assert command("text.toml", "--out", "run") == 0
    assert second == [(2, f"error: {IN_USE}give another --out.\n")]


def test_a_test_waits_for_no_training_and_none_begins_during_it(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert command("images.toml", "--out", "run") == 0
    with RunFolder(Path("run")).held():
        status, said = meanwhile("maxup_smoothing.train.evaluate", "run")
    assert status == 2
    assert said == f"error: {IN_USE}copy the checkpoint elsewhere.\n"
    assert not Path("run/test.json").exists()
    second, predict = list[tuple[int, str]](), evaluate.predict

    def slow(*arguments: Any) -> Any:
        second.append(meanwhile("train", "images.toml", "--out", "run", "--resume"))
        return predict(*arguments)

    monkeypatch.setattr(evaluate, "predict", slow)
    assert command("run", app=evaluate.app) == 0
    assert second == [(2, f"error: {IN_USE}give another --out.\n")]
    assert Path("run/test.json").exists()


@pytest.mark.parametrize(
    "change",
    ["holdout=60", "teacher=nowhere", "arch=resnet20"],
    ids=["while it is set up", "while it prepares", "while its network is built"],
)
def test_a_run_that_fails_before_it_begins_leaves_no_folder(change: str, capfd: pytest.CaptureFixture[str]) -> None:
    method = ["--set", "objective=catrs", "--set", "m=2"] if "teacher" in change else []
    assert command("images.toml", *method, "--set", change, "--out", "new/run") == 2
    assert not Path("new/run").exists()
    Path("mine").mkdir()
    assert command("images.toml", *method, "--set", change, "--out", "mine") == 2
    assert not list(Path("mine").iterdir())
    assert "Traceback" not in capfd.readouterr().err


def test_the_lock_of_a_folder_that_is_gone_is_not_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.open

    def removed(path: Any, *arguments: Any) -> int:
        descriptor = real(path, *arguments)
        if str(path) == "run":  # the process that had made it ends now, without having written anything
            Path("run").rmdir()
            Path("run").mkdir()
        return descriptor

    monkeypatch.setattr(os, "open", removed)
    with pytest.raises(ValueError, match=IN_USE), RunFolder(Path("run")).held():
        pass
