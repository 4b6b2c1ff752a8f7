"""Shifts, mirror images and painted squares, and the masks of boxes that these and CutMix share."""

# Shapes: B examples, C channels, H height, W width; the last dimension 2 is (row, column).

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from maxup_smoothing.train.perturbations.perturbation import require_floating


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
class Cutout:
    """Paint over a square whose centre is a uniformly drawn pixel; what reaches over the border is cut off.

    Args:
        size: Side of the square in pixels, at least 1.
        fill: Its colour, one number or one a channel. The paper's is 0 after normalisation, which is the mean here,
            where images are normalised inside the model.

    References:
        DeVries and Taylor (2017), "Improved regularization of convolutional neural networks with cutout",
        arXiv:1708.04552, section 3.
    """

    size: int
    fill: tuple[float, ...] = (0.0,)

    def __call__(self, x_BCHW: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The images with a hole each, (B, C, H, W); the targets as they are."""
        if any(self.fill):
            require_floating(x_BCHW, "cutout in a colour")
        B, _, H, W = x_BCHW.shape
        centre_B2 = uniform_centres(B, H, W, generator)
        hole_B1HW = box_mask(centre_B2, torch.full_like(centre_B2, self.size), H, W)
        return torch.where(hole_B1HW, x_BCHW.new_tensor(self.fill)[:, None, None], x_BCHW), y


def uniform_centres(B: int, H: int, W: int, generator: torch.Generator) -> Tensor:
    """B pixels, each drawn uniformly from the image: int64, (B, 2), on the generator's device."""
    sides = [torch.randint(side, (B,), generator=generator, device=generator.device) for side in (H, W)]
    return torch.stack(sides, dim=1)


def box_mask(centre_B2: Tensor, size_B2: Tensor, H: int, W: int) -> Tensor:
    """Which pixels lie in each example's box, clipped at the border.

    Args:
        centre_B2: Its centre; of an even number of pixels the one after the middle.
        size_B2: Its height and width in pixels before clipping, whole numbers of at least 0.
        H: Height of the image.
        W: Width of the image.

    Returns:
        bool, (B, 1, H, W).
    """
    first_B2 = centre_B2 - size_B2 // 2
    rows_BH = _between(first_B2[:, :1], size_B2[:, :1], H)
    columns_BW = _between(first_B2[:, 1:], size_B2[:, 1:], W)
    return (rows_BH[:, :, None] & columns_BW[:, None, :])[:, None]


def _between(first_B1: Tensor, size_B1: Tensor, side: int) -> Tensor:
    place = torch.arange(side, device=first_B1.device)
    return (place >= first_B1) & (place < first_B1 + size_B1)
