"""The residual networks of He et al. for 32x32 images: 16, 32 and 64 channels in three stages of equal depth.

Layer names follow the checkpoints of Cohen et al. (2019), so those load without renaming.
"""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn


class PadShortcut(nn.Module):
    """Identity that takes every second pixel and pads the new channels with zeros (option A of He et al.)."""

    def __init__(self, extra_channels: int) -> None:
        super().__init__()
        self.extra_channels = extra_channels

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C + extra_channels, ceil(H / 2), ceil(W / 2)); half of the zeros before the channels, half after."""
        half = self.extra_channels // 2
        return F.pad(x_BCHW[:, :, ::2, ::2], (0, 0, 0, 0, half, self.extra_channels - half))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm, added to the shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample: nn.Module = nn.Identity()
        if channels != channels_in:
            self.downsample = (
                PadShortcut(channels - channels_in)
                if shortcut == "pad"
                else nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels))
            )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, channels, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x_BCHW)))
        return F.relu(self.bn2(self.conv2(y)) + self.downsample(x_BCHW))


class ResNet(nn.Module):
    """A residual network of 6 n + 2 layers.

    Args:
        image_shape: (C, 32, 32).
        num_classes: Number of logits K.
        depth: 6 n + 2 layers.
        shortcut: "conv" (1x1 convolution and batch norm where the channels double: the networks of Cohen et al.) or
            "pad" (no parameters: option A of He et al.).

    Raises:
        ValueError: If the images are not 32x32, or ``shortcut`` is neither.

    References:
        He et al. (2016), section 4.2; Cohen et al. (2019), appendix.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], num_classes: int, *, depth: int, shortcut: str = "conv"
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        if (height, width) != (32, 32):
            raise ValueError(f"resnet{depth} takes 32x32 images, got {height}x{width}; use lenet or 32x32 data.")
        if shortcut not in ("conv", "pad"):
            raise ValueError(f"shortcut must be 'conv' or 'pad', got {shortcut!r}.")
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, blocks, 1, shortcut)
        self.layer2 = _stage(16, 32, blocks, 2, shortcut)
        self.layer3 = _stage(32, 64, blocks, 2, shortcut)
        self.fc = nn.Linear(64, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits, (B, K)."""
        x = F.relu(self.bn1(self.conv1(x_BCHW)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean(dim=(2, 3)))


def _stage(channels_in: int, channels: int, blocks: int, stride: int, shortcut: str) -> nn.Sequential:
    first = BasicBlock(channels_in, channels, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1, shortcut) for _ in range(blocks - 1)))


def resnet(depth: int) -> Callable[..., ResNet]:
    """The constructor of the network with that many layers."""
    return partial(ResNet, depth=depth)
