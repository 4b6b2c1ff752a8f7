"""LeNet as the MNIST and Fashion-MNIST tables of the field use it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LeNet(nn.Module):
    """Two 5x5 convolutions with 20 and 50 channels, each with ReLU and 2x2 max pooling; then 500 units; then logits.

    431,080 parameters for 1x28x28 images and 10 classes.

    Args:
        image_shape: (C, H, W), at least 16x16.
        num_classes: Number of logits K.

    Raises:
        ValueError: If the images are too small.

    References:
        LeCun et al. (1998), in the variant of Jeong and Shin (2020), "Consistency regularization for certified
        robustness of smoothed classifiers", and its successors.
    """

    def __init__(self, image_shape: tuple[int, int, int], num_classes: int) -> None:
        super().__init__()
        channels, height, width = image_shape
        if min(height, width) < 16:
            raise ValueError(f"lenet needs images of at least 16x16, got {height}x{width}.")
        features = 50 * (((height - 4) // 2 - 4) // 2) * (((width - 4) // 2 - 4) // 2)
        self.conv1 = nn.Conv2d(channels, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(features, 500)
        self.fc2 = nn.Linear(500, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits, (B, K)."""
        # ReLU after pooling: it is monotone, so the result is the same, and it meets a quarter of the values.
        x = F.relu(pool(self.conv1(x_BCHW)))
        x = F.relu(pool(self.conv2(x)))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def pool(x_BCHW: Tensor) -> Tensor:
    """2x2 max pooling, (B, C, H // 2, W // 2).

    On a CPU torch's own takes most of the time of a forward pass, since it notes where each maximum was. Without a
    gradient to come the larger row and then the larger column are taken instead: the same numbers, much faster.
    """
    if x_BCHW.requires_grad or x_BCHW.is_cuda:
        return F.max_pool2d(x_BCHW, 2)
    height, width = (side // 2 * 2 for side in x_BCHW.shape[2:])
    x = torch.maximum(x_BCHW[..., 0:height:2, :], x_BCHW[..., 1:height:2, :])
    return torch.maximum(x[..., 0:width:2], x[..., 1:width:2])
