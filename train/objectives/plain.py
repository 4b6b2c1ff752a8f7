"""Plain training: the cross-entropy of one perturbed copy of each image, which is ordinary data augmentation.

Cost: one forward and one backward pass.
"""

from torch import Tensor, nn

from maxup_smoothing.train.maxup import BatchLoss
from maxup_smoothing.train.objectives.perturbed import Perturbed
from maxup_smoothing.train.seeds import generator
from maxup_smoothing.train.step import Step


class Plain(Perturbed):
    """Cross-entropy of one copy: MaxUp and the mean over copies, both with m = 1."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> BatchLoss:
        """The loss of copy 0."""
        copy, targets = step.of_rows(self.perturb)(x, y, generator(x.device, step.seed, 0))
        loss_B = self.loss(step.forward(model, copy), targets)
        return BatchLoss(loss_B.mean(), loss_B.detach()[:, None])
