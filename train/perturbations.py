"""Random changes of a batch, one draw for each example, all from a given generator.

A perturbation takes the batch, its targets and a generator on the batch's device, and returns both anew; it must
draw the same when called again with a generator in the same state: training is a function of its seed.
"""

# Shapes: B examples, C channels, H height, W width.

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Perturbation = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class GaussianNoise:
    """Add independent N(0, sigma^2) noise to every coordinate; nothing is clipped.

    Args:
        sigma: Standard deviation in units of the input ([0, 1] pixels), at least 0.
    """

    sigma: float

    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The noisy batch, shape and dtype of ``x``; the targets as they are."""
        # Drawn in the default layout, so that it does not depend on that of x. torch is much faster there, too.
        noise = torch.empty_like(x, memory_format=torch.contiguous_format).normal_(generator=generator)
        if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
            noise = noise.to(memory_format=torch.channels_last)
        return noise.mul_(self.sigma).add_(x), y


@dataclass(frozen=True)
class RandomCrop:
    """Pad with zeros on all sides and cut out a window of the old size, anywhere with equal chance.

    Args:
        padding: Pixels on each side.
    """

    padding: int = 4

    def __call__(self, x_BCHW: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The shifted images, (B, C, H, W) in the dtype of ``x_BCHW``; the targets as they are."""
        B, _, H, W = x_BCHW.shape
        device = x_BCHW.device
        corner_B2 = torch.randint(2 * self.padding + 1, (B, 2), generator=generator, device=device)
        padded = F.pad(x_BCHW, (self.padding,) * 4)
        rows_BH = corner_B2[:, :1] + torch.arange(H, device=device)
        columns_BW = corner_B2[:, 1:] + torch.arange(W, device=device)
        image_B = torch.arange(B, device=device)[:, None, None]
        cut_BHWC = padded.movedim(1, -1)[image_B, rows_BH[:, :, None], columns_BW[:, None, :]]
        return cut_BHWC.movedim(-1, 1), y


@dataclass(frozen=True)
class RandomFlip:
    """Mirror each image left to right with probability one half."""

    def __call__(self, x_BCHW: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The images, some mirrored, (B, C, H, W); the targets as they are."""
        flip_B = torch.rand(len(x_BCHW), generator=generator, device=x_BCHW.device) < 0.5
        return torch.where(flip_B[:, None, None, None], x_BCHW.flip(-1), x_BCHW), y


@dataclass(frozen=True)
class Compose:
    """One perturbation after another, from the same generator."""

    parts: Sequence[Perturbation]

    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What the last part returns."""
        for part in self.parts:
            x, y = part(x, y, generator)
        return x, y
