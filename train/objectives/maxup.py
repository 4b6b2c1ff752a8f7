"""MaxUp with Gaussian noise: the cross-entropy of the worst of m noisy copies of each image.

Cost: m forward passes without gradient, then one forward and one backward pass.

References:
    Gong, Ren, Ye, Liu (2020), arXiv:2002.09024, sections 2 and 2.1.
"""

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from train.config import TrainConfig
from train.maxup import MaxUpLoss, Reduction, Selection, check, maxup_loss
from train.perturbations import GaussianNoise


def build(config: TrainConfig) -> "MaxUp":
    """The objective with the copies, reduction and selection of ``config``.

    Raises:
        ValueError: If one of them is out of range.
    """
    check(
        m=config.m,
        reduction=config.reduction,
        top_k=config.top_k,
        temperature=config.temperature,
        selection=config.selection,
    )
    return MaxUp(config)


class MaxUp:
    """Cross-entropy of the worst copy under N(0, sigma^2) noise."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.perturb = GaussianNoise(config.sigma)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, seed: int) -> MaxUpLoss:
        """The loss of the copies that the reduction keeps."""
        return maxup_loss(
            model,
            cross_entropy,
            self.perturb,
            x,
            y,
            m=self.config.m,
            seed=seed,
            reduction=cast(Reduction, self.config.reduction),
            top_k=self.config.top_k,
            temperature=self.config.temperature,
            selection=cast(Selection, self.config.selection),
        )


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    """(B,) cross-entropy of (B, K) logits."""
    return F.cross_entropy(logits, y, reduction="none")
