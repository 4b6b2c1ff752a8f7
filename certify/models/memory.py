"""Splits a forward pass into parts with fewer rows when memory runs out.

This is sound. A certificate is about the function that was sampled: the network on a fixed number of rows at a time.
Another number of rows may round differently, so it makes another f, as another batch size does. No certificate mixes
the two: when the number changes, unfinished inputs begin again with the same noise (``scheduler``). The manifest
records from which row on the new number holds. Whether memory runs out does not depend on the noise.
"""

# Shapes: B rows of a batch, K classes; C channels, H height, W width.

from collections.abc import Callable

import torch
from torch import Tensor

#: Messages of allocators that do not raise torch.OutOfMemoryError.
_SAID = (
    "can't allocate memory",  # torch on a CPU
    "not enough memory",  # the same on Windows
    "out of memory",  # CUDA and its libraries
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "Failed to allocate memory",  # onnxruntime
    "bad allocation",
    "bad_alloc",
)


class OutOfMemory(ValueError):
    """Raised if memory runs out and f cannot take fewer rows at a time; the message names the fix."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error, or the one that it was raised from, says that memory has run out."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    if isinstance(error, RuntimeError) or error.__cause__ is not None:
        said = f"{error} {error.__cause__ or ''}"
        return any(words in said for words in _SAID)
    return False


def advice(device: torch.device, dtype: str) -> str:
    """How a user can save memory if even one row is too many; options that are already in use are left out."""
    other = ["--device cpu"] * (device.type != "cpu") + ["--dtype bfloat16"] * (dtype == "float32")
    return f"pass {' or '.join(other)}" if other else "free some memory"


def in_parts(function: Callable[[Tensor], Tensor], x_BCHW: Tensor, rows: int) -> Tensor:
    """Call ``function`` on ``rows`` rows at a time, or once if there are no more rows than that.

    The last part is filled up with rows of the part before it, so that all parts have the same size.

    Returns:
        The results for all rows, (B, K).
    """
    total = len(x_BCHW)
    if total <= rows:
        return function(x_BCHW)
    whole = total - total % rows
    parts = [function(x_BCHW[start : start + rows]) for start in range(0, whole, rows)]
    if whole < total:
        parts.append(function(x_BCHW[-rows:])[whole - total :])
    return torch.cat(parts)
