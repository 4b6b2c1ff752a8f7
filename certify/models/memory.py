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
