"""``certify attack`` on a half-space whose true radius at each of 20 images is its distance."""

import dataclasses
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from places import HELPERS
from typer.testing import CliRunner

from maxup_smoothing.certify.attack.table import AttackRow
from maxup_smoothing.certify.commands.app import app as certify
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound
from maxup_smoothing.certify.statistics.radius import certified_radius
from maxup_smoothing.certify.tables.row import Row, format_row, parse_row

Image = NDArray[Any]
TABLE, ATTACKS = Path("radii.tsv"), Path("attacks.tsv")
MINE = '''
import torch
from oracles import HalfSpace, Pixel


def plane(flip=False):
    """A half-space through the grey image, whose normal has all signs and sizes: radius = distance, exactly."""
    weight = torch.randn((1, 8, 8), generator=torch.Generator().manual_seed(7 + flip))
    return HalfSpace(weight, float(weight.sum()) * 128 / 255).eval()


def other():
    return plane(True)


class Steps(torch.nn.Module):
    def forward(self, x):
        return torch.stack([x.flatten(1).sum(1).round(), torch.zeros(len(x)) + 32.5], dim=1)


def steps():
    return Steps().eval()


def arrays():
    import numpy as np
    return lambda x: np.stack([x[:, 0, 0, 0], 0.5 + 0 * x[:, 0, 0, 0]], axis=1)
'''


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a factory, and 20 images at distances from -0.7 to 0.7 of its plane, all labelled rightly."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    Path("mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(HELPERS))
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("mine", None)
    normal = plane().weight.detach().numpy().reshape(8, 8)
    normal /= np.linalg.norm(normal)
    spread = np.random.default_rng(0).integers(-9, 10, (20, 8, 8))
    images = 128 + spread + np.rint(255 * np.linspace(-0.7, 0.7, 20)[:, None, None] * normal)
    labels = np.array([int(plane().margin(_tensor(image)) > 0) for image in images])
    np.savez("images.npz", images=images.astype(np.uint8), labels=labels, classes=np.array(["a", "b"]))


def plane() -> Any:
    return importlib.import_module("mine").plane()


def _tensor(image: Image) -> torch.Tensor:
    return torch.from_numpy(image[None].astype(np.float32) / 255)


def run(model: str = "mine:plane") -> None:
    arguments = ["--data", "images.npz", "--sigma", "0.25", "--n", "3000", "--batch-size", "512", "--seed", "1"]
    result = CliRunner().invoke(certify, ["run", model, *arguments, "--out", str(TABLE), "--no-check"])
    assert result.exit_code == 0, result.output


def attack(*more: str, model: str = "mine:plane", status: int = 0) -> str:
    few = ["--steps", "8", "--samples", "8", "--seed", "5", "--group-size", "8"]
    result = CliRunner().invoke(certify, ["attack", model, str(TABLE), *few, *more])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.stdout


def edit(change: Callable[[Row], Row]) -> None:
    head, *lines = TABLE.read_text().splitlines()
    rows = [format_row(change(parse_row(line))) for line in lines]
    TABLE.write_text("\n".join([head, *rows]) + "\n")


def with_radius_of(n_a: int) -> Callable[[Row], Row]:
    """A row that claims so many votes; certify.tables.radius_table.read finds nothing wrong with it."""

    def change(row: Row) -> Row:
        bound = float(lower_confidence_bound(n_a, row.n, row.alpha))
        radius = float(certified_radius(bound, row.sigma))
        [look] = row.looks
        look = dataclasses.replace(look, n_a=n_a, n_b=row.n - n_a)
        counts = {kind: count for kind, count in ((row.selected, n_a), (1 - row.selected, row.n - n_a)) if count}
        return dataclasses.replace(
            row,
            predict=row.selected,
            correct=row.selected == row.label,
            status="certified",
            radius=radius,
            n_a=n_a,
            p_a_lower=bound,
            p_b_upper=1 - bound,
            counts=counts,
            looks=(look,),
        )

    return change


def true_radius(row: AttackRow) -> float:
    return float(abs(plane().margin(_tensor(np.load("images.npz")["images"][row.idx]))))
