"""What the checks before a run find: each fault is caught, and nothing is said of a model that has none."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from certify.classifier import BaseClassifier
from certify.foreign import ArrayFunction
from certify.preflight.examination import QUICK, THOROUGH, examine
from certify.preflight.finding import ERROR, FACT, LEVELS, WARNING, Finding, lines, worst_first
from certify.preflight.reach import settings_findings
from certify.preflight.stability import row_findings
from certify.preflight.subject import Subject
from certify.sampling import Sampling
from certify.smoothing import noise_source
from data import registry

SIGMA, SHAPE = 0.25, (1, 28, 28)
MEAN, STD = 0.1307, 0.3081


@lru_cache(maxsize=1)
def images() -> tuple[Tensor, Tensor]:
    sample = registry.load("fashion-sample", "test")
    return torch.from_numpy(sample.images[:200].copy()), torch.from_numpy(sample.labels[:200].copy())


@lru_cache(maxsize=1)
def means() -> Tensor:
    """Of each class of the training images, (K, D)."""
    sample = registry.load("fashion-sample", "train")
    x_ND, labels_N = torch.from_numpy(sample.images).flatten(1) / 255, torch.from_numpy(sample.labels)
    return torch.stack([x_ND[labels_N == k].mean(0) for k in range(10)])


class Nearest(nn.Module):
    """The class of the nearest mean; right for two images of three, under noise, too.

    With ``raw`` False it expects images that somebody has normalised.
    """

    def __init__(self, raw: bool = True) -> None:
        super().__init__()
        mean, std = (0.0, 1.0) if raw else (MEAN, STD)
        means_KD = (means() - mean) / std
        self.linear = nn.Linear(784, 10)
        self.linear.weight.data.copy_(means_KD)
        self.linear.bias.data.copy_(-(means_KD**2).sum(1) / 2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.linear(x_BCHW.flatten(1))
        return logits_BK


def subject(model: nn.Module, batch_size: int = 64, dtype: str = "float32", **changes: Any) -> Subject:
    images_ICHW, labels_I = images()
    f = BaseClassifier(model.eval(), 10, batch_size=batch_size, dtype=dtype, image_shape=SHAPE)
    given = Subject(
        classifier=f,
        images_ICHW=images_ICHW,
        labels_I=labels_I,
        sigma=SIGMA,
        make_noise=lambda seed: noise_source("exact", SIGMA, seed),
        seed=1,
        model=model,
    )
    return replace(given, **changes)


def found(one: Subject, level: str) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(one, QUICK) if finding.level == level}


def test_nothing_is_said_against_a_good_model() -> None:
    findings = examine(subject(Nearest()), THOROUGH, Sampling(sigma=SIGMA, n0=100, alpha=0.001), [0.0, 0.5])
    assert {finding.level for finding in findings} == {FACT}, findings
    checks = {finding.check for finding in findings}
    assert checks == {"pixels", "noise", "rows", "finite logits", "accuracy", "repetition", "radii"}
    [accuracy] = [finding.seen for finding in findings if finding.check == "accuracy"]
    right = int((Nearest()(images()[0] / 255).argmax(1) == images()[1]).sum())
    assert f"clean {right} of 200 right" in accuracy


class BatchNormOfTheBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.inner = nn.BatchNorm2d(1, affine=False, track_running_stats=False), Nearest()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.inner(self.norm(x_BCHW))
        return logits_BK


class TrainingNorm(nn.Module):
    """Batch norm in training mode that no ``training`` flag shows, with its running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("variance", torch.ones(1))
        self.inner = Nearest()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        mean, variance = self.get_buffer("mean"), self.get_buffer("variance")
        normed_BCHW = nn.functional.batch_norm(x_BCHW, mean, variance, training=True)
        logits_BK: Tensor = self.inner(normed_BCHW)
        return logits_BK


class AlwaysDropping(Nearest):
    def forward(self, x_BCHW: Tensor) -> Tensor:
        return super().forward(nn.functional.dropout(x_BCHW, 0.3, training=True))


class DynamicallyQuantised(Nearest):
    """Eight bits, with a scale from the largest value of the whole batch."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        scale = x_BCHW.abs().amax() / 127
        return super().forward((x_BCHW / scale).round() * scale)


class QuantisedByRow(Nearest):
    """The same with a scale for each row, which is sound."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        scale_B111 = x_BCHW.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
        return super().forward((x_BCHW / scale_B111).round() * scale_B111)


class ByPlace(Nearest):
    """Another answer in the first rows of a batch."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        places_B1 = torch.arange(len(x_BCHW))[:, None]
        return super().forward(x_BCHW) * torch.where(places_B1 < 8, -1.0, 1.0)


DEPENDENT = [BatchNormOfTheBatch, TrainingNorm, AlwaysDropping, DynamicallyQuantised, ByPlace]


@pytest.mark.parametrize("model", DEPENDENT)
def test_rows_that_depend_on_their_batch_are_errors_and_refused_in_any_case(model: Callable[[], nn.Module]) -> None:
    one = subject(model())
    assert "void" in found(one, ERROR)["rows"].meaning
    with pytest.raises(ValueError, match="changes with the other images of its batch"):
        one.classifier.require_independent_rows(SHAPE)


def test_a_quantised_function_of_arrays_that_returns_classes_is_caught() -> None:
    """Classes hide small changes of the logits; images near a boundary show them."""
    network = DynamicallyQuantised().eval()

    def function(x_BCHW: Any) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(x_BCHW)).argmax(1).numpy()

    assert "rows" in found(subject(ArrayFunction(function, 10)), ERROR)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_a_scale_for_each_row_is_no_fault(batch_size: int) -> None:
    [finding] = row_findings(subject(QuantisedByRow(), batch_size=batch_size, images_ICHW=images()[0][:8]))
    assert finding.level == FACT


def test_a_dynamically_quantised_onnx_model_is_caught() -> None:
    """DynamicQuantizeLinear takes one scale from all rows, as onnxruntime's quantize_dynamic has it."""
    onnxruntime = pytest.importorskip("onnxruntime")
    weight_KD = Nearest().linear.weight.detach().numpy()
    bias_K = Nearest().linear.bias.detach().numpy()
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("DynamicQuantizeLinear", ["flat"], ["q", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["back"]),
        helper.make_node("Gemm", ["back", "w", "b"], ["logits"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "quantised",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", *SHAPE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 10])],
        [numpy_helper.from_array(weight_KD, "w"), numpy_helper.from_array(bias_K, "b")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(made)
    session = onnxruntime.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"])
    one = subject(ArrayFunction(lambda x_BCHW: session.run(None, {"x": x_BCHW})[0], 10))
    assert "rows" in found(one, ERROR)
    with pytest.raises(ValueError, match="quantisation by batch"):
        one.classifier.require_independent_rows(SHAPE)


class Counting(Nearest):
    """A buffer that every forward pass changes, without any effect so far."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("passes", torch.zeros(()))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.get_buffer("passes").add_(1)
        return super().forward(x_BCHW)


class Remembering(Nearest):
    """What it remembers is no buffer, and is felt after some passes."""

    passes = 0

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.passes += 1
        return super().forward(x_BCHW).roll(self.passes // 6, dims=1)


class Trembling(Nearest):
    """As atomic additions on a GPU are: other last bits at every call."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BK = super().forward(x_BCHW)
        return logits_BK * (1 + 1e-6 * torch.randn(len(logits_BK), 1))


def test_a_model_that_changes_is_an_error_and_one_that_trembles_is_not() -> None:
    assert "state" in found(subject(Counting()), ERROR)
    assert "repetition" in found(subject(Remembering()), ERROR)
    trembling = examine(subject(Trembling()), QUICK)
    assert lines(trembling, ERROR) == []
    [repeated] = [finding for finding in trembling if finding.check == "repetition"]
    assert "differ by up to" in repeated.seen


def test_logits_that_are_not_finite_are_warned_of_and_refused_if_all_are() -> None:
    class Sometimes(Nearest):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            return torch.where(x_BCHW[:, 0, :1, 0] > 0.5, torch.nan, super().forward(x_BCHW))

    class Never(Nearest):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            return super().forward(x_BCHW) * torch.inf

    assert "lowers radii" in found(subject(Sometimes()), WARNING)["finite logits"].meaning
    assert "nothing can be certified" in found(subject(Never()), ERROR)["finite logits"].meaning


def test_another_arithmetic_that_gives_other_classes_is_warned_of() -> None:
    class Fine(Nearest):
        """Differences far below the resolution of bfloat16."""

        def forward(self, x_BCHW: Tensor) -> Tensor:
            return (super().forward(x_BCHW) + 1e4).contiguous()

    warned = found(subject(Fine(), dtype="bfloat16"), WARNING)
    assert "f in bfloat16 and in float32 differ" in warned["arithmetic"].seen
    assert "certify transfer" in warned["arithmetic"].fix
    assert "arithmetic" in found(subject(Nearest(), dtype="bfloat16"), FACT)


def test_a_folded_network_is_compared_with_the_one_that_was_given() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 26 * 26, 10)).eval()
    one = subject(network)
    assert one.classifier.folding == "1 batch norms folded"
    seen = found(one, FACT)["arithmetic"].seen
    assert "f, folded, and the network as it was given differ in the class of 0 of 128 noisy images" in seen
    # 1 - 0.05 ** (1 / 128) = 0.02313, rounded up.
    assert "less than 2.32%" in seen
    other = replace(one, model=nn.Sequential(network[0], network[1], nn.Flatten(), nn.Linear(4 * 26 * 26, 10)).eval())
    assert "arithmetic" in found(other, WARNING)


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
    assert "0 … 1 of 0 … 255" in found(subject(Nearest(), images_ICHW=images_ICHW // 255), WARNING)["pixels"].seen
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
    assert "may have been trained on: mnist, train" in said({}, {"name": "mnist", "split": "train"})
    assert said({}, {"name": "mnist", "split": "test", "trained_on": "mnist"}) == ""
    assert "trained on: a.npz" in said({}, {"name": "a.npz", "split": "file", "trained_on": "a.npz"})
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
    from certify.preflight.examination import _affordable

    shown = _affordable(subject(Nearest(), batch_size=16), replace(QUICK, seconds=0.0))
    assert len(shown.images_ICHW) == 16
    assert np.array_equal(shown.images_ICHW[1], images()[0][12])  # evenly spaced
