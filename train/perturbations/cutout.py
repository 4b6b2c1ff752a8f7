"""Cutout: a square of each image is painted over."""

# Shapes: B examples, C channels, H height, W width.

from dataclasses import dataclass

import torch
from torch import Tensor

from maxup_smoothing.train.perturbations.boxes import box_mask, uniform_centres
from maxup_smoothing.train.perturbations.perturbation import require_floating


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
