"""Functions whose answer to a row depends on its batch, its place or chance: all are caught, sound ones pass."""

from collections.abc import Callable
from typing import Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from preflight_subjects import SHAPE, Nearest, found, images, subject
from torch import Tensor, nn

from maxup_smoothing.certify.models.adapters import ArrayFunction
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.preflight.finding import ERROR, FACT
from maxup_smoothing.certify.preflight.independence import require_independent
from maxup_smoothing.certify.preflight.model import row_findings


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


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (BatchNormOfTheBatch, "with the other images of its batch"),
        (TrainingNorm, "from call to call"),
        (AlwaysDropping, "from call to call"),
        (DynamicallyQuantised, "with the other images of its batch"),
        (ByPlace, "with the other images of its batch"),
    ],
)
def test_rows_that_depend_on_their_batch_are_errors_and_refused_in_any_case(
    model: Callable[[], nn.Module], reason: str
) -> None:
    one = subject(model())
    assert "void" in found(one, ERROR)["rows"].meaning
    with pytest.raises(ValueError, match=f"changes {reason}"):
        require_independent(one.classifier, images()[0], ExactNoise(0.25, 0))


def test_a_quantised_function_of_arrays_that_returns_classes_is_caught() -> None:
    """Classes hide small changes of the logits; images near a boundary show them."""
    network = DynamicallyQuantised().eval()

    def function(x_BCHW: Any) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(x_BCHW)).argmax(1).numpy()

    assert "rows" in found(subject(ArrayFunction(function, 10)), ERROR)


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_a_scale_for_each_row_is_no_fault(batch_size: int) -> None:
    [finding] = row_findings(subject(QuantisedByRow(), batch_size=batch_size, images_ICHW=images()[0][:8]), seconds=1.0)
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
        require_independent(one.classifier, images()[0], ExactNoise(0.25, 0))
