"""The base classifier as a file that other runtimes read: ONNX, a program of torch.export, or TorchScript."""

# Shapes: B rows, K classes; C channels, H height, W width.

import copy
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maxup_smoothing.certify.models.adapters import METADATA, ArrayFunction
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise.source import noisy
from maxup_smoothing.certify.runs.session import Session
from maxup_smoothing.data.runtime.atomic import write_atomically
from maxup_smoothing.data.runtime.user_code import logits_of

#: Kinds of file by their endings.
KINDS = (".onnx", ".pt2", ".pt")
_MOST_ROWS = 2**20


class _AsCertified(nn.Module):
    """f: float32 images to float32 logits, in the arithmetic that was certified."""

    def __init__(self, model: nn.Module, dtype: torch.dtype, num_classes: int) -> None:
        super().__init__()
        self.model, self._dtype, self._num_classes = model, dtype, num_classes

    def forward(self, x_BCHW: Tensor) -> Tensor:
        found = self.model(x_BCHW.to(self._dtype))
        if not isinstance(found, Tensor) or found.dim() != 2:
            found = logits_of(found, len(x_BCHW), self._num_classes)
        return found.float()


def write_export(session: Session, path: Path) -> None:
    """Write the base classifier of a session to a file, whole or not at all.

    Args:
        session: With f as it was certified, folded and cast, with its normalisation inside.
        path: Its ending says the kind.

    Raises:
        ValueError: If f cannot be exported, or a package is missing; with the fix.
        OSError: If the file cannot be written.
    """
    f = session.classifier
    if isinstance(f._model, ArrayFunction | torch.jit.ScriptModule) or f.randomized:
        raise ValueError("only a network of PyTorch that draws no random numbers can be exported.")
    try:
        model = copy.deepcopy(f._model).to("cpu", memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    except Exception as error:  # whatever a user's module raises
        raise ValueError(f"the network cannot be copied ({type(error).__name__}), so it cannot be exported.") from error
    module = _AsCertified(model, f.dtype, f.num_classes)
    module.training = False
    shown_NCHW = torch.from_numpy(session.dataset.images[[0] * 4])
    x_BCHW = noisy(shown_NCHW, session.noise)
    told = {
        "classes": list(session.dataset.classes),
        "sigma": session.sigma,
        "image_shape": list(x_BCHW.shape[1:]),
        "weights_sha256": f.sha256,
        "dtype": f.dtype_name,
        "input": "float32 (B, C, H, W) in [0, 1], with or without noise; the normalisation is inside",
        "output": "float32 logits (B, K)",
    }
    makers = {".onnx": _onnx, ".pt2": _program, ".pt": _script}
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about its own exporters
            content = makers[path.suffix](module, x_BCHW, told)
    except ValueError:
        raise
    except Exception as error:  # whatever an exporter meets in a user's code
        text = " ".join(str(error).split())[:200]
        raise ValueError(
            f"torch cannot export the network as {path.suffix} ({type(error).__name__}: {text})."
        ) from error
    write_atomically(path, content)


def require_kind(path: Path) -> None:
    """Refuse a file of another kind, or one whose packages are missing.

    Raises:
        ValueError: With the fix.
    """
    if path.suffix not in KINDS:
        raise ValueError(f"--to must end in {', '.join(KINDS)}, got {path}.")
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if path.suffix == ".onnx" and missing:
        raise ValueError(f"export to ONNX needs {', '.join(missing)}; install 'maxup-smoothing[onnx]' with pip.")


def require_same_logits(certified: BaseClassifier, exported: BaseClassifier, images_NCHW: Tensor, noise: Any) -> None:
    """Refuse an exported network whose logits are not those of f up to rounding, at batches of one row and of many.

    Raises:
        ValueError: With the number of rows that differ.
    """
    rows = certified.batch_size
    x_BCHW = noisy(images_NCHW[torch.arange(rows) % len(images_NCHW)], noise).to(certified.device)
    expected_BK = certified.logits(x_BCHW)
    for size in sorted({1, 3, rows}):
        part_BCHW = x_BCHW[:size].to(exported.device)
        found_BK = exported.resized(size).logits(part_BCHW).to(expected_BK)
        differing = int(certified.differing(expected_BK[:size], found_BK).sum())
        if differing:
            raise ValueError(
                f"the exported network has other logits than the certified one on {differing} of {size} noisy images."
            )


def _onnx(module: nn.Module, x_BCHW: Tensor, told: Mapping[str, Any]) -> bytes:
    for name in ("torch.onnx", "onnxscript", "onnx_ir"):
        logging.getLogger(name).setLevel(logging.ERROR)  # it tells every step
    program = torch.onnx.export(
        module,
        (x_BCHW,),
        dynamo=True,
        verbose=False,
        input_names=["images"],
        output_names=["logits"],
        dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=_MOST_ROWS)},),
    )
    assert program is not None
    proto = program.model_proto
    for name, value in {METADATA: dict(told), "classes": told["classes"]}.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = name, json.dumps(value)
    return bytes(proto.SerializeToString())


def _program(module: nn.Module, x_BCHW: Tensor, told: Mapping[str, Any]) -> bytes:
    rows = torch.export.Dim("batch", min=1, max=_MOST_ROWS)
    stream = io.BytesIO()
    program = torch.export.export(module, (x_BCHW,), dynamic_shapes=({0: rows},))
    torch.export.save(program, stream, extra_files={METADATA: json.dumps(told)})
    return stream.getvalue()


def _script(module: nn.Module, x_BCHW: Tensor, told: Mapping[str, Any]) -> bytes:
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(module, x_BCHW), stream, _extra_files={METADATA: json.dumps(told)})
    return stream.getvalue()
