"""Texts cut into columns and windows."""

# Shapes: N tokens, B columns of L words, T words in a window.

from collections.abc import Iterator
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor


def pairs(stream_N: NDArray[Any], eos: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Words and the words after them, int64, (N,) each: every token of a text is predicted once, the first from eos."""
    next_N = torch.from_numpy(stream_N).to(device)
    return torch.cat([next_N.new_tensor([eos]), next_N[:-1]]), next_N


def columns(tokens_N: Tensor, count: int) -> Tensor:
    """Consecutive pieces of equal length, (count, N // count); fewer than ``count`` tokens at the end are left out.

    Raises:
        ValueError: If there are fewer tokens than columns.
    """
    length = len(tokens_N) // count
    if not length:
        raise ValueError(f"batch_size = {count} columns need as many tokens; the training text has {len(tokens_N)}.")
    return tokens_N[: count * length].view(count, length)


def windows(length: int, size: int, first: int) -> Iterator[slice]:
    """Windows of ``size`` that cover a column once, in order; the one in front has ``first``, the last what is left."""
    start = 0
    while start < length:
        stop = min(length, start + (size if start else first))
        yield slice(start, stop)
        start = stop
