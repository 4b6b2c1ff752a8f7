"""Gaussian noise, the perturbation under which classifiers are certified."""

from dataclasses import dataclass

import torch
from torch import Tensor

from maxup_smoothing.train.perturbations.perturbation import require_floating


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
