"""Normalisation as the first layer of the classifier, so that no one can forget it."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Normalize(nn.Module):
    """Subtract the mean and divide by the standard deviation of each channel.

    Noise is added to the image before this layer: sigma and the radius are then in pixel units. Both numbers are
    buffers, so they are stored with the weights.

    Args:
        mean: One number, or one for each channel.
        std: The same, positive.
        channels: Number of channels C.

    Raises:
        ValueError: If the numbers do not fit ``channels`` or a ``std`` is not positive.
    """

    mean: Tensor  # (C, 1, 1)
    std: Tensor  # (C, 1, 1)

    def __init__(self, mean: Sequence[float], std: Sequence[float], channels: int) -> None:
        super().__init__()
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, channels):
                raise ValueError(f"{name} has {len(values)} numbers for {channels} channels; give 1 or {channels}.")
        if min(std) <= 0:
            raise ValueError(f"std must be positive, got {list(std)}.")
        self.register_buffer("mean", torch.tensor(mean).expand(channels).reshape(channels, 1, 1).clone())
        self.register_buffer("std", torch.tensor(std).expand(channels).reshape(channels, 1, 1).clone())

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalised images, (B, C, H, W)."""
        return (x_BCHW - self.mean) / self.std
