r"""Stability training: the clean cross-entropy, and the noisy prediction held to the clean one.

:math:`L(f(x), y) + \lambda H(f(x), f(x + \delta))`, where H is the cross-entropy of the noisy prediction with the clean
one as its target, through which gradient flows, too.

Cost: two forward and two backward passes; with MaxUp (``worst_of``) as many more forward passes as candidates.

References:
    Zheng et al. (2016), "Improving the robustness of deep neural networks via stability training", section 3; Li et al.
    (2019), "Certified adversarial robustness with additive noise", section 4. With MaxUp: this project.
"""

from torch import Tensor, nn

from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.maxup import BatchLoss
from maxup_smoothing.train.objectives.objective import Objective
from maxup_smoothing.train.objectives.worst_copy import check_worst, first_copy
from maxup_smoothing.train.step import Step


class Stability(Objective):
    """Clean cross-entropy plus ``lam`` times the cross-entropy between clean and noisy prediction.

    With ``worst_of`` above 1 the noisy copy is the worst of so many.

    Raises:
        ValueError: If a selection is set up without candidates.
    """

    uses = ("lam", "start", "warmup", "worst_of", "graded", "selection")

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        check_worst(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> BatchLoss:
        """The loss of clean image and noisy copy."""
        noisy, copies_BM, _ = first_copy(self, model, x, y, step)
        clean_BK, noisy_BK = step.forward(model, x), step.forward(model, noisy)
        stability_B = -(clean_BK.softmax(1) * noisy_BK.log_softmax(1)).sum(1)
        if copies_BM is None:
            copies_BM = self.loss(noisy_BK, y).detach()[:, None]
        loss_B = self.loss(clean_BK, y) + self.config.lam * self.ramp(step.epoch) * stability_B
        return BatchLoss(loss_B.mean(), copies_BM)
