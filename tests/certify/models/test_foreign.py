"""Functions of arrays, ONNX files and exported programs get the votes of the module that they equal."""

import importlib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from typer.testing import CliRunner

from maxup_smoothing.certify.commands.app import app
from maxup_smoothing.certify.models import loading
from maxup_smoothing.certify.models.adapters import ArrayFunction, exported_program, onnx_model
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.smoothing import SmoothedClassifier
from maxup_smoothing.certify.tables.radius_table import read
from maxup_smoothing.data import registry

SHAPE, CPU = (1, 28, 28), torch.device("cpu")


class Small(nn.Module):
    """Convolution, batch norm, ReLU, mean over the image, linear: ten classes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv2d(1, 6, 5, padding=2), nn.BatchNorm2d(6)
        self.dropout, self.linear = nn.Dropout(0.5), nn.Linear(6, 10)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW = self.norm(self.convolution(x_BCHW)).relu()
        logits_BK: Tensor = self.linear(self.dropout(y_BCHW.mean((2, 3))))
        return logits_BK


@pytest.fixture
def small() -> Small:
    torch.manual_seed(0)
    model = Small()
    model(torch.randn(64, *SHAPE))  # statistics that are not 0 and 1
    nn.init.normal_(model.linear.weight, std=20)
    model.eval()
    grey = torch.rand(64, *SHAPE)
    with torch.no_grad():
        model.linear.bias.sub_(model(grey).mean(0))  # or one class would win everywhere
    return model


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    sample = registry.load("fashion-sample", "test")
    np.savez("images.npz", images=sample.images[:6, 0], labels=sample.labels[:6], classes=np.array(sample.classes))


def write_onnx(model: Small, path: str, batch: int | str = "batch", output: str = "logits") -> None:
    """The same network as an ONNX file; without an exporter, which would bring packages that nothing else needs."""
    constants = {name: tensor.detach().numpy() for name, tensor in model.state_dict().items() if tensor.dim()}
    norm = [f"norm.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
    nodes = [
        helper.make_node("Conv", ["x", "convolution.weight", "convolution.bias"], ["a"], pads=[2, 2, 2, 2]),
        helper.make_node("BatchNormalization", ["a", *norm], ["b"], epsilon=model.norm.eps),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("GlobalAveragePool", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "linear.weight", "linear.bias"], ["logits"], transB=1),
        helper.make_node("ArgMax", ["logits"], ["classes"], axis=1, keepdims=0),
    ]
    kinds = {"logits": (TensorProto.FLOAT, [batch, 10]), "classes": (TensorProto.INT64, [batch])}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *SHAPE])],
        [helper.make_tensor_value_info(output, *kinds[output])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10), path)


def write_program(model: nn.Module, path: str, batch: int | None = None) -> None:
    dynamic = None if batch else ({0: torch.export.Dim("batch", min=1, max=4096)},)
    example = torch.rand(batch or 4, *SHAPE)
    torch.export.save(torch.export.export(model, (example,), dynamic_shapes=dynamic), path)


def counts(model: str, *options: str) -> list[Any]:
    """The votes that ``certify run`` stores for each image."""
    command = ["run", model, "--data", "images.npz", "--sigma", "0.5", "--n", "300", "--seed", "1", "--overwrite"]
    result = CliRunner().invoke(app, [*command, "--out", "radii.tsv", *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return list(read("radii.tsv")["counts"])


@pytest.fixture
def expected(small: Small) -> list[Any]:
    """The votes of the module itself; spread over several classes, or the tests below would compare constants."""
    torch.save(small, "small.pth")
    Path("small_factory.py").write_text(
        "import torch\ndef load():\n    return torch.load('small.pth', weights_only=False).eval()\n"
    )
    found = counts("small_factory:load", "--batch-size", "64")
    assert len({label for votes in found for label in votes}) > 2
    return found


def close(found: Sequence[dict[int, int]], expected: Sequence[dict[int, int]]) -> bool:
    """Votes may differ where two logits are equal up to rounding: at most one of the 300."""
    return all(
        sum(abs(one.get(label, 0) - other.get(label, 0)) for label in {*one, *other}) <= 2
        for one, other in zip(found, expected, strict=True)
    )


@pytest.mark.parametrize("output", ["logits", "classes"])
def test_an_onnx_file_gets_the_votes_of_its_module(small: Small, expected: list[Any], output: str) -> None:
    write_onnx(small, "small.onnx", output=output)
    assert close(counts("small.onnx"), expected)


def test_a_program_gets_the_votes_of_its_module(small: Small, expected: list[Any]) -> None:
    write_program(small, "small.pt2")
    assert close(counts("small.pt2"), expected)


@pytest.mark.parametrize("write", [write_onnx, write_program])
def test_a_model_of_one_batch_size_is_certified_at_that_size(
    small: Small, expected: list[Any], write: Callable[..., None]
) -> None:
    path = "small.onnx" if write is write_onnx else "small.pt2"
    write(small, path, batch=16)
    assert close(counts(path), expected)
    wrong = CliRunner().invoke(app, ["run", path, "--data", "images.npz", "--sigma", "0.5", "--batch-size", "8"])
    assert isinstance(wrong.exception, ValueError)
    assert "takes batches of 16 images; pass --batch-size 16" in str(wrong.exception)


@pytest.mark.parametrize("kind", ["logits", "classes"])
def test_a_function_of_arrays_gets_the_votes_of_its_module(small: Small, kind: str) -> None:
    def function(x_BCHW: NDArray[np.float32]) -> ArrayLike:
        assert x_BCHW.flags.c_contiguous
        assert x_BCHW.dtype == np.float32
        with torch.no_grad():
            logits_BK = small(torch.from_numpy(x_BCHW)).numpy()
        return logits_BK if kind == "logits" else logits_BK.argmax(1)

    images = np.load("images.npz")["images"][:3, None]
    plain, wrapped = (SmoothedClassifier(model, 10, 0.5, seed=0) for model in (small, function))
    for one, other in zip(plain.certify(images, n=300), wrapped.certify(images, n=300), strict=True):
        assert np.abs(one.counts - other.counts).sum() <= 2


def test_a_factory_may_return_a_function(expected: list[Any]) -> None:
    text = Path("small_factory.py").read_text()
    text += "def function():\n    model = load()\n    return lambda x: model(torch.from_numpy(x)).detach().numpy()\n"
    Path("functions.py").write_text(text)
    assert close(counts("functions:function"), expected)


def test_negative_classes_are_votes_for_no_class() -> None:
    smoothed = SmoothedClassifier(lambda x: np.where(x[:, 0, 0, 0] > 0.5, 1, -1), 3, sigma=0.5, seed=0)
    [one] = smoothed.certify(np.full((1, 1, 2, 2), 128, np.uint8), n=400)
    assert one.counts[:3].tolist() == [0, one.n_a, 0]
    assert 0 < one.counts[3] == 400 - one.n_a


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: np.zeros(len(x)), "must return logits (B, K) or integer classes (B,), got float64"),
        (lambda x: np.zeros((len(x), 3), int), "must return logits (B, K) or integer classes (B,), got int64"),
        (lambda x: np.zeros(len(x) + 1, int), "of shape (2,) for 1 images"),
        (lambda x: np.full(len(x), 3), "returned class 3, but there are 3 classes"),
        (lambda x: np.zeros((len(x), 4), np.float32), "num_classes must be the number of its logits"),
        (lambda x: x.mean((1, 2, 3))[:, None] - x.mean() + np.zeros(3), "changes with the other images of its batch"),
    ],
)
def test_functions_that_return_something_else_are_refused(function: Any, message: str) -> None:
    smoothed = SmoothedClassifier(function, 3, sigma=0.5)
    with pytest.raises(ValueError, match=re.escape(message)):
        smoothed.certify(np.zeros((1, 1, 2, 2), np.uint8), n=100)


def test_a_function_has_its_own_arithmetic() -> None:
    with pytest.raises(ValueError, match="has its own arithmetic"):
        BaseClassifier(ArrayFunction(lambda x: x, 10), 10, dtype="bfloat16")


def test_programs_that_were_exported_for_training_are_refused(small: Small) -> None:
    write_program(small.train(), "small.pt2", batch=4)
    with pytest.raises(ValueError, match=r"exported in training mode; call model\.eval\(\)"):
        exported_program(Path("small.pt2"), CPU)
    dropping = nn.Sequential(nn.Dropout(), nn.Flatten(), nn.Linear(784, 10)).train()
    write_program(dropping, "dropping.pt2", batch=4)
    with pytest.raises(ValueError, match="exported with dropout on"):
        exported_program(Path("dropping.pt2"), CPU)


def test_files_that_are_something_else_are_refused(small: Small) -> None:
    write_onnx(small, "small.onnx")
    for path in (Path("bad.onnx"), Path("bad.pt2")):
        with pytest.raises(FileNotFoundError, match="no model at"):
            loading.load(str(path), SHAPE, 10)
        path.write_bytes(b"something else")
        with pytest.raises(ValueError, match=r"cannot load|is not a torch.export program"):
            loading.load(str(path), SHAPE, 10)
    with pytest.raises(ValueError, match=r"takes images of shape .* the data set has \(B, 3, 32, 32\)"):
        loading.load("small.onnx", (3, 32, 32), 10)
    with pytest.raises(ValueError, match="has 10 classes, the data set 7"):
        loading.load("small.onnx", SHAPE, 7)


def test_a_file_with_other_weights_does_not_continue_the_table(small: Small) -> None:
    def write() -> None:  # weights outside, as large models have them: the file itself stays the same
        write_onnx(small, "small.onnx")
        model = onnx.load("small.onnx")
        onnx.save(model, "small.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)

    write()
    before = onnx_model(Path("small.onnx"), SHAPE, 10, CPU).sha256
    command = ["run", "small.onnx", "--data", "images.npz", "--sigma", "0.5", "--n", "300"]
    assert CliRunner().invoke(app, [*command, "--limit", "2"], catch_exceptions=False).exit_code == 0
    assert CliRunner().invoke(app, [*command, "--limit", "3"], catch_exceptions=False).exit_code == 0
    with torch.no_grad():
        small.linear.bias[0] += 1e-3
    Path("weights.bin").unlink()
    write()
    assert onnx_model(Path("small.onnx"), SHAPE, 10, CPU).sha256 == before
    refused = CliRunner().invoke(app, [*command, "--limit", "4"])
    assert "classifier.logits_sha256" in str(refused.exception)
    assert len(read("radii.tsv")) == 3


def test_a_function_that_has_changed_does_not_continue_the_table() -> None:
    command = ["run", "limits:load", "--data", "images.npz", "--sigma", "0.5", "--n", "300", "--out", "radii.tsv"]
    function = "lambda x: np.eye(10, dtype=np.float32)[(x.mean((1, 2, 3)) > {}).astype(int)]"
    text = f"import numpy as np\ndef load():\n    return {function}\n"
    for limit, most, refused in ((0.30, "1", False), (0.30, "2", False), (0.34, "3", True)):
        Path("limits.py").write_text(text.format(limit))
        sys.modules.pop("limits", None)
        importlib.invalidate_caches()
        result = CliRunner().invoke(app, [*command, "--limit", most])
        assert ("this run uses classifier." in str(result.exception)) is refused


def test_without_onnxruntime_the_message_says_how_to_get_it(small: Small, monkeypatch: pytest.MonkeyPatch) -> None:
    write_onnx(small, "small.onnx")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'maxup-smoothing\[onnx\]'"):
        loading.load("small.onnx", SHAPE, 10)
