"""Classifiers whose smoothed probabilities are known in closed form."""

import torch
from scipy import special
from torch import Tensor, nn


class Pixel(nn.Module):
    """Class 1 if the first pixel exceeds ``threshold``, else class 0: a half-space with unit normal.

    No arithmetic mixes coordinates, so its answer is the same at every batch size, to the bit. Under N(0, sigma^2)
    P(class 1) = Phi((x - threshold) / sigma), and the exact radius is |x - threshold|, the distance to the plane.
    """

    def __init__(self, threshold: float = 0.5, classes: int = 2) -> None:
        super().__init__()
        self.threshold, self.classes = threshold, classes

    def forward(self, x_BCHW: Tensor) -> Tensor:
        margin_B = x_BCHW[:, 0, 0, 0] - self.threshold
        logits_BK = torch.full((len(x_BCHW), self.classes), -1000.0, dtype=x_BCHW.dtype)
        logits_BK[:, 0], logits_BK[:, 1] = 0, margin_B
        return logits_BK

    def probability(self, pixel: float, sigma: float) -> float:
        """Of class 1 under noise."""
        return float(special.ndtr((pixel - self.threshold) / sigma))


class HalfSpace(nn.Module):
    """Class 1 where <w, x> > b, else class 0, with all coordinates in it."""

    def __init__(self, weight_CHW: Tensor, bias: float) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight_CHW.reshape(-1)), bias

    def forward(self, x_BCHW: Tensor) -> Tensor:
        score_B = x_BCHW.flatten(1) @ self.weight - self.bias
        return torch.stack([torch.zeros_like(score_B), score_B], dim=1)

    def margin(self, x_CHW: Tensor) -> float:
        """Signed l2 distance of the image to the plane."""
        weight = self.weight.detach()
        return float((x_CHW.flatten() @ weight - self.bias) / weight.norm())


class Sometimes(nn.Module):
    """Class 0, but NaN, infinite or right by the first pixel: below 0, above 1, or between."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        pixel_B = x_BCHW[:, 0, 0, 0]
        first_B = torch.where(pixel_B < 0, torch.nan, torch.where(pixel_B > 1, torch.inf, 1.0))
        return torch.stack([first_B, torch.zeros_like(first_B)], dim=1)


def factory() -> nn.Module:
    """For ``certify run tests.oracles:factory``-like names: ten classes, in evaluation mode."""
    return Pixel(classes=10).eval()
