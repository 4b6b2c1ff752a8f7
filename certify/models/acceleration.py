"""Faster forms of the same network: batch norm folded into convolutions, and torch.compile with frozen weights."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node, symbolic_trace
from torch.nn.utils.fusion import fuse_conv_bn_eval

from maxup_smoothing.certify.models.contents import copied

TOLERANCE = 1e-9  # relative, in float64, where folding itself changes logits by about 1e-15
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold_batch_norm(model: nn.Module, image_shape: Sequence[int]) -> tuple[nn.Module | None, str]:
    """A copy of the model whose batch norms are part of their convolutions, if that is the same function.

    Folding is done and compared with the original in float64, on noise around a grey image, and given up where the
    logits differ, where the model cannot be traced, or where there is nothing to fold.

    Args:
        model: In evaluation mode, in float32, from (B, C, H, W) images to logits.
        image_shape: (C, H, W).

    Returns:
        The copy, and what was done: "17 batch norms folded"; or None, and "not folded: …".
    """
    norms = _count(model)
    if not norms:
        return None, "not folded: no batch norm"
    original, reason = copied(model)
    if original is None:
        return None, f"not folded: the model cannot be copied ({reason})"
    try:
        original = original.double()
        folded = _fold(symbolic_trace(original))
    except Exception as error:  # whatever tracing meets in a user's code: it is not needed
        return None, f"not folded: cannot be traced ({type(error).__name__})"
    done = norms - _count(folded)
    if not done:
        return None, "not folded: no batch norm follows a convolution directly"
    device = next((tensor.device for tensor in (*model.parameters(), *model.buffers())), torch.device("cpu"))
    generator = torch.Generator(device).manual_seed(0)
    x = torch.empty((8, *image_shape), device=device, dtype=torch.float64).normal_(0.5, 1.0, generator=generator)
    try:
        with torch.inference_mode():
            expected, found = original(x.clone()), folded(x.clone())
    except Exception as error:  # layers that fix a dtype
        return None, f"not folded: cannot be run in float64 ({type(error).__name__})"
    if not (isinstance(expected, torch.Tensor) and isinstance(found, torch.Tensor)):
        return None, "not folded: the output is not a tensor"
    scale = expected.abs().max().clamp(min=1.0)
    if not bool(((expected - found).abs() <= TOLERANCE * scale).all()):
        return None, "not folded: the outputs differ"
    return folded.float().eval(), f"{done} batch norms folded"


def _fold(traced: GraphModule) -> GraphModule:
    """Fold every batch norm whose input is a convolution that nothing else reads."""
    modules = dict(traced.named_modules())
    for node in traced.graph.nodes:
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        before = node.args[0] if node.args else None
        if not isinstance(norm, _NORMS) or not isinstance(before, Node) or before.op != "call_module":
            continue
        convolution = modules[str(before.target)]
        if isinstance(convolution, _CONVOLUTIONS) and len(before.users) == 1 and norm.track_running_stats:
            traced.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def _count(model: nn.Module) -> int:
    return sum(isinstance(module, _NORMS) for module in model.modules())


Function = Callable[[Tensor], Tensor]


def compiled(function: Function, x_BCHW: Tensor) -> tuple[Function, str | None]:
    """A compiled form of a function of one batch, whose shape, layout and device stay those of ``x_BCHW``.

    Weights become constants, which lets the CPU's kernels lay them out beforehand. On CUDA the whole pass is captured
    as a CUDA graph; the function's result is then valid until the next call.

    Args:
        function: From a batch to a tensor; reads no gradients.
        x_BCHW: A batch on which to compile and try it.

    Returns:
        The compiled function, and None; or the function itself, and why it could not be compiled.
    """
    options: dict[str, str | int | bool | Callable[..., Any]] = {"freezing": True}
    options["triton.cudagraphs"] = x_BCHW.is_cuda
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about itself
            torch._dynamo.reset()  # or the eighth batch size tried in one process would silently run uncompiled
            candidate: Function = torch.compile(function, dynamic=False, options=options)
            candidate(x_BCHW)
    except Exception as error:  # whatever a compiler, its absence or an exotic network raises: it is not needed
        return function, _reason(error)
    return candidate, None


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if "C++ compiler" in text:
        return "no C++ compiler was found"
    return f"{type(error).__name__}: {text.splitlines()[0][:150]}" if text else type(error).__name__
