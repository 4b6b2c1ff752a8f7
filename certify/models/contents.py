"""Reads the content of a module: the dtypes of its weights, their hash, and copies of the module."""

import copy
import hashlib
import warnings
from collections.abc import Iterator, Mapping

import numpy as np
import torch
import torch.fx
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

FLOAT32, GIVEN = "float32", "given"


def own_arithmetic(model: nn.Module) -> str:
    """``"float32"`` if all floating-point and complex weights and buffers are float32, else ``"given"``."""
    return FLOAT32 if fractional_dtypes(model) <= {torch.float32} else GIVEN


def fractional_dtypes(model: nn.Module) -> set[torch.dtype]:
    """The dtypes of all floating-point and complex weights and buffers."""
    tensors = (*model.parameters(), *model.buffers())
    return {tensor.dtype for tensor in tensors if tensor.is_floating_point() or tensor.is_complex()}


def require_initialised(model: nn.Module) -> None:
    """Refuse a model with lazy layers that have not seen an input yet.

    Raises:
        ValueError: If a weight or buffer has no shape yet.
    """
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if is_lazy(tensor):
            raise ValueError(f"{name} of the model has no shape yet (a lazy layer); show the model one batch first.")


def copied(model: nn.Module) -> tuple[nn.Module | None, str]:
    """A deep copy and an empty text; or None and the type of the error, if the model cannot be copied."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # copying a torch.export program warns about torch's own code
        try:
            return copy.deepcopy(model), ""
        except Exception as error:  # a module may hold a lock, an open file, or weights computed from others
            return None, type(error).__name__


#: Packages whose modules do not change their state in a forward pass in evaluation mode.
_READ_ONLY = frozenset(("torch", "torchvision", "timm", "transformers", "maxup_smoothing"))


def beside(model: nn.Module) -> nn.Module | None:
    """A second model on the same weights, which may run in another thread at the same time; None if that may be unsafe.

    Only modules of known packages are accepted, because other code may share hidden state between two calls.
    """
    known = (
        type(module).__module__.partition(".")[0] in _READ_ONLY
        and all(_known(function) for function in _functions(module))
        and not any((module._forward_hooks, module._forward_pre_hooks, module._backward_hooks))
        for module in model.modules()
    )
    if not all(known):
        return None
    weights = {id(weight): weight for weight in model.parameters()}
    try:
        return copy.deepcopy(model, weights)
    except Exception:  # see `copied`
        return None


def _functions(module: nn.Module) -> Iterator[object]:
    """Functions that a module holds beside its class: attributes, such as a replaced forward, and calls of a graph."""
    yield from (value for value in vars(module).values() if callable(value) and not isinstance(value, type))
    if isinstance(module, torch.fx.GraphModule):
        yield from (node.target for node in module.graph.nodes if node.op == "call_function")


def _known(function: object) -> bool:
    where = getattr(function, "__module__", None) or "torch"  # torch's own built-in functions name no module
    return where.partition(".")[0] in _READ_ONLY | {"_operator", "builtins", "math"}


def weights_hash(model: nn.Module) -> str:
    """SHA-256 of the names, dtypes, shapes and values of all parameters, buffers and extra state, in order."""
    digest = hashlib.sha256()
    for name, value in _state(model).items():
        if isinstance(value, Tensor) and _dense(value):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            digest.update(_bytes(value))
        else:
            digest.update(f"{name} ".encode())
            for part in _contents(value):
                digest.update(part)
    return digest.hexdigest()


def not_hashed(model: nn.Module) -> list[str]:
    """Names of state entries whose values `weights_hash` cannot read; it hashes only their type."""
    return [name for name, value in _state(model).items() if b"unknown contents" in _contents(value)]


def _state(model: nn.Module) -> dict[str, object]:
    state = dict(model.state_dict())
    return {**state, **{name: buffer for name, buffer in model.named_buffers() if name not in state}}


def _dense(tensor: Tensor) -> bool:
    return tensor.layout == torch.strided and not tensor.is_quantized


def _bytes(tensor: Tensor) -> bytes:
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy().tobytes()


def _contents(value: object) -> Iterator[bytes]:
    """The content of ``value`` as pieces of bytes, for the hash."""
    if isinstance(value, Tensor):
        yield f"{value.layout} {value.dtype} {tuple(value.shape)}\n".encode()
        if value.is_quantized:
            steps = (
                (value.q_per_channel_scales(), value.q_per_channel_zero_points())
                if value.qscheme() in (torch.per_channel_affine, torch.per_channel_affine_float_qparams)
                else (value.q_scale(), value.q_zero_point())
            )
            yield from _contents((value.int_repr(), *steps))
        elif _dense(value):
            yield _bytes(value)
        else:
            yield _bytes(value.to_dense())
    elif isinstance(value, np.ndarray):
        yield from _contents(torch.from_numpy(np.ascontiguousarray(value)))
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _contents(name)
            yield from _contents(item)
    elif isinstance(value, tuple | list):
        yield f"{len(value)} of\n".encode()
        for item in value:
            yield from _contents(item)
    elif value is None or isinstance(value, bool | int | float | complex | str | bytes | torch.dtype):
        yield f"{value!r}\n".encode()
    else:
        yield f"{type(value).__qualname__}\n".encode()
        yield b"unknown contents"
