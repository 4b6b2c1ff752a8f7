"""CutMix and mixup: each example is mixed with another one of the batch, and so are their labels.

Targets are probabilities here, (B, K): see ``one_hot``. Each example has a share and a box of its own, where the papers
draw one for the batch: MaxUp compares the copies of each example by itself, so each needs its own draw.
Partners are a permutation of the batch, so every example is the partner of exactly one, perhaps of itself.

A perturbation that mixes needs the whole batch; ``train.step.Step.of_rows`` gives it to a part of one.
"""

# Shapes: B examples, K classes, C channels, H height, W width.

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from maxup_smoothing.train.perturbations.geometry import box_mask, uniform_centres
from maxup_smoothing.train.perturbations.perturbation import require_floating


def one_hot(y_B: Tensor, num_classes: int) -> Tensor:
    """Classes as float32 probabilities, (B, K)."""
    return F.one_hot(y_B, num_classes).float()


@dataclass(frozen=True)
class MixUp:
    """Weighted mean of each image with another one, and of their targets by the same weight.

    Args:
        alpha: The weight of the image itself is Beta(alpha, alpha); positive.

    References:
        Zhang, Cisse, Dauphin, Lopez-Paz (2018), "mixup: beyond empirical risk minimization", arXiv:1710.09412.
    """

    alpha: float = 1.0

    def __call__(self, x: Tensor, y_BK: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The mixed inputs, shape of ``x``, and the mixed targets, (B, K).

        Raises:
            ValueError: If the targets are no probabilities, or the inputs whole numbers.
        """
        _check(y_BK, "mixup")
        require_floating(x, "mixup")
        partner_B = torch.randperm(len(x), generator=generator, device=x.device)
        own_B = beta(len(x), self.alpha, generator)
        return _mean(x, x[partner_B], own_B), _mean(y_BK, y_BK[partner_B], own_B)


@dataclass(frozen=True)
class CutMix:
    """A box of each image is replaced by the same place of another one, and its share of the target likewise.

    The box has the image's proportions, the area share 1 - lambda, lambda drawn from Beta(alpha, alpha), and its centre
    at a uniformly drawn pixel. Targets are mixed by the area that is left of it within the image.

    Args:
        alpha: Positive.

    References:
        Yun, Han, Oh, Chun, Choe, Yoo (2019), "CutMix: regularization strategy to train strong classifiers with
        localizable features", arXiv:1905.04899, section 3.1.
    """

    alpha: float = 1.0

    def __call__(self, x_BCHW: Tensor, y_BK: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The mixed images, (B, C, H, W), and the mixed targets, (B, K).

        Raises:
            ValueError: If the targets are no probabilities.
        """
        _check(y_BK, "cutmix")
        B, _, H, W = x_BCHW.shape
        partner_B = torch.randperm(B, generator=generator, device=x_BCHW.device)
        side_B = (1 - beta(B, self.alpha, generator)).sqrt()
        size_B2 = torch.stack([(H * side_B).long(), (W * side_B).long()], dim=1)
        box_B1HW = box_mask(uniform_centres(B, H, W, generator), size_B2, H, W)
        own_B = 1 - box_B1HW.double().mean(dim=(1, 2, 3))
        return torch.where(box_B1HW, x_BCHW[partner_B], x_BCHW), _mean(y_BK, y_BK[partner_B], own_B)


def beta(count: int, alpha: float, generator: torch.Generator) -> Tensor:
    """Draws from Beta(alpha, alpha), float64 in [0, 1], (count,), on the generator's device."""
    shape = torch.full((2, count), alpha, dtype=torch.float64, device=generator.device)
    # torch.distributions.Beta takes no generator; the operator below it does.
    first, second = torch._standard_gamma(shape, generator=generator)
    share = first / (first + second)
    # For a tiny alpha both may be 0 in floating point; nothing is mixed then.
    return torch.where(share.isnan(), torch.ones_like(share), share)


def _mean(own: Tensor, other: Tensor, own_B: Tensor) -> Tensor:
    weight = own_B.to(own.dtype).reshape(-1, *(1,) * (own.dim() - 1))
    return weight * own + (1 - weight) * other


def _check(y_BK: Tensor, name: str) -> None:
    if y_BK.dim() != 2 or not y_BK.is_floating_point():
        raise ValueError(
            f"{name} mixes labels: targets must be probabilities (B, K), got {y_BK.dtype} of shape "
            f"{tuple(y_BK.shape)}; see train.perturbations.mixing.one_hot."
        )
