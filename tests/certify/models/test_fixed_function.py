"""A certificate is about one f, chosen without a look at the noise that certifies it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import Pixel
from torch import Tensor, nn
from typer.testing import CliRunner

from maxup_smoothing.certify import validation
from maxup_smoothing.certify.commands.app import app
from maxup_smoothing.certify.noise import source
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.smoothing import SmoothedClassifier

IMAGES = torch.tensor([40, 200], dtype=torch.uint8)[:, None, None, None].expand(2, 1, 8, 8).contiguous()
FACTORIES = """
import torch
from torch import nn


class Drifting(nn.Module):
    def __init__(self, speed):
        super().__init__()
        self.register_buffer("threshold", torch.tensor(0.5))
        self.speed = speed

    def forward(self, x):
        with torch.no_grad():
            self.threshold += self.speed
        margin = x[:, 0, 0, 0] - self.threshold
        return torch.stack([-margin, margin, *[torch.full_like(margin, -9.0)] * 8], dim=1)


def still():
    return Drifting(0.0).eval()


def drifting():
    return Drifting(1e-7).eval()
"""


class Drifting(nn.Module):
    """A half-space that moves with every batch."""

    threshold: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("threshold", torch.tensor(0.5))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.threshold += 1e-4
        margin_B = x_BCHW[:, 0, 0, 0] - self.threshold
        return torch.stack([-margin_B, margin_B], dim=1)


def test_a_model_that_changes_itself_is_not_certified_nor_asked() -> None:
    for noise in ("exact", "float"):
        smoothed = SmoothedClassifier(Drifting().eval(), 2, 0.25, seed=0, noise=noise)
        with pytest.raises(ValueError, match=r"f has changed while it ran: SHA-256|changes from call to call"):
            smoothed.certify(IMAGES, n=200)
        with pytest.raises(ValueError, match=r"f has changed while it ran: SHA-256|changes from call to call"):
            smoothed.predict(IMAGES.float() / 255, n=200)


def test_a_function_that_changes_is_noticed_by_its_answers() -> None:
    calls = [0]

    def turning(x_NCHW: np.ndarray) -> np.ndarray:
        calls[0] += 1
        return np.full(len(x_NCHW), int(calls[0] > 300))

    with pytest.raises(ValueError, match="f has changed while it ran: 256 of 256 images have other logits"):
        SmoothedClassifier(turning, 2, 0.25, seed=0).certify(IMAGES, n=50_000)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("drift.py").write_text(FACTORIES)
    np.savez("images.npz", images=np.repeat(IMAGES[:, 0].numpy(), 5, axis=0), labels=np.repeat([0, 1], 5),
             classes=np.array(list("abcdefghij")))  # fmt: skip
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("here")
def test_a_deployed_model_that_changes_itself_gets_no_radius() -> None:
    def certify(*command: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, list(command))
        return result.exit_code, f"{result.output}{result.exception or ''}"

    options = ["--data", "images.npz", "--sigma", "0.25", "--n", "400", "--seed", "1", "--no-check", "--out", "a.tsv"]
    assert certify("run", "drift:still", *options)[0] == 0
    out = ["--pairs", "500", "--out", "b.tsv"]
    code, said = certify("transfer", "a.tsv", "drift:still", "--to-model", "drift:drifting", *out)
    assert code != 0
    assert "the deployed f' has changed while it ran: SHA-256" in said
    assert len(Path("b.tsv").read_text().splitlines()) == 1  # the header


def test_validation_meets_no_noise_that_certifies_or_is_certified_by(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = list[int]()

    class Recorded(ExactNoise):
        def __init__(self, sigma: float, seed: int) -> None:
            seeds.append(seed)
            super().__init__(sigma, seed)

    monkeypatch.setitem(source._MAKERS, "exact", Recorded)
    for seed in (0, 7):
        model = Pixel().eval()
        validation.certifier(IMAGES.numpy(), [0, 1], num_classes=2, sigma=0.25, n=1000, seed=seed)(model)
        validated = set(seeds)
        seeds.clear()
        SmoothedClassifier(model, 2, 0.25, seed=seed).certify(IMAGES, n=100)
        assert seed in seeds
        assert not validated & set(seeds)
        seeds.clear()


@pytest.mark.parametrize("noise", ["exact", "float"])
def test_a_finer_image_pays_for_what_its_type_loses(noise: str) -> None:
    """The radius is that of the certified image less the distance of the given one, both in float64."""
    generator = np.random.default_rng(0)
    shown = (np.full((1, 1, 32, 32), 200) + generator.uniform(-1e-6, 1e-6, (1, 1, 32, 32))) / 255
    nearest = np.full((1, 1, 32, 32), 200) / 255 if noise == "exact" else shown.astype(np.float32).astype(np.float64)
    distance = np.linalg.norm(shown - nearest)
    assert distance > 1e-8
    smoothed = SmoothedClassifier(Pixel().eval(), 2, 0.25, seed=0, noise=noise)
    (reference,) = smoothed.certify(torch.from_numpy(nearest.astype(np.float32)))
    (found,) = smoothed.certify(shown)
    assert reference.radius - distance * (1 + 1e-6) <= found.radius <= reference.radius - distance
    if noise == "exact":  # of 8 bits, in float64: nothing to pay
        assert smoothed.certify(nearest)[0].radius == reference.radius
