"""Compiled or not, f is the same network, and whatever stops the compiler stops nothing else."""

import pytest
import torch
from torch import Tensor, nn

from maxup_smoothing.certify.models import classifier as classifiers
from maxup_smoothing.certify.models import tuning
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.preflight.independence import require_independent
from maxup_smoothing.train import models

SHAPE = (1, 28, 28)


def lenet() -> nn.Module:
    torch.manual_seed(0)
    return models.build("lenet", SHAPE, 10).eval()


def build(compiled: bool) -> BaseClassifier:
    return BaseClassifier(lenet(), 10, batch_size=16, image_shape=SHAPE, compile=compiled)


def test_a_compiled_network_gives_the_same_classes() -> None:
    plain, fast = build(False), build(True)
    if fast.compiled == "no C++ compiler was found":
        pytest.skip("torch.compile needs a C++ compiler, and there is none")
    assert fast.compiled is None
    assert (plain.describe()["compiled"], fast.describe()["compiled"]) == (False, True)
    x_BCHW = fast.empty_batch(SHAPE).normal_(0.5, 0.5, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(fast._logits(x_BCHW), plain._logits(x_BCHW), rtol=0, atol=1e-4)
    require_independent(fast, torch.zeros(1, *SHAPE, dtype=torch.uint8), ExactNoise(0.5, 0))


def test_without_a_compiler_the_network_runs_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(x_BCHW: Tensor) -> Tensor:
        raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found in …\nand more")

    monkeypatch.setattr(torch, "compile", lambda function, **options: refuse)
    found = build(True)
    assert found.compiled == "no C++ compiler was found"
    assert found.classify(found.empty_batch(SHAPE).zero_()).tolist() == [found.classify(torch.zeros(1, *SHAPE))[0]] * 16


def test_a_compiler_that_changes_the_network_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifiers, "compiled", lambda function, x: (lambda x: function(x) + 1e-2, None))
    assert build(True).compiled == "the compiled network gives other logits"
    monkeypatch.setattr(classifiers, "compiled", lambda function, x: (lambda x: function(x) * torch.nan, None))
    assert build(True).compiled == "the compiled network gives other logits"
    monkeypatch.setattr(classifiers, "compiled", lambda function, x: (lambda x: function(x) + 1e-7, None))
    assert build(True).compiled is None


@pytest.mark.parametrize(
    ("seconds", "samples", "expected"),
    [((0.016, 0.008), 10**6, True), ((0.016, 0.0155), 10**6, False), ((0.016, 0.008), 10**5, False)],
    ids=["a long run that gains", "one that does not", "a short run"],
)
def test_only_a_long_run_that_gains_is_compiled(
    seconds: tuple[float, float], samples: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classifiers, "compiled", lambda function, x: (function, None))
    monkeypatch.setattr(tuning, "seconds_a_batch", lambda f, shape: seconds[f.compiled is None])
    assert (tuning.compiled_if_faster(build(False), SHAPE, samples).compiled is None) is expected


def test_a_batch_size_outside_the_limits_of_a_model_is_not_tried() -> None:
    plain = build(False)
    found = tuning.fastest_batch_size(plain, SHAPE, limits=(48, 80))
    assert found in (48, 64, 80)
    assert tuning.fastest_batch_size(plain, SHAPE, limits=(7, 7)) == 7


def test_only_a_model_whose_images_are_known_is_compiled() -> None:
    with pytest.raises(ValueError, match="image_shape must be given"):
        BaseClassifier(lenet(), 10, compile=True)
