"""The mean over m perturbed copies of each image: the control that separates "more copies" from "the worst copy".

Cost: m forward and m backward passes, and the memory of m copies.

References:
    Cohen et al. (2019), section 3.3, with m draws; a baseline in Salman et al. (2019), "Provably robust deep learning
    via adversarially trained smoothed classifiers", section 2.2.
"""

from torch import Tensor, nn

from maxup_smoothing.train.maxup import BatchLoss, maxup_loss
from maxup_smoothing.train.objectives.perturbed import Perturbed
from maxup_smoothing.train.step import Step


class MeanOfM(Perturbed):
    """Cross-entropy averaged over m copies, with N(0, sigma^2) noise or as ``perturbation`` says."""

    uses = (*Perturbed.uses, "m")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> BatchLoss:
        """The mean loss of the copies."""
        perturb = step.of_rows(self.perturb)
        return maxup_loss(model, self.loss, perturb, x, y, m=self.config.m, seed=step.seed, reduction="mean")
