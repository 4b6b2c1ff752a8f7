"""Models that ``certify`` takes, such as weights of other projects, and those that it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import certify_command
import pytest
import torch
from certify_command import PIXEL, certify

from maxup_smoothing.certify.models import loading
from maxup_smoothing.train import models

_here = certify_command.here


@pytest.mark.parametrize(
    ("prefix", "wrap"), [("", None), ("module.", "state_dict"), ("1.", "state_dict"), ("1.module.", "net")]
)
@pytest.mark.parametrize("shortcut", ["conv", "pad"])
def test_weights_of_other_projects_load_whatever_wraps_them(prefix: str, wrap: str | None, shortcut: str) -> None:
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    model = models.build("resnet20", (3, 32, 32), 10, mean=mean, std=std, shortcut=shortcut).eval()
    state: dict[str, Any] = {
        prefix + name: value for name, value in model.get_submodule("backbone").state_dict().items()
    }
    torch.save({wrap: state, "epoch": 3} if wrap else state, "weights.pth.tar")
    loaded = loading.load("weights.pth.tar", (3, 32, 32), 10, arch="resnet20", normalize="cifar10")
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded.model(x), model(x))


def test_weights_of_other_projects_are_certified_with_arch() -> None:
    torch.save(
        {
            f"module.{k}": v
            for k, v in models.build("lenet", (1, 28, 28), 10).get_submodule("backbone").state_dict().items()
        },
        "w.pth",
    )
    arguments = ["run", "w.pth", "--arch", "lenet", "--data", "images.npz", "--sigma", "0.5", "--out", "a.tsv"]
    certify(*arguments, "--n", "20", "--limit", "1", "--batch-size", "16")
    assert json.loads(Path("a.manifest.json").read_text())["model"]["arch"] == "lenet"


def test_a_users_own_modules_do_not_shadow_ours() -> None:
    for name in ("train", "data", "certify"):
        Path(name).mkdir()
        Path(name, "__init__.py").write_text("raise RuntimeError('the wrong one')")
    command = [str(Path(sys.executable).parent / "certify"), *PIXEL, "--limit", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


class Run:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch owned",)


def test_a_pickle_that_runs_code_is_refused() -> None:
    torch.save({"state_dict": Run()}, "evil.pth")
    message = "holds more than weights"
    with pytest.raises(ValueError, match=message):
        certify("run", "evil.pth", "--arch", "lenet", "--data", "images.npz", "--sigma", "0.5", "--out", "a.tsv")
    assert not Path("owned").exists()
    assert not Path("a.tsv").exists()


MODELS = {
    "no such model": ("nothing", "is not a model: give a .safetensors checkpoint"),
    "no checkpoint": ("none.safetensors", "no checkpoint at none.safetensors"),
    "no such module": ("nomodule:factory", "cannot import 'nomodule'"),
    "no such factory": ("mymodel:factroy", "has no callable 'factroy'"),
    "not a module": ("mymodel:torch.manual_seed", "has no callable"),
    "returns something else": ("broken:number", "must return an nn.Module, or a function of arrays, got int"),
    "needs arguments": ("broken:needy", r"broken:needy\(\), called without arguments, failed: TypeError"),
    "does not compile": ("syntax:load", "importing 'syntax' failed: SyntaxError"),
    "in training mode": ("broken:training", "training mode.*call model.eval"),
    "wrong output": ("broken:vector", "must return logits of shape"),
    "other input": ("broken:linear", "does not take 1x28x28"),
    "weights without arch": ("weights.pth", "name their architecture with --arch"),
}


@pytest.mark.parametrize("case", MODELS)
def test_models_that_do_not_fit_are_refused_with_the_fix(case: str) -> None:
    Path("broken.py").write_text(
        "from torch import nn\n"
        "def number(): return 3\n"
        "def needy(x): return x\n"
        "def training(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
        "def vector(): return nn.Flatten(0).eval()\n"
        "def linear(): return nn.Linear(3, 10).eval()\n"
    )
    Path("syntax.py").write_text("def load(:\n")
    torch.save({}, "weights.pth")
    name, message = MODELS[case]
    with pytest.raises((ValueError, OSError), match=message):
        certify("run", name, "--data", "images.npz", "--sigma", "0.5", "--out", "a.tsv")
    assert not Path("a.tsv").exists()
