"""torch.compile with frozen weights: the same network in fewer passes over memory, after seconds of compiling."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

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
