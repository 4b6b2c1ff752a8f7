"""Wide residual networks for 32x32 images, as the tables of CutMix, cutout and RandAugment on CIFAR use them."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn


class PreActivationBlock(nn.Module):
    """Batch norm and ReLU before each of two 3x3 convolutions, added to the shortcut."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False) if channels != channels_in else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, channels, H / stride, W / stride)."""
        active = F.relu(self.bn1(x_BCHW))
        y = self.conv2(F.relu(self.bn2(self.conv1(active))))
        return y + (x_BCHW if self.shortcut is None else self.shortcut(active))


class WideResNet(nn.Module):
    """A residual network of 6 n + 4 layers with 16, 32 and 64 times ``width`` channels in three stages.

    36,479,194 parameters with depth 28 and width 10, 2,748,890 with depth 16 and width 4, for 10 classes.

    Args:
        image_shape: (C, 32, 32).
        num_classes: Number of logits K.
        depth: 6 n + 4 layers.
        width: Factor of the channels.

    Raises:
        ValueError: If the images are not 32x32.

    References:
        Zagoruyko and Komodakis (2016), "Wide residual networks", arXiv:1605.07146, without dropout.
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, *, depth: int, width: int) -> None:
        super().__init__()
        channels, image_height, image_width = image_shape
        if (image_height, image_width) != (32, 32):
            raise ValueError(
                f"wrn-{depth}-{width} takes 32x32 images, got {image_height}x{image_width}; use lenet or 32x32 data."
            )
        blocks = (depth - 4) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.stage1 = _stage(16, 16 * width, blocks, 1)
        self.stage2 = _stage(16 * width, 32 * width, blocks, 2)
        self.stage3 = _stage(32 * width, 64 * width, blocks, 2)
        self.bn = nn.BatchNorm2d(64 * width)
        self.fc = nn.Linear(64 * width, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits, (B, K)."""
        x = self.stage3(self.stage2(self.stage1(self.conv1(x_BCHW))))
        return self.fc(F.relu(self.bn(x)).mean(dim=(2, 3)))


def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = PreActivationBlock(channels_in, channels, stride)
    return nn.Sequential(first, *(PreActivationBlock(channels, channels, 1) for _ in range(blocks - 1)))


def wrn(depth: int, width: int) -> Callable[..., WideResNet]:
    """The constructor of WRN-depth-width."""
    return partial(WideResNet, depth=depth, width=width)
