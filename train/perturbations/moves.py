"""Shifts and mirror images."""

# Shapes: B examples, C channels, H height, W width.

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


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
