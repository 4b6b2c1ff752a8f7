"""Makes faster forms of a network: batch norms folded into convolutions, and torch.compile with frozen weights."""

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
    """A copy of the model with its batch norms folded into their convolutions, if that is the same function.

    Folding is done in float64, and compared there with the original on noise around a grey image. It is given up if the
    logits differ, the model cannot be traced, or there is nothing to fold.

    Args:
        model: The network, in evaluation mode, with float32 weights, from (B, C, H, W) images to logits.
        image_shape: Shape (C, H, W) of one image.

    Returns:
        The copy and a note such as "17 batch norms folded"; or None and the reason, "not folded: …".
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
    except Exception as error:  # tracing a user's code can raise any exception, and folding is optional
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
    except Exception as error:  # some layers fix a dtype
        return None, f"not folded: cannot be run in float64 ({type(error).__name__})"
    if not (isinstance(expected, torch.Tensor) and isinstance(found, torch.Tensor)):
        return None, "not folded: the output is not a tensor"
    scale = expected.abs().max().clamp(min=1.0)
    if not bool(((expected - found).abs() <= TOLERANCE * scale).all()):
        return None, "not folded: the outputs differ"
    return folded.float().eval(), f"{done} batch norms folded"


def _fold(traced: GraphModule) -> GraphModule:
    """Fold every batch norm whose input is a convolution with no other reader."""
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
    """Compile a function of one batch; each later batch must have the shape, layout and device of ``x_BCHW``.

    Weights become constants, so that the CPU's kernels can choose their memory layout beforehand. On CUDA the whole
    pass is captured as a CUDA graph; its result is then valid only until the next call.

    Args:
        function: A function from a batch to a tensor that needs no gradients.
        x_BCHW: A batch on which the function is compiled and tried.

    Returns:
        The compiled function and None; or the function itself and the reason why it could not be compiled.
    """
    options: dict[str, str | int | bool | Callable[..., Any]] = {"freezing": True}
    options["triton.cudagraphs"] = x_BCHW.is_cuda
    try:
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about its own code
            torch._dynamo.reset()  # else the eighth batch size tried in one process would silently run uncompiled
            candidate: Function = torch.compile(function, dynamic=False, options=options)
            candidate(x_BCHW)
    except Exception as error:  # a missing compiler or an unusual network can raise anything; compiling is optional
        return function, _reason(error)
    return candidate, None


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if "C++ compiler" in text:
        return "no C++ compiler was found"
    return f"{type(error).__name__}: {text.splitlines()[0][:150]}" if text else type(error).__name__
