"""`certify check`, the same checks before `certify run` and `predict`, and where their warnings end up."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from maxup_smoothing.analysis.report.notices import notices
from maxup_smoothing.analysis.report.subjects import load_subjects
from maxup_smoothing.certify.commands.app import app
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.runs.precheck import SKIPPED
from maxup_smoothing.certify.tables.durable import finished
from maxup_smoothing.data import registry
from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.checkpoint import Architecture

MODELS = """
import torch
from torch import nn

class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x):
        self.passes += 1
        return x.flatten(1)[:, :10]

def counting():
    return Counting().eval()

def quantised():
    def function(x):
        scale = abs(x).max() / 127
        return (x / scale).round().reshape(len(x), -1)[:, :10] * scale
    return function
"""
RUN = ["--n", "50", "--limit", "3", "--batch-size", "32", "--seed", "1"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    Path("preflight_models.py").write_text(MODELS)
    sample = registry.load("fashion-sample", "test")
    np.savez("images.npz", images=sample.images[:40, 0], labels=sample.labels[:40], classes=np.array(sample.classes))
    architecture = Architecture(arch="lenet", image_shape=(1, 28, 28), num_classes=10, options={})
    metadata: dict[str, Any] = {"config": {"sigma": 0.25, "dataset": "fashion-sample", "epochs": 5}, "epoch": 1}
    checkpoint.save(Path("run/checkpoint.safetensors"), architecture.build(), architecture, metadata)


def certify(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def kept(path: str = "run/radii.manifest.json") -> list[str]:
    found: list[str] = json.loads(Path(path).read_text())["notes"]["preflight"]
    return found


def test_check_prints_what_it_saw_and_what_to_do_and_writes_nothing() -> None:
    before = sorted(Path().rglob("*"))
    done = certify("check", "run", "--radii", "0.5,2", "--batch-size", "64")
    assert done.exit_code == 0, done.output
    assert "that of epoch 1 of 5" in done.stdout
    assert "->" in done.stdout
    assert "less than 2" in done.stdout
    assert "a run may begin" in done.stdout.splitlines()[-1]
    assert sorted(path for path in Path().rglob("*") if "__pycache__" not in path.parts) == before


def test_check_ends_with_status_1_where_a_run_would_not_begin() -> None:
    done = certify("check", "preflight_models:counting", "--data", "images.npz", "--sigma", "0.5", "--batch-size", "32")
    assert done.exit_code == 1
    assert "error    state:" in done.stdout
    assert "a run would not begin" in done.stdout


def test_a_run_that_must_not_begin_leaves_the_table_as_it_is() -> None:
    Path("radii.tsv").write_text("something else")
    arguments = ["run", "preflight_models:counting", "--data", "images.npz", "--sigma", "0.5", "--out", "radii.tsv"]
    done = certify(*arguments, *RUN, "--overwrite")
    assert isinstance(done.exception, ValueError)
    assert "state: the model changed during forward passes: SHA-256" in str(done.exception)
    assert Path("radii.tsv").read_text() == "something else"


def test_rows_must_be_independent_even_without_checks() -> None:
    arguments = ["run", "preflight_models:quantised", "--data", "images.npz", "--sigma", "0.5", "--out", "radii.tsv"]
    done = certify(*arguments, *RUN, "--no-check")
    assert "quantisation by batch" in str(done.exception)
    assert not Path("radii.tsv").exists()


def test_warnings_of_a_run_reach_its_manifest_and_the_report() -> None:
    done = certify("run", "run", *RUN, "--radii", "0.25,3")
    assert done.exit_code == 0, done.output
    warnings = kept()
    assert any(text.startswith("training: the model is that of epoch 1 of 5") for text in warnings)
    assert any("less than 3" in text for text in warnings)
    assert all(f"warning: {text}\n" in done.stderr for text in warnings)
    texts = [notice.text for notice in notices(load_subjects([Path("run/radii.tsv")]))]
    assert all(f"before the run it was warned: {text}" in texts for text in warnings)


def test_no_check_is_recorded_and_shown_in_the_report() -> None:
    assert certify("run", "run", *RUN, "--no-check").exit_code == 0
    assert kept() == [SKIPPED]
    texts = [notice.text for notice in notices(load_subjects([Path("run/radii.tsv")]))]
    assert f"before the run it was warned: {SKIPPED}" in texts


def test_predictions_are_checked_too() -> None:
    done = certify("predict", "run", *RUN)
    assert done.exit_code == 0, done.output
    assert "epoch 1 of 5" in kept("run/predictions.manifest.json")[0]


def test_wrong_noise_stops_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    right = ExactNoise.fill

    def louder(self: ExactNoise, out_BCHW: torch.Tensor, image_CHW: torch.Tensor, **counter: int) -> None:
        right(self, out_BCHW, image_CHW, **counter)
        out_BCHW += 1.0001 - 1

    monkeypatch.setattr(ExactNoise, "fill", louder)
    done = certify("run", "run", *RUN)
    assert str(done.exception).startswith("noise: exact noise on cpu")
    assert not Path("run/radii.tsv").exists()


def test_a_run_with_nothing_left_to_do_is_not_checked_again() -> None:
    certify("run", "run", *RUN)
    again = certify("run", "run", *RUN)
    assert again.exit_code == 0, again.output
    assert "warning" not in again.stderr
    assert kept()
    assert "warning" in certify("run", "run", *RUN[:2], "--limit", "4", *RUN[4:]).stderr


def test_only_whole_lines_are_finished(tmp_path: Path) -> None:
    table = tmp_path / "t.tsv"
    assert finished(table) == set()
    table.write_text("idx\tlabel\n3\t1\n7\t0\n11\t")
    assert finished(table) == {3, 7}
    table.write_bytes(b"\x00\xff no table")
    assert finished(table) == set()
