"""Wraps models that are not PyTorch code: functions of arrays, ONNX files, and exported programs."""

# Shapes: B rows, K classes; C channels, H height, W width.

import importlib.util
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from maxup_smoothing.data.runtime import strict_json
from maxup_smoothing.data.runtime.atomic import file_sha256
from maxup_smoothing.data.runtime.memory import is_out_of_memory
from maxup_smoothing.data.runtime.user_code import logits_of

#: A function from float32 images (B, C, H, W) to logits (B, K), or to integer classes (B,); see `ArrayFunction`.
ArrayCallable = Callable[[Any], Any]


class ArrayFunction(nn.Module):
    """A module that calls a function from a batch of arrays or tensors to logits or classes.

    Args:
        function: A function from float32 images (B, C, H, W), in [0, 1] plus noise, to logits (B, K) or integer classes
            (B,). A negative class is a vote for no class. It must treat each row by itself. It gets NumPy arrays, or
            torch tensors if it fails on arrays.
        num_classes: Number of classes K, needed only if the function returns classes; 0 if unknown.

    Raises:
        ValueError: When called, if the function returns anything else.
    """

    def __init__(self, function: ArrayCallable, num_classes: int) -> None:
        super().__init__()
        self._function, self._num_classes = function, num_classes
        self._of_tensors: bool | None = None  # whether it takes tensors; unknown before the first call
        self.eval()

    def __deepcopy__(self, memo: dict[int, Any]) -> "ArrayFunction":
        """The same object: the user's function may hold state that cannot be copied, such as a runtime's session."""
        return self

    def after(self, first: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> "ArrayFunction":
        """The composition: the images go through ``first``, and its result through this function."""

        def both(x_BCHW: Any) -> Any:
            if isinstance(x_BCHW, Tensor):
                return self._function(torch.from_numpy(first(x_BCHW.cpu().numpy())).to(x_BCHW.device))
            return self._function(first(x_BCHW))

        return ArrayFunction(both, self._num_classes)

    def _called(self, x_BCHW: Tensor) -> Any:
        """What the function returns for an array, or for a tensor if it fails on arrays."""
        if self._of_tensors:
            return self._function(x_BCHW.detach())
        try:
            returned = self._function(np.ascontiguousarray(x_BCHW.detach().cpu().numpy()))
        except Exception as error:
            if self._of_tensors is not None or is_out_of_memory(error):
                raise
            try:
                returned = self._function(x_BCHW.detach())
            except Exception:
                raise error from None
            self._of_tensors = True
            return returned
        self._of_tensors = False
        return returned

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits, (B, K). Classes become logits of 1 for the class and 0 for the others; NaN for a negative class."""
        returned = self._called(x_BCHW)
        if isinstance(returned, Mapping | tuple) or hasattr(returned, "logits"):
            returned = logits_of(returned, len(x_BCHW), self._num_classes)
        if isinstance(returned, Tensor):
            returned = returned.detach().float().cpu() if returned.is_floating_point() else returned.cpu()
        found = np.asarray(returned)
        if found.ndim == 2 and np.issubdtype(found.dtype, np.floating):
            return torch.tensor(found, dtype=torch.float32, device=x_BCHW.device)
        if found.shape != x_BCHW.shape[:1] or not np.issubdtype(found.dtype, np.integer):
            raise ValueError(
                f"the function must return logits (B, K) or integer classes (B,), got {found.dtype} of shape "
                f"{found.shape} for {len(x_BCHW)} images."
            )
        if not self._num_classes:
            raise ValueError(
                "the function returns classes, and their number is not known: the images have no labels, or a class "
                "map numbers them; return logits (B, K)."
            )
        if found.size and found.max() >= self._num_classes:
            raise ValueError(f"the function returned class {found.max()}, but there are {self._num_classes} classes.")
        logits_BK = np.zeros((len(found), self._num_classes), dtype=np.float32)
        valid_B = found >= 0
        logits_BK[np.flatnonzero(valid_B), found[valid_B]] = 1
        logits_BK[~valid_B] = np.nan
        return torch.from_numpy(logits_BK).to(x_BCHW.device)


@dataclass(frozen=True)
class ForeignModel:
    """A model that was read from a program or an ONNX file.

    Attributes:
        model: The model as a module.
        batch_sizes: Smallest and largest batch that it accepts.
        sha256: SHA-256 of its file.
        pixels: Integer type of its input, whose pixels are from 0 to 255; None if it takes floats.
        inputs: Names of the inputs of an ONNX file.
        outputs: Further outputs of an ONNX file by name, with the size of the last dimension; None if not fixed.
        classes: Names of the classes, where `certify export` wrote the file; else empty.
    """

    model: nn.Module
    batch_sizes: tuple[int, int]
    sha256: str
    pixels: str | None = None
    inputs: tuple[str, ...] = ()
    outputs: Mapping[str, int | None] = field(default_factory=dict)
    classes: tuple[str, ...] = ()

    @property
    def pixels_text(self) -> str:
        """A note for the user on how the input of a model of 8-bit pixels is made."""
        return f"the model takes {self.pixels} pixels: noisy images are rounded to the nearest of 0 … 255 and clipped"


#: Name of what `certify export` says about a network, in a file's metadata: JSON.
METADATA = "maxup-smoothing"
ANY_BATCH = (1, 2**31)  # batch sizes of a model that accepts all
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
#: Integer inputs, taken as pixels from 0 to 255. For other integer types, such as int8 or uint16, the range is unclear.
_BYTES = {"tensor(uint8)": np.uint8, "tensor(int32)": np.int32, "tensor(int64)": np.int64}


def onnx_model(path: Path, image_shape: Sequence[int], num_classes: int, device: torch.device) -> ForeignModel:
    """Read a model from an ONNX file; onnxruntime runs it.

    Args:
        path: The ONNX file; one input (B, C, H, W), whose first output holds logits (B, K) or classes (B,). An integer
            input gets pixels from 0 to 255: noisy images, rounded to the nearest whole number and clipped.
        image_shape: Shape (C, H, W) of one image.
        num_classes: Number of classes K of the data set, for models that return classes; 0 if unknown.
        device: The CPU, or a CUDA device if the installed onnxruntime supports CUDA.

    Raises:
        ValueError: If onnxruntime is missing, or the file is not as described.
        FileNotFoundError: If the file does not exist.
    """
    _require_file(path)
    if importlib.util.find_spec("onnxruntime") is None:
        raise ValueError("ONNX models need onnxruntime; install it with pip install 'maxup-smoothing[onnx]'.")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # no error logs: each error also comes as an exception
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.type == "cuda":
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise ValueError("this onnxruntime has no CUDA; install onnxruntime-gpu, or pass --device cpu.")
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": device.index or 0}))
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise ValueError(f"onnxruntime cannot load {path}: {_line(error)}.") from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in {**_FLOATS, **_BYTES}:
        found = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
        raise ValueError(
            f"{path} must have one input (B, C, H, W) of floats, uint8, int32 or int64; it has {found}. Certify it "
            "through a factory that returns a function from float32 images to logits; let it round, clip and cast."
        )
    shape = inputs[0].shape
    if len(shape) != 4 or any(isinstance(a, int) and a != b for a, b in zip(shape[1:], image_shape, strict=True)):
        raise ValueError(
            f"{path} takes images of shape {shape}, the data set has (B, {', '.join(map(str, image_shape))}); a model "
            "of (B, H, W, C) is certified through a factory that returns a function which transposes."
        )
    name, output, kind = inputs[0].name, session.get_outputs()[0].name, {**_FLOATS, **_BYTES}[inputs[0].type]
    pixels = inputs[0].type[7:-1] if inputs[0].type in _BYTES else None

    def run(x_BCHW: NDArray[np.float32]) -> ArrayLike:
        if pixels is not None:
            x_BCHW = np.clip(np.rint(x_BCHW * np.float32(255)), 0, 255)
        try:
            found: NDArray[Any] = session.run([output], {name: x_BCHW.astype(kind, copy=False)})[0]
        except Exception as error:
            raise ValueError(f"onnxruntime cannot run {path}: {_line(error)}.") from error
        return found

    sizes = (shape[0], shape[0]) if isinstance(shape[0], int) else ANY_BATCH
    # The SHA-256 does not cover weights in external files; `BaseClassifier.fingerprint` covers them by the logits.
    others = {one.name: one.shape[-1] if one.shape else None for one in session.get_outputs()[1:]}
    classes = _classes(session.get_modelmeta().custom_metadata_map.get(METADATA))
    return ForeignModel(ArrayFunction(run, num_classes), sizes, file_sha256(path), pixels, (name,), others, classes)


def program(path: Path, num_classes: int) -> ForeignModel:
    """Read a TorchScript program onto the CPU. A frozen program stays there, because nothing can move its weights.

    Args:
        path: The TorchScript file; its program has one input (B, C, H, W).
        num_classes: Number of classes K of the data set; 0 if unknown.

    Raises:
        ValueError: If torch cannot read the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "TorchScript is deprecated": the user cannot act on that here
            told = {METADATA: ""}
            script = torch.jit.load(path, map_location="cpu", _extra_files=told)
    except Exception as error:  # a damaged file can raise any exception
        raise ValueError(f"{path} is not a TorchScript program that this torch can read: {_line(error)}.") from error
    if not hasattr(script, "training"):  # frozen: its weights are constants of the code, which nothing can move
        frozen = ArrayFunction(lambda x_BCHW: script(torch.from_numpy(x_BCHW)).detach().numpy(), num_classes)
        return ForeignModel(frozen, ANY_BATCH, file_sha256(path), classes=_classes(told[METADATA]))
    for parameter in script.parameters():
        parameter.requires_grad_(False)  # else copies of it would belong to an autograd graph
    model = nn.Sequential(script)
    model.training = script.training
    return ForeignModel(model, ANY_BATCH, file_sha256(path), classes=_classes(told[METADATA]))


def exported_program(path: Path, device: torch.device) -> ForeignModel:
    """Read a program that ``torch.export.save`` wrote.

    Args:
        path: The file; its program has one input (B, C, H, W), and was exported in evaluation mode.
        device: The device on which the program will run; its constants are moved there.

    Raises:
        ValueError: If the file is not as described.
        FileNotFoundError: If the file does not exist.
    """
    from torch.export.passes import move_to_device_pass

    _require_file(path)
    logger = logging.getLogger("torch.export")
    level = logger.level
    try:
        logger.setLevel(logging.CRITICAL)  # else it prints a traceback before our one-line message
        told = {METADATA: ""}
        program = torch.export.load(path, extra_files=told)
    except Exception as error:  # from the zip file, the schema, or operators that are not registered
        raise ValueError(f"{path} is not a torch.export program that this torch can read: {_line(error)}.") from error
    finally:
        logger.setLevel(level)
    for node in program.graph.nodes:
        if "norm" in str(node.target) and _argument(node, "training", False):
            raise ValueError(f"{path} was exported in training mode; call model.eval() before torch.export.export.")
        if "dropout" in str(node.target) and _argument(node, "train", False):
            raise ValueError(f"{path} was exported with dropout on; call model.eval() before torch.export.export.")
    inputs = program.graph_signature.user_inputs
    node = next((node for node in program.graph.nodes if node.name == inputs[0]), None) if len(inputs) == 1 else None
    if node is None or len(node.meta["val"].shape) != 4:
        raise ValueError(f"{path} must have one input, of shape (B, C, H, W); it has {len(inputs)}.")
    size = node.meta["val"].shape[0]
    if isinstance(size, int):
        sizes = (size, size)
    else:
        limits = program.range_constraints[size.node.expr]
        sizes = (max(1, int(limits.lower)), int(min(limits.upper, ANY_BATCH[1])))
    model = move_to_device_pass(program, str(device)).module() if device.type != "cpu" else program.module()
    for module in model.modules():
        module.training = False  # the program fixes the mode, which was checked above; it does not support eval()
    return ForeignModel(model, sizes, file_sha256(path), classes=_classes(told[METADATA]))


def _classes(told: str | bytes | None) -> tuple[str, ...]:
    """The class names in the metadata of a file; empty if they say nothing that can be read."""
    try:
        found = strict_json.parse(told)["classes"] if told else []
    except (ValueError, KeyError, TypeError):
        return ()
    return tuple(found) if isinstance(found, list) and all(isinstance(name, str) for name in found) else ()


def _argument(node: Any, name: str, default: Any) -> Any:
    """The value of an operator's argument, looked up by its name in the operator's schema."""
    if not hasattr(node.target, "_schema"):
        return default
    for position, argument in enumerate(node.target._schema.arguments):
        if argument.name == name:
            return node.args[position] if position < len(node.args) else node.kwargs.get(name, default)
    return default


def _require_file(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"no model at {path}.")


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:200].rstrip(".") if lines else type(error).__name__
