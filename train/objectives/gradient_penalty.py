r"""The gradient norm as an explicit penalty: what MaxUp with Gaussian noise tends to as sigma goes to 0.

:math:`L(x) + \sigma c_m \|\nabla_x L(x)\|_2` for each image x, where :math:`c_m` is the expected largest of m standard
normal numbers. MaxUp's loss differs from it by O(sigma^2), so the two agree for small sigma; at the sigma of training
they are different methods.

Cost: one forward pass and two backward passes, the second through the first: about 2.5 plain steps.

References:
    Gong et al. (2020), arXiv:2002.09024, theorem 1.
"""

from functools import cache

import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import Tensor, nn

from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.maxup import BatchLoss
from maxup_smoothing.train.objectives.objective import Objective
from maxup_smoothing.train.step import Step


@cache
def expected_maximum(m: int) -> float:
    """The expected largest of m independent standard normal numbers, to 1e-10: 0, 0.5642, 0.8463, 1.0294, … ."""
    value, _ = quad(lambda z: m * z * norm.pdf(z) * norm.cdf(z) ** (m - 1), -12, 12, epsabs=1e-12, limit=200)
    return float(value)


class GradientPenalty(Objective):
    """Cross-entropy at the clean image plus sigma c_m times the norm of its gradient there.

    Raises:
        ValueError: If m is below 2 or sigma 0, so that there is no penalty, or the model is to be compiled.
    """

    uses = ("m", "start", "warmup")

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        if config.m < 2 or not config.sigma:
            raise ValueError(
                "objective 'gradient_penalty' stands for the worst of m noisy copies: it takes m of at least 2 and a "
                f"positive sigma, got m = {config.m} and sigma = {config.sigma:g}."
            )
        if config.compile:
            raise ValueError(
                "objective 'gradient_penalty' differentiates twice, which compile = true cannot; leave it out."
            )
        self.weight = config.sigma * expected_maximum(config.m)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> BatchLoss:
        """The penalised loss; ``copies_BM`` holds the clean loss."""
        x = x.detach().requires_grad_(True)
        loss_B = self.loss(step.forward(model, x), y)
        (gradient,) = torch.autograd.grad(loss_B.sum(), x, create_graph=True)
        # The root has no derivative at 0; an image whose gradient vanishes gets none from the penalty.
        square_B = gradient.flatten(1).square().sum(1)
        norm_B = torch.where(square_B > 0, square_B, 1).sqrt() * (square_B > 0)
        penalty = self.weight * self.ramp(step.epoch) * norm_B.mean()
        return BatchLoss(loss_B.mean() + penalty, loss_B.detach()[:, None])
