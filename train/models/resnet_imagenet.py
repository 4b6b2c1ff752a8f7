"""ResNet-50 for images of about 224x224 pixels: 3, 4, 6 and 3 bottleneck blocks.

Layer names follow torchvision's checkpoints, so those load without renaming.
"""

import torch.nn.functional as F
from torch import Tensor, nn

_EXPANSION = 4  # channels at the end of a block, over those inside


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with batch norm, added to the shortcut; the stride is in the 3x3 convolution."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        channels_out = _EXPANSION * channels
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, channels_out, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels_out)
        self.downsample: nn.Module = nn.Identity()
        if channels_in != channels_out:
            shortcut = nn.Conv2d(channels_in, channels_out, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(channels_out))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, 4 channels, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x_BCHW)))
        y = F.relu(self.bn2(self.conv2(y)))
        return F.relu(self.bn3(self.conv3(y)) + self.downsample(x_BCHW))


class ResNet50(nn.Module):
    """The network of 50 layers.

    Args:
        image_shape: (C, H, W), H and W at least 32.
        num_classes: Number of logits K.
        shortcut: "conv" (1x1 convolution and batch norm where the channels change); there is no other here.

    Raises:
        ValueError: If the images are smaller, or ``shortcut`` is another.

    References:
        He et al. (2016), table 1; the place of the stride is that of its authors' later implementation.
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int, *, shortcut: str = "conv") -> None:
        super().__init__()
        channels, height, width = image_shape
        if min(height, width) < 32:
            raise ValueError(f"resnet50 takes images of at least 32x32, got {height}x{width}; use lenet.")
        if shortcut != "conv":
            raise ValueError(f"shortcut of resnet50 must be 'conv', got {shortcut!r}.")
        self.conv1 = nn.Conv2d(channels, 64, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.layer1 = _stage(64, 64, 3, 1)
        self.layer2 = _stage(256, 128, 4, 2)
        self.layer3 = _stage(512, 256, 6, 2)
        self.layer4 = _stage(1024, 512, 3, 2)
        self.fc = nn.Linear(2048, num_classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits, (B, K)."""
        x = self.maxpool(F.relu(self.bn1(self.conv1(x_BCHW))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))


def _stage(channels_in: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(channels_in, channels, stride)
    return nn.Sequential(first, *(Bottleneck(_EXPANSION * channels, channels, 1) for _ in range(blocks - 1)))
