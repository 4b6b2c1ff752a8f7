"""Signals, a second process, lack of memory and lost devices in training."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import maxup_smoothing.train.__main__ as training
from maxup_smoothing.data import registry
from maxup_smoothing.data.runtime import console
from maxup_smoothing.train.checkpoint import Architecture
from maxup_smoothing.train.loop import Epoch, Trainer
from maxup_smoothing.train.run import report
from maxup_smoothing.train.run_folder import RunFolder


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sample = registry.load("fashion-sample", "train")
    np.savez("images.npz", images=sample.images[:40, 0], labels=sample.labels[:40], classes=np.array(sample.classes))


COMMAND = ["train", "fashion_sample_gaussian", "--resume"]
for change in ("dataset=images.npz", "epochs=3", "batch_size=10", "probe=20", "device=cpu"):
    COMMAND += ["--set", change]


def run(out: str, patch: pytest.MonkeyPatch, at_step: int = 0, event: Any = None) -> int:
    """The exit status of a run in this process, to which something happens at a step."""
    steps, real = [0], Trainer._backward

    def backward(trainer: Trainer, *arguments: Any) -> torch.Tensor:
        steps[0] += 1
        if steps[0] == at_step:
            event()
        return real(trainer, *arguments)

    with patch.context() as changed:
        changed.setattr(Trainer, "_backward", backward)
        changed.setattr(sys, "argv", [*COMMAND, "--out", out])
        try:
            console.run(training.app)
        except SystemExit as ended:
            return int(ended.code or 0)
    return 0


def send(number: int, times: int = 1) -> Any:
    def kill() -> None:
        for _ in range(times):
            os.kill(os.getpid(), number)

    return kill


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_training_with_the_last_finished_epoch_on_disk(
    number: int, status: int, times: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert run("whole", monkeypatch) == 0
    assert run("cut", monkeypatch, 6, send(number, times)) == status
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    said = capfd.readouterr().err
    if times == 1:
        assert "1 of 3 epochs in cut. The same command with --resume goes on." in said
    assert "Traceback" not in said
    assert torch.load("cut/state.pt", weights_only=True)["finished"] == 1
    assert run("cut", monkeypatch) == 0
    assert Path("cut/checkpoint.safetensors").read_bytes() == Path("whole/checkpoint.safetensors").read_bytes()
    assert len(Path("cut/train.csv").read_text().splitlines()) == 4


def test_a_lost_accelerator_ends_training_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def lost() -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    assert run("cut", monkeypatch, 6, lost) == console.TRY_AGAIN
    said = capfd.readouterr().err
    assert "the accelerator is lost (CUDA error: unspecified launch failure)" in said
    assert "with --resume" in said
    assert torch.load("cut/state.pt", weights_only=True)["finished"] == 1


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: 9 bytes"),
    ],
)
def test_lack_of_memory_in_training_is_one_line_with_the_fix(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def none_left() -> None:
        raise error

    assert run("cut", monkeypatch, 6, none_left) == 2
    assert "memory ran out in epoch 2; pass --set accumulate=2" in capfd.readouterr().err


def test_lack_of_memory_elsewhere_is_one_line_too(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def none_left(*_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Architecture, "build", none_left)
    assert run("cut", monkeypatch) == 2
    said = capfd.readouterr().err
    assert "memory ran out; a smaller network, batch_size or m takes less" in said
    assert "Traceback" not in said


def test_a_finished_run_writes_a_lost_checkpoint_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("runs/a", monkeypatch) == 0
    lost = Path("runs/a/checkpoint.safetensors")
    before = lost.read_bytes()
    lost.unlink()
    assert run("runs/a", monkeypatch) == 0
    assert lost.read_bytes() == before


def test_one_flipped_bit_in_the_state_is_noticed(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("runs/a", monkeypatch) == 0
    state = Path("runs/a/state.pt")
    content = bytearray(state.read_bytes())
    content[len(content) // 2] ^= 0x40
    state.write_bytes(content)
    assert run("runs/a", monkeypatch) == 2
    assert "state.pt is damaged and cannot be resumed from" in capfd.readouterr().err


@pytest.mark.parametrize("finished", [-1, 4, 1.0, None])
def test_a_state_of_impossible_epochs_is_damaged(
    finished: object, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("runs/a", monkeypatch) == 0
    state = torch.load("runs/a/state.pt", weights_only=True)
    torch.save({**state, "finished": finished}, "runs/a/state.pt")
    assert run("runs/a", monkeypatch) == 2
    assert "state.pt is damaged or of another version" in capfd.readouterr().err


def test_a_table_that_is_no_text_is_named(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("runs/a", monkeypatch) == 0
    Path("runs/a/train.csv").write_bytes(b"\xff\xfe")
    assert run("runs/a", monkeypatch) == 2
    assert "train.csv is damaged: it is no text" in capfd.readouterr().err


def test_a_second_process_in_the_same_run_folder_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("runs/a", monkeypatch) == 0
    before = {path: path.read_bytes() for path in Path("runs/a").iterdir()}
    command = [sys.executable, "-m", *COMMAND, "--out", "runs/a"]
    with RunFolder(Path("runs/a")).held():
        refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "runs/a is being trained in by another process; wait for it or give another --out." in refused.stderr
    assert "Traceback" not in refused.stderr
    assert {path: path.read_bytes() for path in Path("runs/a").iterdir()} == before
    assert run("runs/a", monkeypatch) == 0


def test_what_killed_processes_left_behind_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("cut").mkdir()
    for name in (".state.pt.123.tmp", ".checkpoint.safetensors.9.tmp"):
        Path("cut", name).write_bytes(b"half")
    Path("cut", ".mine.tmp").write_bytes(b"not ours")
    assert run("cut", monkeypatch) == 0
    assert [path.name for path in Path("cut").glob(".*")] == [".mine.tmp"]


def test_the_time_left_of_long_runs_is_more_than_a_day() -> None:
    line = Epoch(
        epoch=1, lr=0.1, loss=1, mean_loss=1, gap=0, noisy_accuracy=1, validation_acr=float("nan"),
        images_per_second=1, seconds=3600,
    )  # fmt: skip
    assert report(line, 31).endswith("1 day, 6:00:00 left")


@pytest.mark.slow
def test_torchrun_passes_sigterm_on_and_the_run_goes_on() -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", *COMMAND]
    command += ["--set", "epochs=200", "--out", "cut"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch"):
            break
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    finished = torch.load("cut/state.pt", weights_only=True)["finished"]
    assert 1 <= finished < 200
    assert "terminated; what was finished is on disk" in said
    assert 'Traceback (most recent call last):\n  File "<frozen runpy>"' not in said.split("terminated;")[0]
    assert len(Path("cut/train.csv").read_text().splitlines()) >= finished + 1
