"""The interface of a perturbation, several of them one after another, and Gaussian noise."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: From a batch, its targets and a generator on the batch's device to both anew.
Perturbation = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


def require_floating(x: Tensor, what: str) -> None:
    """Raise ``ValueError`` if inputs are whole numbers, which ``what`` would round to nonsense."""
    if not x.is_floating_point():
        raise ValueError(f"{what} takes floating-point inputs, got {x.dtype}; pass images as x.float() / 255.")


@dataclass(frozen=True)
class Compose:
    """One perturbation after another, from the same generator."""

    parts: Sequence[Perturbation]

    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What the last part returns."""
        for part in self.parts:
            x, y = part(x, y, generator)
        return x, y


@dataclass(frozen=True)
class GaussianNoise:
    """Add independent N(0, sigma^2) noise to every coordinate; nothing is clipped.

    Args:
        sigma: Standard deviation in units of the input ([0, 1] pixels), at least 0.
    """

    sigma: float

    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The noisy batch, shape and dtype of ``x``; the targets as they are.

        Raises:
            ValueError: If ``x`` is not of a floating-point dtype.
        """
        require_floating(x, "Gaussian noise")
        # Drawn in the default layout, so that it does not depend on that of x. torch is much faster there, too.
        noise = torch.empty_like(x, memory_format=torch.contiguous_format).normal_(generator=generator)
        if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
            noise = noise.to(memory_format=torch.channels_last)
        return noise.mul_(self.sigma).add_(x), y
