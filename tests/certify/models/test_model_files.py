"""Model files with types or batch sizes of their own: ONNX of bytes, one image at a time, TorchScript."""

import json
from pathlib import Path
from typing import Any

import certify_command
import numpy as np
import onnx
import pytest
import torch
from certify_command import certify
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from maxup_smoothing.certify.models import loading

_here = certify_command.here
SHAPE = (1, 28, 28)
RUN = ["--data", "images.npz", "--sigma", "0.5", "--n", "100", "--limit", "2", "--seed", "1", "--no-check"]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()


def write_onnx(path: str, kind: int = TensorProto.FLOAT, reshape: bool = False, scale: float = 255.0) -> None:
    """The network of pixels divided by ``scale``; with ``reshape`` it has room for one image, whatever it says."""
    weight, bias = (tensor.detach().numpy() for tensor in network()[1].parameters())
    constants = {"w": weight, "b": bias, "d": np.float32(scale), "s": np.array([1, 784])}
    flat = helper.make_node("Reshape", ["i", "s"], ["f"]) if reshape else helper.make_node("Flatten", ["i"], ["f"])
    nodes = [
        helper.make_node("Cast", ["x"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["c", "d"], ["i"]),
        flat,
        helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, ["N", *SHAPE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)


@pytest.mark.parametrize("kind", ["UINT8", "INT32", "INT64"])
def test_a_model_of_bytes_gets_noisy_images_rounded_and_clipped(kind: str) -> None:
    write_onnx("bytes.onnx", getattr(TensorProto, kind))
    loaded = loading.load("bytes.onnx", SHAPE, 10)
    assert loaded.source["pixels"] == kind.lower()
    assert f"takes {kind.lower()} pixels: noisy images are rounded" in loaded.notes[0]
    x = torch.linspace(-1, 2, 2 * 784).reshape(2, *SHAPE)
    on_grid = (x * 255).round().clamp(0, 255) / 255
    torch.testing.assert_close(loaded.model(x), network()(on_grid), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match=f"takes {kind.lower()} pixels; leave --normalize out"):
        loading.load("bytes.onnx", SHAPE, 10, normalize="0.5/0.5")


@pytest.mark.parametrize("kind", ["UINT16", "INT8"])
def test_a_model_of_other_integers_is_refused_with_the_way_out(kind: str) -> None:
    write_onnx("other.onnx", getattr(TensorProto, kind))
    with pytest.raises(
        ValueError, match=rf"it has x tensor\({kind.lower()}\).*a factory that returns a function .*round"
    ):
        loading.load("other.onnx", SHAPE, 10)


@pytest.mark.parametrize("batch_size", [[], ["--batch-size", "1"]])
def test_a_file_that_claims_any_batch_and_has_room_for_one_runs_with_one(
    batch_size: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    write_onnx("claims.onnx", reshape=True, scale=1.0)
    certify("run", "claims.onnx", *RUN, *batch_size, "--out", "a.tsv")
    assert json.loads(Path("a.manifest.json").read_text())["classifier"]["batch_size"] == 1
    assert "onnxruntime" not in capfd.readouterr().err
    if not batch_size:
        assert loading.load("claims.onnx", SHAPE, 10).notes == (
            "claims.onnx takes one image at a time, so it runs at batch size 1",
        )
    with pytest.raises(ValueError, match=r"takes batches of 1 images; pass --batch-size 1\.$"):
        certify("run", "claims.onnx", *RUN, "--batch-size", "16", "--out", "b.tsv")


ENGINES = """
import torch
from torch import nn
class Engine(nn.Module):
    def __init__(self, rows):
        super().__init__()
        self.rows, self.layers = rows, nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    def forward(self, x):
        if len(x) != self.rows:
            raise RuntimeError(f"this engine was built for batches of {self.rows}, got {len(x)}")
        return self.layers(x)
def sixteen():
    return Engine(16).eval()
def one():
    model = Engine(1).eval()
    return lambda x: model(torch.from_numpy(x)).detach().numpy()
def broken():
    return nn.Linear(3, 10).eval()
"""


def test_a_model_of_one_batch_size_is_tried_and_run_with_that_of_the_user() -> None:
    Path("engines.py").write_text(ENGINES)
    certify("run", "engines:sixteen", *RUN, "--batch-size", "16", "--out", "a.tsv")
    certify("run", "engines:one", *RUN, "--batch-size", "1", "--out", "b.tsv")
    assert loading.load("engines:sixteen", SHAPE, 10, batch_size=16).batch_sizes == (16, 16)
    assert loading.load("engines:one", SHAPE, 10).batch_sizes == (1, 1)
    with pytest.raises(
        ValueError, match=r"built for batches of 16, got 2 \(engines\.py:\d+\); if it .* --batch-size\.$"
    ):
        loading.load("engines:sixteen", SHAPE, 10)
    with pytest.raises(ValueError, match="does not take 1x28x28") as found:
        loading.load("engines:broken", SHAPE, 10, batch_size=8)
    assert "--batch-size" not in str(found.value)


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = network()

    def forward(self, x: Tensor) -> Tensor:
        found = self.layers(x)
        return found * 2 if bool(x.sum() > 1e9) else found


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("kind", ["trace", "script", "freeze"])
def test_a_program_of_torchscript_is_certified_as_its_module(kind: str, recwarn: pytest.WarningsRecorder) -> None:
    program: Any = (
        torch.jit.trace(network(), torch.rand(2, *SHAPE)) if kind == "trace" else torch.jit.script(Branch().eval())
    )
    torch.jit.save(program, "program.pt")
    recwarn.clear()
    loaded = loading.load("program.pt", SHAPE, 10)
    assert not recwarn.list
    assert loaded.source["kind"] == "torchscript"
    x = torch.rand(5, *SHAPE)
    assert torch.equal(loaded.model(x), network()(x))
    certify("run", "program.pt", *RUN, "--batch-size", "16", "--out", "a.tsv")
    assert "EXACT" in certify("verify", "a.tsv")
    certify("run", "program.pt", *RUN, "--normalize", "0.3/0.4", "--batch-size", "16", "--out", "b.tsv")
    with pytest.raises(
        ValueError, match=r"only for files that hold nothing but weights; program\.pt also describes its model"
    ):
        loading.load("program.pt", SHAPE, 10, arch="small")


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_program_in_training_mode_or_a_damaged_one_is_refused() -> None:
    torch.jit.save(torch.jit.script(network().train()), "training.pt")
    with pytest.raises(ValueError, match="training mode"):
        loading.load("training.pt", SHAPE, 10)
    torch.jit.save(torch.jit.script(network()), "whole.pt")
    content: bytes = Path("whole.pt").read_bytes()
    Path("cut.pt").write_bytes(content[:-200])
    with pytest.raises(ValueError, match=r"holds weights only|no TorchScript|damaged"):
        loading.load("cut.pt", SHAPE, 10)


def test_a_function_that_rounds_is_the_way_out() -> None:
    """What the refusal of other integers recommends."""
    write_onnx("wide.onnx", TensorProto.UINT16)
    Path("wide.py").write_text(
        "import numpy as np, onnxruntime\n"
        "def load():\n"
        "    session = onnxruntime.InferenceSession('wide.onnx')\n"
        "    def function(x):\n"
        "        return session.run(None, {'x': np.clip(np.rint(x * 255), 0, 255).astype(np.uint16)})[0]\n"
        "    return function\n"
    )
    assert loading.load("wide:load", SHAPE, 10).num_classes == 10
