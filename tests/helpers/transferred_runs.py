"""``certify transfer`` from the half-space of one pixel to another one, in a folder of its own."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import HELPERS
from typer.testing import CliRunner

from maxup_smoothing.certify.commands.app import app as certify
from maxup_smoothing.certify.transfer.table import TransferredTable

TABLE, MANIFEST, OUT = Path("radii.tsv"), Path("radii.manifest.json"), Path("new.tsv")
OTHERS = """

def shifted() -> nn.Module:
    return Pixel(threshold=0.52, classes=10).eval()


def opposite() -> nn.Module:
    return Pixel(threshold=-9.0, classes=10).eval()
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of one's own with factories and images whose first pixels are from black to white."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    Path("mine.py").write_text((HELPERS / "oracles.py").read_text() + OTHERS)
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16), dtype=np.uint8)
    images[:, 0, 0] = np.linspace(0, 255, 12).astype(np.uint8)
    np.savez("images.npz", images=images, labels=np.arange(12) % 2, classes=np.array(list("abcdefghij")))
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("mine", None)


def invoke(*command: str, status: int = 0) -> str:
    result = CliRunner().invoke(certify, list(command), catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.output


def run(*more: str, model: str = "mine:factory") -> None:
    settings = ["--data", "images.npz", "--sigma", "0.25", "--alpha", "0.01", "--batch-size", "64", "--seed", "1"]
    invoke("run", model, *settings, "--compile", "off", "--no-check", "--out", str(TABLE), *(more or ["--n", "400"]))


def transfer(*more: str, to: str | None = "mine:shifted", out: Path = OUT) -> str:
    to_model = [] if to is None else ["--to-model", to]
    return invoke("transfer", str(TABLE), *to_model, "--pairs", "300", "--out", str(out), *more)


def rows(path: Path = OUT) -> list[Any]:
    return [TransferredTable.parse(line) for line in path.read_text().splitlines()[1:]]
