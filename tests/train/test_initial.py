"""Training that begins with the weights of a trained network."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

from maxup_smoothing.data import registry
from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.__main__ import app

FROZEN = ["--set", "epochs=1", "--set", "batch_size=50", "--set", "probe=20", "--set", "lr=1e-12"]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    sample = registry.load("fashion-sample", "train")
    path = tmp_path / "images.npz"
    np.savez(path, images=sample.images[:100, 0], labels=sample.labels[:100], classes=np.array(sample.classes))
    return path


def train(images: Path, out: Path, *changes: str, resume: bool = False) -> tuple[int, str]:
    options = [option for change in changes for option in ("--set", change)] + (["--resume"] if resume else [])
    command = ["fashion_sample_gaussian", "--set", f"dataset={images}", *FROZEN, *options, "--out", str(out)]
    result = CliRunner().invoke(app, command)
    return result.exit_code, str(result.exception) if result.exception else ""


def weights(out: Path) -> torch.Tensor:
    model = checkpoint.load(out / "checkpoint.safetensors").model
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_a_run_begins_where_another_one_ended(images: Path, tmp_path: Path) -> None:
    assert train(images, tmp_path / "a", "lr=0.1", "seed=3") == (0, "")
    assert train(images, tmp_path / "b", f"init={tmp_path / 'a'}") == (0, "")
    assert train(images, tmp_path / "c") == (0, "")
    torch.testing.assert_close(weights(tmp_path / "b"), weights(tmp_path / "a"), atol=1e-9, rtol=0)
    assert (weights(tmp_path / "c") - weights(tmp_path / "a")).abs().max() > 1e-3
    file = tmp_path / "a" / "checkpoint.safetensors"
    assert train(images, tmp_path / "d", f"init={file}") == (0, "")
    assert weights(tmp_path / "d").equal(weights(tmp_path / "b"))


def test_another_projects_weights_are_taken_as_those_of_the_architecture(images: Path, tmp_path: Path) -> None:
    assert train(images, tmp_path / "a", "lr=0.1", "seed=3") == (0, "")
    backbone = checkpoint.load(tmp_path / "a" / "checkpoint.safetensors").model.get_submodule("backbone")
    torch.save({"state_dict": {f"module.{k}": v for k, v in backbone.state_dict().items()}}, tmp_path / "a.pth")
    assert train(images, tmp_path / "b", f"init={tmp_path / 'a.pth'}", "mean=[0.5]", "std=[0.25]") == (0, "")
    torch.testing.assert_close(weights(tmp_path / "b"), weights(tmp_path / "a"), atol=1e-9, rtol=0)
    buffers = checkpoint.load(tmp_path / "b" / "checkpoint.safetensors").model.state_dict()
    assert (buffers["normalize.mean"].item(), buffers["normalize.std"].item()) == (0.5, 0.25)


def test_a_resumed_run_no_longer_needs_them(images: Path, tmp_path: Path) -> None:
    assert train(images, tmp_path / "a", "lr=0.1") == (0, "")
    change = f"init={tmp_path / 'a'}"
    assert train(images, tmp_path / "b", change) == (0, "")
    (tmp_path / "a" / "checkpoint.safetensors").unlink()
    assert train(images, tmp_path / "b", change, resume=True) == (0, "")
    code, message = train(images, tmp_path / "b", resume=True)
    assert code != 0
    assert "init = " in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["init=nowhere.safetensors"], "no checkpoint at nowhere.safetensors"),
        (["init={a}", "arch=small"], "is of another architecture: its backbone"),
        (["init={a}", "mean=[0.5]"], r"normalises images with mean = \[0\], this run with \[0.5\]; set mean to the"),
        (["init=README"], "'README' is not a model"),
    ],
)
def test_what_does_not_fit_is_refused(images: Path, tmp_path: Path, changes: list[str], message: str) -> None:
    assert train(images, tmp_path / "a", "lr=0.1") == (0, "")
    code, said = train(images, tmp_path / "b", *(change.format(a=tmp_path / "a") for change in changes))
    assert code != 0
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(said)
    assert not (tmp_path / "b").exists()


def test_weights_of_any_usual_file_are_taken_with_the_choice_of_the_set(images: Path, tmp_path: Path) -> None:
    assert train(images, tmp_path / "a", "lr=0.1", "seed=3") == (0, "")
    state = checkpoint.load(tmp_path / "a" / "checkpoint.safetensors").model.get_submodule("backbone").state_dict()
    zeros = {f"model.{name}": torch.zeros_like(tensor) for name, tensor in state.items()}
    both, file = {**zeros, **{f"model_ema.{k}": v for k, v in state.items()}}, tmp_path / "both.ckpt"
    torch.save({"state_dict": both}, file)
    code, said = train(images, tmp_path / "b", f"init={file}")
    assert code != 0
    assert "say which with init_weights = ema or raw" in said
    assert train(images, tmp_path / "b", f"init={file}", "init_weights=ema") == (0, "")
    torch.testing.assert_close(weights(tmp_path / "b"), weights(tmp_path / "a"), atol=1e-9, rtol=0)
    other = tmp_path / "other.safetensors"
    safetensors.torch.save_file({name: tensor.contiguous() for name, tensor in state.items()}, other)
    assert train(images, tmp_path / "c", f"init={other}") == (0, "")
    assert weights(tmp_path / "c").equal(weights(tmp_path / "b"))


def test_a_normalisation_that_a_file_stores_must_be_that_of_the_run(images: Path, tmp_path: Path) -> None:
    assert train(images, tmp_path / "a", "lr=0.1", "mean=[0.3]", "std=[0.4]") == (0, "")
    state, file = checkpoint.load(tmp_path / "a" / "checkpoint.safetensors").model.state_dict(), tmp_path / "a.pth"
    torch.save(state, file)
    code, said = train(images, tmp_path / "b", f"init={file}")
    assert code != 0
    assert "normalises images with mean = [0.3], this run with [0]; set mean to the former" in said
    assert train(images, tmp_path / "b", f"init={file}", "mean=[0.3]", "std=[0.4]") == (0, "")
