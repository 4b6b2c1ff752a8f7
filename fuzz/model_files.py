"""Parsers of configurations, checkpoints and weights, and of numbers on a command line."""

import io
import json
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from fuzz.parser import Parser
from maxup_smoothing.analysis.commands import inputs
from maxup_smoothing.certify.commands import arguments
from maxup_smoothing.certify.models import loading
from maxup_smoothing.certify.models.normalizations import normalization
from maxup_smoothing.data.subset import protocol
from maxup_smoothing.train import checkpoint, config_file, models
from maxup_smoothing.train.run_folder import RunFolder

_SHAPE, _CLASSES = (1, 4, 4), 2
_CONFIG = """base = "fashion_sample_gaussian"
sigma = 0.25
augment = ["crop", "flip"]
mean = [0.5, 0.25]
seed = 7

[at_sigma."0.25"]
lr = 0.05
m = 4
"""


def _load_config(path: Path) -> None:
    config = config_file.load(str(path))
    path.write_text(config.to_toml(), encoding="utf-8")
    assert config_file.load(str(path)) == config, "what was written is not what is read"


def _text(read: Callable[[str], object]) -> Callable[[Path], object]:
    """A reader of the file's content as the text of a command line."""
    return lambda path: read(path.read_bytes().decode("utf-8", errors="surrogateescape"))


def _set(text: str) -> None:
    config_file.load("fashion_sample_gaussian", [text])


def _normalize(text: str) -> None:
    models.build("small", (3, 4, 4), 2, **dict(zip(("mean", "std"), normalization(text), strict=True)))


def _small() -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return models.build("small", _SHAPE, _CLASSES).eval()


@cache
def _checkpoints() -> list[bytes]:
    return [wrapped(_described())]


def _described() -> bytes:
    config = {"dataset": "fashion-sample", "sigma": 0.5}
    told = {"schema": 1, "arch": "small", "image_shape": _SHAPE, "num_classes": _CLASSES, "options": {}}
    return json.dumps({**told, "config": config, "classes": ["cat", "dog"], "epoch": 3, "versions": {}}).encode()


def wrapped(described: bytes) -> bytes:
    """A checkpoint whose metadata is this text."""
    from safetensors.torch import save

    text = described.decode("utf-8", errors="replace")
    return save(dict(_small().state_dict()), metadata={checkpoint.METADATA: text})


def _load_checkpoint(path: Path) -> None:
    loading.load(str(path), _SHAPE, _CLASSES)
    loading.trained_on(str(path))


def _load_described(path: Path) -> None:
    path.write_bytes(wrapped(path.read_bytes()))
    _load_checkpoint(path)


def _load_header(path: Path) -> None:
    """The file is the header of safetensors, that is JSON, followed by the weights of a real one."""
    data = _checkpoints()[0]
    size = struct.unpack("<Q", data[:8])[0]
    header = path.read_bytes()
    path.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + size :])
    _load_checkpoint(path)


@cache
def _headers() -> list[bytes]:
    data = _checkpoints()[0]
    return [data[8 : 8 + struct.unpack("<Q", data[:8])[0]]]


@cache
def _weights() -> list[bytes]:
    found = []
    state = {name.removeprefix("backbone."): tensor for name, tensor in _small().state_dict().items()}
    state = {name: tensor for name, tensor in state.items() if not name.startswith("normalize.")}
    for kept in (state, {"state_dict": {f"module.1.{name}": tensor for name, tensor in state.items()}, "epoch": 1}):
        for zipped in (True, False):
            stream = io.BytesIO()
            torch.save(kept, stream, _use_new_zipfile_serialization=zipped)
            found.append(stream.getvalue())
    return found


def _load_weights(path: Path) -> None:
    loading.load(str(path), _SHAPE, _CLASSES, arch="small")


@cache
def _states() -> list[bytes]:
    stream = io.BytesIO()
    torch.save({"data": "abc", "model": dict(_small().state_dict()), "finished": 1}, stream)
    return [stream.getvalue()]


def _find_state(path: Path) -> None:
    config = config_file.load("fashion_sample_gaussian")
    (path.parent / "config.toml").write_text(config.to_toml(), encoding="utf-8")
    RunFolder(path.parent).find_state(config, resume=True)


@cache
def _onnx() -> list[bytes]:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(torch.ones(16, _CLASSES).numpy(), "weight")
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "weight"], ["y"])]
    ends = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", *_SHAPE])]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", _CLASSES])]
    graph = helper.make_graph(nodes, "graph", ends, out, [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return [model.SerializeToString()]


@cache
def _exported() -> list[bytes]:
    stream = io.BytesIO()
    torch.export.save(torch.export.export(_small(), (torch.zeros(2, *_SHAPE),)), stream)
    return [stream.getvalue()]


def _load(path: Path) -> None:
    loading.load(str(path), _SHAPE, _CLASSES)


def _line(name: str, seeds: list[bytes], *readers: Callable[[str], object]) -> Parser:
    """Text of a command line."""
    return Parser(name=name, file="text", seeds=lambda: seeds, readers=tuple(map(_text, readers)), named=False)


PARSERS = [
    Parser(name="config", file="run.toml", seeds=lambda: [_CONFIG.encode()], readers=(_load_config,)),
    _line("set", [b"sigma=0.5", b'augment=["crop"]', b"dataset=x.npz", b"lr=1e-3", b"m=4"], _set),
    _line("radii", [b"0,0.25,0.5", b"1e-3", b"-1,nan,inf"], arguments.radii, inputs.numbers),
    _line("integers", [b"200,1000", b"1" * 30], lambda text: arguments.integers("--looks", text)),
    _line("batch_size", [b"auto", b"128"], arguments.batch_size),
    _line("protocol", [b"skip20", b"first500", b"full"], lambda text: protocol(text).indices(10_000)),
    _line("normalize", [b"0.5,0.5,0.5/0.2,0.2,0.2", b"0.5/0.25", b"cifar10", b"1/0", b"nan/inf"], _normalize),
    Parser(name="checkpoint", file="checkpoint.safetensors", seeds=_checkpoints, readers=(_load_checkpoint,)),
    Parser(
        name="checkpoint_metadata",
        file="checkpoint.safetensors",
        seeds=lambda: [_described()],
        readers=(_load_described,),
    ),
    Parser(name="checkpoint_header", file="checkpoint.safetensors", seeds=_headers, readers=(_load_header,)),
    Parser(name="weights", file="weights.pth", seeds=_weights, readers=(_load_weights,)),
    Parser(name="state", file="state.pt", seeds=_states, readers=(_find_state,)),
    Parser(name="onnx", file="model.onnx", seeds=_onnx, readers=(_load,), slow=2),
    Parser(name="exported", file="model.pt2", seeds=_exported, readers=(_load,), slow=20),
]
