"""Training with Gaussian noise: the cross-entropy of one noisy copy of each image.

Cost: one forward and one backward pass.

References:
    Cohen, Rosenfeld, Kolter (2019), "Certified adversarial robustness via randomized smoothing", section 3.3.
"""

from torch import Tensor, nn

from maxup_smoothing.train.maxup import BatchLoss
from maxup_smoothing.train.objectives.objective import Objective
from maxup_smoothing.train.step import Step


class Gaussian(Objective):
    """Cross-entropy under N(0, sigma^2) noise."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> BatchLoss:
        """The loss of one noisy copy."""
        loss_B = self.loss(step.forward(model, step.noisy(x, self.sigma, 0)), y)
        return BatchLoss(loss_B.mean(), loss_B.detach()[:, None])
