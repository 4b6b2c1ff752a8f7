"""Noise by name, and noisy copies that no run counts."""

import torch
from torch import Tensor

from maxup_smoothing.certify.noise import PREDICTION, SOURCES, NoiseSource
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.noise.floating import FloatNoise


def noise_source(name: str, sigma: float, seed: int) -> NoiseSource:
    """The source of noisy copies of that name.

    Raises:
        ValueError: If there is none, or it cannot draw noise of this sigma.
    """
    if name not in SOURCES:
        raise ValueError(f"noise must be one of {', '.join(SOURCES)}, got {name!r}.")
    return ExactNoise(sigma, seed) if name == "exact" else FloatNoise(sigma, seed)


def noisy(images_NCHW: Tensor, noise: NoiseSource) -> Tensor:
    """One noisy copy of each image, float32, (N, C, H, W), on a stream of ``noise`` that no input of a run has."""
    x_NCHW = torch.empty(images_NCHW.shape)
    for row, image_CHW in enumerate(images_NCHW.cpu()):
        noise.fill(x_NCHW[row : row + 1], image_CHW, input_id=2**31 + 1, stage=PREDICTION, start=row)
    return x_NCHW
