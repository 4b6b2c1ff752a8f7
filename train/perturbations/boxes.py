"""Boxes in images, one an example, as masks."""

# Shapes: B examples, H height, W width; the last dimension 2 is (row, column).

import torch
from torch import Tensor


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
