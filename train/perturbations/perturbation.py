"""What every perturbation is, and what those that compute with pixels take."""

from collections.abc import Callable

import torch
from torch import Tensor

#: From a batch, its targets and a generator on the batch's device to both anew.
Perturbation = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


def require_floating(x: Tensor, what: str) -> None:
    """Raise ``ValueError`` if inputs are whole numbers, which ``what`` would round to nonsense."""
    if not x.is_floating_point():
        raise ValueError(f"{what} takes floating-point inputs, got {x.dtype}; pass images as x.float() / 255.")
