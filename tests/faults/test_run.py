"""Lack of memory, changed files and weights, lost devices, clocks, readers: what ``certify run`` does and leaves."""

import functools
import json
import os
import shutil
import time
from pathlib import Path

import disturbed_runs
import numpy as np
import pytest
import torch
from disturbed_runs import COMMAND, FIRST, IMAGES, SECOND, run
from oracles import Pixel
from table_lines import lines
from torch import Tensor, nn

from maxup_smoothing.certify.engine import guard as oversight
from maxup_smoothing.certify.engine.datasets import certify_dataset
from maxup_smoothing.certify.engine.guard import Guard
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.statistics.procedure import Sampling
from maxup_smoothing.certify.tables.radius_table import RadiusTable, read
from maxup_smoothing.data.dataset import Dataset
from maxup_smoothing.data.runtime import console

_here = disturbed_runs.here
whole = disturbed_runs.whole


def test_stderr_and_the_manifest_tell_of_memory(
    whole: list[list[str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def no_memory(model: nn.Module) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    assert run(COMMAND, {SECOND + 2: no_memory}, monkeypatch) == 0
    assert lines() == whole
    assert capfd.readouterr().err.count("out of memory: going on with 32 of the 64 rows of a batch at a time") == 1
    told = json.loads(Path("out/radii.manifest.json").read_text())["notes"]["micro_batch"]
    assert [change["rows"] for change in told] == [32]
    assert 2 <= told[0]["after_rows"] <= 6
    assert run([*COMMAND, "--limit", "8"], {}, monkeypatch) == 0  # with nothing to do, a later run has whole batches
    told = json.loads(Path("out/radii.manifest.json").read_text())["notes"]["micro_batch"]
    assert [change["rows"] for change in told] == [32, 64]


@pytest.mark.parametrize(
    "error", [torch.AcceleratorError("CUDA error: an illegal memory access"), RuntimeError("CUDA error: unspecified")]
)
def test_a_lost_accelerator_is_one_line_and_a_status_of_its_own(
    error: Exception, whole: list[list[str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def lost(model: nn.Module) -> None:
        raise error

    assert run(COMMAND, {SECOND + 2: lost}, monkeypatch) == console.TRY_AGAIN
    said = capfd.readouterr().err
    assert "the accelerator is lost (CUDA error: " in said
    assert "Traceback" not in said
    kept = lines()
    assert 3 <= len(kept) < 9
    assert kept == whole[: len(kept)]
    assert run(COMMAND, {}, monkeypatch) == 0
    assert lines() == whole


def test_a_file_replaced_under_a_run_is_told_with_both_hashes_and_its_rows_stay(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run([*COMMAND[:-1], "whole.tsv"], {}, monkeypatch) == 0
    shutil.copy("images.npz", "kept.npz")
    touch = {SECOND: lambda model: os.utime("images.npz", ns=(1, 1))}
    assert run([*COMMAND[:-1], "touched.tsv"], touch, monkeypatch) == 0  # another time, the same content

    def replace(model: nn.Module) -> None:
        Path("new.npz").write_bytes(b"other images")
        os.replace("new.npz", "images.npz")

    capfd.readouterr()
    monkeypatch.setattr(Guard, "__init__", functools.partialmethod(Guard.__init__, every=0.0))
    monkeypatch.setattr(oversight, "_SHARE", 0)
    assert run(COMMAND, {FIRST + 5: replace}, monkeypatch) == 2
    said = capfd.readouterr().err
    recorded = json.loads(Path("out/radii.manifest.json").read_text())["notes"]["files"]["images.npz"]
    assert f"images.npz was replaced while it was used: its SHA-256 was {recorded}, and is now" in said
    assert 1 < len(lines()) <= 9
    assert lines() == lines("whole.tsv")[: len(lines())]
    os.replace("kept.npz", "images.npz")
    assert run(COMMAND, {}, monkeypatch) == 0
    assert lines() == lines("whole.tsv")


class Drifting(nn.Module):
    """Pixel with a buffer that its own code updates from some pass on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.inner, self.after, self.passes = Pixel(), after, 0
        self.register_buffer("average", torch.zeros(1))
        self.eval()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.passes += 1
        if self.passes > self.after:
            self.get_buffer("average").add_(1.0)
        return self.inner(x_BCHW)


@pytest.mark.parametrize("every", [0.0, 1e9])
def test_rows_since_the_last_good_look_at_the_weights_do_not_stay(
    every: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oversight, "_SHARE", 0)
    data = Dataset(name="d", split="test", images=IMAGES.numpy(), labels=np.zeros(5, np.int64), classes=("a", "b"))
    sampling, source = Sampling(sigma=0.5, n0=20, n=600, alpha=0.01), ExactNoise(0.5, 1)
    path = tmp_path / "radii.tsv"
    classifier = BaseClassifier(Drifting(after=25), 2, batch_size=64)  # ten passes an image: two are sound

    def certify() -> None:
        with RadiusTable.open(path, {}) as table, Guard(classifier, table, range(5), IMAGES, every=every) as guard:
            certify_dataset(classifier, source, data, range(5), sampling, table, oversight=guard)

    with pytest.raises(ValueError, match="f has changed while it ran: SHA-256"):
        certify()
    # With looks between rounds the rows before the change stay; with one at the end none can be trusted.
    assert read(path)["idx"].tolist() == ([0, 1] if every == 0 else [])
    if every == 0:
        assert path.read_bytes().endswith(b"\n")


def test_clocks_that_are_set_back_change_nothing(
    whole: list[list[str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [2e9]

    def backwards() -> float:
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    monkeypatch.setattr(time, "time_ns", lambda: int(backwards() * 1e9))
    assert run(COMMAND, {}, monkeypatch) == 0
    assert lines() == whole
    assert (read("out/radii.tsv")["time"] >= 0).all()
    with console.Meter("testing", "images", 10, 100, "samples") as meter:
        meter.advance(50, 5)
        meter.advance(-60)  # drawn again
        meter.advance(200)
        assert " -" not in str(meter._bar.tasks[0].fields["text"])
    assert "-1 day" not in capfd.readouterr().err


def test_a_table_can_be_shown_while_it_is_written(
    whole: list[list[str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shown: list[int] = []
    assert run(COMMAND, {SECOND: lambda model: shown.append(len(read("out/radii.tsv")))}, monkeypatch) == 0
    assert shown[0] >= 1
    # What was being written when the process was killed is no row yet.
    content = Path("out/radii.tsv").read_bytes()
    capfd.readouterr()
    for tail in (-2, -20, -90):
        Path("out/radii.tsv").write_bytes(content[:tail])
        assert run(["certify", "show", "out/radii.tsv"], {}, monkeypatch) == 2
        assert capfd.readouterr().err.startswith("error: out/radii.tsv, line 9: ")
    assert run(COMMAND, {}, monkeypatch) == 0
    assert lines() == whole
