"""Training with Gaussian noise: the cross-entropy of one noisy copy of each image.

Cost: one forward and one backward pass.

References:
    Cohen, Rosenfeld, Kolter (2019), "Certified adversarial robustness via randomized smoothing", section 3.3.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from train.config import TrainConfig
from train.maxup import DROPOUT, MaxUpLoss, same_randomness
from train.perturbations import GaussianNoise
from train.seeds import derive_seed, generator


def build(config: TrainConfig) -> "Gaussian":
    """The objective at ``config.sigma``.

    Raises:
        ValueError: If several copies are asked for.
    """
    if config.m != 1:
        raise ValueError(f"objective 'gaussian' draws one copy, got m = {config.m}; use 'maxup' (reduction = 'mean').")
    return Gaussian(config.sigma)


class Gaussian:
    """Cross-entropy under N(0, sigma^2) noise."""

    def __init__(self, sigma: float) -> None:
        self.perturb = GaussianNoise(sigma)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, seed: int) -> MaxUpLoss:
        """The loss of one noisy copy."""
        noisy, _ = self.perturb(x, y, generator(x.device, seed, 0))
        with same_randomness(x.device, derive_seed(seed, DROPOUT)):
            loss_B = F.cross_entropy(model(noisy), y, reduction="none")
        return MaxUpLoss(loss_B.mean(), loss_B.detach()[:, None])
