"""Forward passes when memory runs out: the same rows, fewer at a time.

This is sound. A certificate is about the function that was sampled, and that is the network on so many rows at a time:
another number of rows may round differently, which makes it another f, as another batch size does. So that no
certificate mixes the two, inputs in hand begin again with the same noise when the number changes (``scheduler``),
and the manifest says from which row on it holds. That memory ran out has nothing to do with the noise.
"""

# Shapes: B rows of a batch, K classes; C channels, H height, W width.

from collections.abc import Callable

import torch
from torch import Tensor


def advice(device: torch.device, dtype: str) -> str:
    """What a network of one row at a time can still do for less memory: only what is not done already."""
    other = ["--device cpu"] * (device.type != "cpu") + ["--dtype bfloat16"] * (dtype == "float32")
    return f"pass {' or '.join(other)}" if other else "free some memory"


def in_parts(function: Callable[[Tensor], Tensor], x_BCHW: Tensor, rows: int) -> Tensor:
    """``function`` on ``rows`` rows at a time, or on all if they are no more.

    The last part is filled up with rows of the one before it, so that all have one size.

    Returns:
        What it returns for all rows, (B, K).
    """
    total = len(x_BCHW)
    if total <= rows:
        return function(x_BCHW)
    whole = total - total % rows
    parts = [function(x_BCHW[start : start + rows]) for start in range(0, whole, rows)]
    if whole < total:
        parts.append(function(x_BCHW[-rows:])[whole - total :])
    return torch.cat(parts)
