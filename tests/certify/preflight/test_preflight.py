"""What the checks before a run say of data and settings: each fault is named, and a good model has none."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from preflight_subjects import SHAPE, SIGMA, Nearest, found, images, subject
from torch import Tensor, nn

from maxup_smoothing.certify.noise.source import noise_source
from maxup_smoothing.certify.preflight.checks import QUICK, THOROUGH, examine
from maxup_smoothing.certify.preflight.finding import ERROR, FACT, LEVELS, WARNING, Finding, lines, worst_first
from maxup_smoothing.certify.preflight.settings import settings_findings
from maxup_smoothing.certify.statistics.procedure import Sampling


def test_nothing_is_said_against_a_good_model() -> None:
    findings = examine(subject(Nearest()), THOROUGH, Sampling(sigma=SIGMA, n0=100, alpha=0.001), [0.0, 0.5])
    assert {finding.level for finding in findings} == {FACT}, findings
    checks = {finding.check for finding in findings}
    assert checks == {"pixels", "noise", "rows", "finite logits", "arithmetic", "accuracy", "repetition", "radii"}
    [accuracy] = [finding.seen for finding in findings if finding.check == "accuracy"]
    right = int((Nearest()(images()[0] / 255).argmax(1) == images()[1]).sum())
    assert f"clean {right} of 200 right" in accuracy


def test_a_missing_normalisation_is_named() -> None:
    """Right for 39 of 200 instead of 137: too many for chance, so that only the thorough check looks for the cause."""
    findings = examine(subject(Nearest(raw=False)), replace(QUICK, search=True))
    warned = {finding.check: finding for finding in findings if finding.level == WARNING}
    assert "with normalisation 0.1307/0.3081 in front" in warned["normalisation"].seen
    assert "--normalize 0.1307/0.3081" in warned["normalisation"].fix


def test_a_normalisation_too_many_is_named() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Nearest()

        def forward(self, x_BCHW: Tensor) -> Tensor:
            logits_BK: Tensor = self.inner((x_BCHW - 0.9) / 0.1)
            return logits_BK

    about = {"kind": "weights", "normalize": [[0.9], [0.1]]}
    findings = examine(subject(Twice(), about=about), replace(QUICK, search=True))
    [warned] = [finding for finding in findings if finding.check == "normalisation" and finding.level == WARNING]
    assert "without its normalisation 0.9/0.1" in warned.seen
    assert "--normalize none" in warned.fix


def test_classes_that_are_numbered_otherwise_are_named() -> None:
    _, labels_I = images()
    assert found(subject(Nearest(), labels_I=(labels_I + 1) % 10), WARNING).keys() == {"labels", "accuracy"}
    random_I = labels_I[torch.randperm(len(labels_I), generator=torch.Generator().manual_seed(0))]
    assert found(subject(Nearest(), labels_I=random_I), WARNING).keys() == {"accuracy"}


def test_few_images_tell_no_accuracy_from_chance() -> None:
    images_ICHW, labels_I = images()
    few = subject(Nearest(), images_ICHW=images_ICHW[:20], labels_I=(labels_I[:20] + 1) % 10)
    assert "accuracy" in found(few, FACT)


def test_pixels_in_other_units_are_warned_of() -> None:
    images_ICHW, _ = images()
    assert (
        "0 … 1, of possible 0 … 255"
        in found(subject(Nearest(), images_ICHW=images_ICHW // 255), WARNING)["pixels"].seen
    )
    flat_ICHW = torch.zeros_like(images_ICHW)
    flat_ICHW[:, :, 0, 0] = torch.arange(200, dtype=torch.uint8)[:, None] // 8
    flat_ICHW[0, 0, 1, 1] = 255
    assert "nearly one value" in found(subject(Nearest(), images_ICHW=flat_ICHW), WARNING)["pixels"].seen
    wide = subject(Nearest(), sigma=3.0, make_noise=lambda seed: noise_source("exact", 3.0, seed))
    assert "3 times the range" in found(wide, WARNING)["sigma"].seen
    assert "sigma" not in found(replace(wide, about={"sigma": 3.0}), WARNING)


def test_what_does_not_fit_the_training_is_warned_of() -> None:
    def said(about: dict[str, Any], data: dict[str, Any] | None = None) -> str:
        findings = examine(subject(Nearest(), about=about, data=data or {}), QUICK)
        return " ".join(finding.seen for finding in findings if finding.level == WARNING)

    assert "trained with noise of sigma 0.5, and is certified at 0.25" in said({"sigma": 0.5})
    assert said({"sigma": 0.25, "epoch": 9, "epochs": 9}) == ""
    assert "that of epoch 3 of 9" in said({"epoch": 3, "epochs": 9})
    assert said({"epoch": 3, "epochs": 9, "best": True}) == ""
    assert "may have been trained on these images: mnist, train" in said({}, {"name": "mnist", "split": "train"})
    assert said({}, {"name": "mnist", "split": "test", "trained_on": "mnist"}) == ""
    assert "trained on these images: a.npz" in said({}, {"name": "a.npz", "split": "file", "trained_on": "a.npz"})
    assert said({}, {"name": "a.npz", "split": "file", "trained_on": "b.npz"}) == ""


def test_radii_out_of_reach_and_a_large_alpha_are_warned_of() -> None:
    """All of n = 1000 votes at alpha 0.001 prove p = 0.001 ** (1 / 1000), which is 0.25 * Phi^-1(0.99312) = 0.6158."""
    sampling = Sampling(sigma=0.25, n0=100, n=1000, alpha=0.001)
    assert [one.level for one in settings_findings(sampling, [0.0, 0.6])] == [FACT]
    [radii] = settings_findings(sampling, [0.5, 0.7])
    assert radii.level == WARNING
    assert "up to 0.6158, less than 0.7" in radii.seen
    needed = int(radii.fix.split()[2])
    assert Sampling(sigma=0.25, n0=100, n=needed, alpha=0.001).ceiling >= 0.7
    assert Sampling(sigma=0.25, n0=100, n=needed - 1, alpha=0.001).ceiling < 0.7
    _, alpha = settings_findings(replace(sampling, alpha=0.05), None)
    assert "5 of 100 certificates may be false" in alpha.meaning


def test_noise_of_a_check_is_not_that_of_the_run() -> None:
    one = subject(Nearest())
    run = torch.empty(1, *SHAPE)
    noise_source("exact", SIGMA, one.seed).fill(run, one.images_ICHW[0], input_id=2**31, stage=2, start=0)
    assert not torch.equal(one.noisy[0][:1], run)
    again = subject(Nearest(), batch_size=7)
    flat = [torch.cat(part.noisy)[:21].contiguous() for part in (one, again)]
    assert torch.equal(*flat)


def test_the_worst_comes_first_and_each_is_one_line() -> None:
    findings = [Finding(level=level, check=level, seen="a", meaning="b", fix="c") for level in reversed(LEVELS)]
    assert [finding.level for finding in worst_first(findings)] == list(LEVELS)
    assert lines(findings, ERROR) == ["error: a: b; c."]
    assert Finding(level=FACT, check="x", seen="y").line == "x: y."


def test_a_slow_network_is_shown_few_images() -> None:
    from maxup_smoothing.certify.preflight.checks import _affordable

    shown = _affordable(subject(Nearest(), batch_size=16), replace(QUICK, seconds=0.0))
    assert len(shown.images_ICHW) == 16
    assert np.array_equal(shown.images_ICHW[1], images()[0][12])  # evenly spaced
