"""What is installed meets no package of the user's: one name, beside a project with `data/`, `train.py`, `configs/`."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from places import ROOT

pytest.importorskip("hatchling", reason="hatchling, of the extra dev, builds the wheel")
USE = """
import torch
from torch import nn

from maxup_smoothing import SmoothedClassifier, maxup_loss
import data.stats

assert data.stats.SIZE == 4
[one] = SmoothedClassifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)).eval(), 4, 0.25).certify(
    torch.rand(1, 1, 8, 8), n=100)
print(one.predict, maxup_loss.__module__)
"""
MODEL = "from torch import nn\n\nfrom data.stats import SIZE\n\n\ndef load():\n"
MODEL += "    return nn.Sequential(nn.Flatten(), nn.Linear(64, SIZE)).eval()\n"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a wheel of this tree installs."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-W", "ignore", "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def project(tmp_path: Path, installed: Path) -> Path:
    """A project with packages of its own, called as ours are in the repository."""
    for name in ("data", "analysis", "configs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "data" / "stats.py").write_text("SIZE = 4\n")
    (tmp_path / "train.py").write_text("raise SystemExit('the training script of the user')\n")
    (tmp_path / "mymodels.py").write_text(MODEL)
    (tmp_path / "use.py").write_text(USE)
    images = np.random.default_rng(0).integers(0, 256, (4, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images, labels=np.arange(4))
    return tmp_path


def python(project: Path, installed: Path, *arguments: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    result = subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_one_name_is_installed(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if path.suffix != ".dist-info"} == {"maxup_smoothing"}
    assert (installed / "maxup_smoothing" / "configs" / "mnist_maxup.toml").is_file()


def test_a_project_with_packages_of_the_same_names_uses_its_own_and_ours(project: Path, installed: Path) -> None:
    assert "maxup_smoothing.train.maxup" in python(project, installed, "use.py")
    where = python(project, installed, "-c", "import maxup_smoothing; print(maxup_smoothing.__file__)")
    assert Path(where.strip()).is_relative_to(installed)


def test_the_commands_run_beside_such_a_project(project: Path, installed: Path) -> None:
    run = ("run", "mymodels:load", "--data", "images.npz", "--sigma", "0.25", "--n", "100", "--out", "r.tsv")
    assert "ACR" in python(project, installed, "-m", "maxup_smoothing.certify", *run)
    assert "acr" in python(project, installed, "-m", "maxup_smoothing", "analysis", "table", "r.tsv", "--radii", "0")
    assert "maxup train" in python(project, installed, "-m", "maxup_smoothing", "train", "--help")
    assert "maxup evaluate RUN" in python(project, installed, "-m", "maxup_smoothing", "--help")


def test_an_unknown_command_is_one_line_and_status_2(project: Path, installed: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-m", "maxup_smoothing", "certfy"]
    result = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr.startswith("error: unknown command 'certfy'; there are train, evaluate, analysis")
    assert "Traceback" not in result.stderr
