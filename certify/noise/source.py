"""Makes noise sources by name, and noisy copies that no run counts as samples."""

from collections.abc import Callable

import torch
from torch import Tensor

from maxup_smoothing.certify.noise import PREDICTION, NoiseSource
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.noise.floating import FloatNoise

_MAKERS: dict[str, Callable[[float, int], NoiseSource]] = {"exact": ExactNoise, "float": FloatNoise}


def noise_source(name: str, sigma: float, seed: int) -> NoiseSource:
    """Make the noise source with this name.

    Args:
        name: ``exact`` or ``float``.
        sigma: Standard deviation of the noise in [0, 1] pixel units.
        seed: Seed of the noise, in [0, 2^64).

    Raises:
        ValueError: If there is no such source, or it cannot draw noise of this sigma.
    """
    if name not in _MAKERS:
        raise ValueError(f"noise must be one of {', '.join(_MAKERS)}, got {name!r}.")
    return _MAKERS[name](sigma, seed)


def noisy(images_NCHW: Tensor, noise: NoiseSource) -> Tensor:
    """One noisy copy of each image, float32, (N, C, H, W), from a stream of ``noise`` that no input of a run uses."""
    x_NCHW = torch.empty(images_NCHW.shape)
    for row, image_CHW in enumerate(images_NCHW.cpu()):
        noise.fill(x_NCHW[row : row + 1], image_CHW, input_id=2**31 + 1, stage=PREDICTION, start=row)
    return x_NCHW
