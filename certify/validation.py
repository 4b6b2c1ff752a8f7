"""Certification of held-out images during training, small enough for every few epochs.

Test images must not choose a model. So a run that withholds some of its training images may certify those, with the
sequential procedure and few samples, and keep the epoch that does best.
"""

# Shapes: N images, C channels, H height, W width.

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from maxup_smoothing.certify.smoothing import SmoothedClassifier
from maxup_smoothing.certify.statistics.procedure import Sampling

N0, ALPHA = 100, 0.001
_KEY = 0x76616C6964  # certificates of the model that is kept must not meet the noise by which it was chosen

#: Radii, in units of sigma, to which certified ones are rounded down.
GRID = tuple(quarters / 4 for quarters in range(1, 16))


def certifier(
    images_NCHW: NDArray[np.uint8],
    labels_N: ArrayLike,
    *,
    num_classes: int,
    sigma: float,
    n: int,
    dtype: str = "float32",
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> Callable[[nn.Module], float]:
    """What certifies classifiers on some images, each time with the same noise.

    Args:
        images_NCHW: uint8, (N, C, H, W).
        labels_N: (N,) classes.
        num_classes: Of the classifiers.
        sigma: Of the noise, in [0, 1] pixel units.
        n: Samples for each image, at most.
        dtype: Arithmetic of the network.
        device: Where to compute.
        seed: Of the noise, which no other command draws from the same number. Equal noise makes the epochs of a run
            comparable; a choice among them is not a certificate.

    Returns:
        From a module in evaluation mode to its average certified radius on the images (abstained and wrong count 0),
        each radius rounded down to a multiple of sigma / 4, up to what n can prove.

    Raises:
        ValueError: If sigma is not positive or n too small to certify sigma / 4.
    """
    ceiling = Sampling(sigma=sigma, n0=N0, n=n, alpha=ALPHA, procedure="sequential").ceiling
    radii = tuple(sigma * step for step in GRID if sigma * step <= ceiling)
    if not radii:
        raise ValueError(f"{n} samples certify at most {ceiling:.3f}, less than sigma / 4; raise validate_n.")
    labels = np.asarray(labels_N)

    def average_certified_radius(model: nn.Module) -> float:
        smoothed = SmoothedClassifier(model, num_classes, sigma, device=device, dtype=dtype, seed=seed ^ _KEY)
        certificates = smoothed.certify(images_NCHW, n0=N0, n=n, alpha=ALPHA, procedure="sequential", radii=radii)
        floored = [max((r for r in radii if r <= found.radius), default=0.0) for found in certificates]
        correct = np.array([found.predict for found in certificates]) == labels
        return float(np.mean(floored * correct))

    return average_certified_radius
