"""From names to a report: what is written, for whom, and what is refused before any work is done."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maxup_smoothing.analysis.theory import lab, networks
from maxup_smoothing.analysis.theory.lab import Settings
from maxup_smoothing.analysis.theory.norms import change
from maxup_smoothing.analysis.theory.report import lines
from maxup_smoothing.data import registry
from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.checkpoint import Architecture

QUICK = Settings(sigmas=(1e-5, 1e-4, 1e-3, 0.1), ms=(2, 4), groups=16, probes=2)
SMALL: dict[str, Any] = {"images": 4, "norm_images": 20, "settings": QUICK}


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two untrained LeNets, and images with an even background."""
    monkeypatch.chdir(tmp_path)
    sample = registry.load("fashion-sample", "test")
    images = sample.images[:20, 0, 6:22, 6:22].copy()
    images[:, :, :8] = 0
    np.savez("images.npz", images=images, labels=sample.labels[:20], classes=np.array(sample.classes))
    architecture = Architecture(arch="lenet", image_shape=(1, 16, 16), num_classes=10, options={})
    for name in ("one", "two"):
        Path(name).mkdir()
        metadata = {"config": {"sigma": 0.25, "dataset": "images.npz"}}
        checkpoint.save(Path(name) / "checkpoint.safetensors", architecture.build(), architecture, metadata)
    return tmp_path


def test_report_says_what_was_found_of_each_network(runs: Path) -> None:
    small = {**SMALL, "settings": replace(QUICK, ms=(2,))}
    studies = lab.run(["one", "two"], Path("theory.md"), nudge=0.01, command="the command", **small)
    one, moved, two, moved_two = studies
    assert [study.name for study in studies] == ["one", "one, moved", "two", "two, moved"]
    # An even background lies in corners of a max pooling, and a little noise moves it out of them.
    assert (one.corners, two.corners) == (4, 4)
    assert (moved.corners, moved_two.corners) == (0, 0)
    assert one.verdicts[0].at[-1].sigma == 0.25  # of training
    assert set(moved.kinks) == {"MaxPool2DWithIndices", "Relu"}

    text = Path("theory.md").read_text()
    assert "    the command" in text
    assert "4 of 4 images the loss has no gradient" in text
    assert "0.25 (training)" in text
    for line in lines(studies):
        name, said = line.split(", m = ", 1)
        verdict = said.split(": ")[1].split(",")[0]
        assert any(row.startswith(f"| {name} |") and f"**{verdict}**" in row for row in text.splitlines())
    for figure in ("law", "orders", "norms"):
        assert f"(theory/{figure}.png)" in text
        assert Path("theory", f"{figure}.png").read_bytes()[:4] == b"\x89PNG"
        assert Path("theory", f"{figure}.png").stat().st_size < 150_000


def test_report_is_the_same_bytes_each_time(tmp_path: Path) -> None:
    for name in ("a", "b"):
        lab.run(["toy:relu"], tmp_path / name / "theory.md", **SMALL)
    for file in ("theory.md", "theory/law.png", "theory/orders.png"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert not (tmp_path / "a" / "theory" / "norms.png").exists()  # toys are compared with nobody


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (["toy:tanh"], {"out": Path("theory.txt")}, "end in .md"),
        (["toy:tanh", "toy:step"], {}, "toy networks have one of"),
        (["toy:tanh"], {"images": 1}, "at least 2 images"),
        (["toy:tanh"], {"nudge": 3.0}, "nudge"),
        (["one"], {"images": 10_000}, "fewer than"),
    ],
)
def test_slips_are_refused_before_any_work(
    names: list[str], changes: dict[str, Any], message: str, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab, "examine", None)
    with pytest.raises(ValueError, match=message):
        lab.run(names, **{"out": Path("theory.md"), **SMALL, **changes})
    assert not Path("theory.md").exists()


def test_moved_images_differ_by_the_nudge_and_nothing_else() -> None:
    subject = networks.load("toy:tanh", data=None, data_root=None, images=100, seed=0)
    moved = subject.moved(0.01, seed=1)
    assert float((moved.x_I - subject.x_I).std()) == pytest.approx(0.01, rel=0.03)  # 20,000 numbers: 6 standard errors
    assert moved.model is subject.model
    assert torch.equal(moved.y_I, subject.y_I)


def test_toys_are_functions_of_their_seed() -> None:
    for seed in (0, 1):
        assert torch.equal(networks.toy_inputs(3, seed=seed)[0], networks.toy_inputs(3, seed=seed)[0])
    weights = [next(networks.toy("tanh", width=4, seed=seed).parameters()) for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_change_of_norms_is_paired_and_leaves_out_zeros() -> None:
    before = np.array([1.0, 2.0, 4.0, 0.0])
    found = change(np.array([2.0, 4.0, 8.0, 0.0]), before)
    assert (found.typical.value, found.typical.low, found.typical.high) == pytest.approx((2, 2, 2))
    assert found.mean.value == pytest.approx(7 / 4)
    assert found.smaller == 0
