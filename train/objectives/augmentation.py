"""The baselines, which train on augmented copies of each image and seek no worst one.

``gaussian`` trains on one copy with Gaussian noise. ``plain`` trains on one copy, made as ``perturbation`` says.
``mean_of_m`` trains on the mean over m such copies: the control that separates "more copies" from "the worst copy".

Cost: one forward and one backward pass a copy, and of ``mean_of_m`` the memory of m copies.

References:
    Cohen, Rosenfeld, Kolter (2019), "Certified adversarial robustness via randomized smoothing", section 3.3.
    Several draws are a baseline in Salman et al. (2019), "Provably robust deep learning via adversarially trained
    smoothed classifiers", section 2.2.
"""

from torch import Tensor, nn

from maxup_smoothing.train.maxup import BatchLoss, maxup_loss
from maxup_smoothing.train.objectives.objective import Objective, Perturbed
from maxup_smoothing.train.seeds import generator
from maxup_smoothing.train.step import Step


class Gaussian(Objective):
    """Cross-entropy under N(0, sigma^2) noise."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> BatchLoss:
        """The loss of one noisy copy."""
        loss_B = self.loss(step.forward(model, step.noisy(x, self.sigma, 0)), y)
        return BatchLoss(loss_B.mean(), loss_B.detach()[:, None])


class Plain(Perturbed):
    """Cross-entropy of one copy: MaxUp and the mean over copies, both with m = 1."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> BatchLoss:
        """The loss of copy 0."""
        copy, targets = step.of_rows(self.perturb)(x, y, generator(x.device, step.seed, 0))
        loss_B = self.loss(step.forward(model, copy), targets)
        return BatchLoss(loss_B.mean(), loss_B.detach()[:, None])


class MeanOfM(Perturbed):
    """Cross-entropy averaged over m copies, with N(0, sigma^2) noise or as ``perturbation`` says."""

    uses = (*Perturbed.uses, "m")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> BatchLoss:
        """The mean loss of the copies."""
        perturb = step.of_rows(self.perturb)
        return maxup_loss(model, self.loss, perturb, x, y, m=self.config.m, seed=step.seed, reduction="mean")
