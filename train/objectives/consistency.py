r"""Consistency regularisation: noisy copies of an image shall be predicted alike, and confidently.

With predictions :math:`p_1, \dots, p_m` of m noisy copies and their mean :math:`\bar p`:
:math:`\frac1m \sum_i L(p_i, y) + \lambda \frac1m \sum_i KL(\bar p \| p_i) + \eta H(\bar p)`.

With MaxUp (``worst_of``) the first copy is the worst of so many, and its cross-entropy alone is the first term. With
``reach`` the copies of sure images are moved towards the boundary; see ``train.objectives.worst_copy``.

Cost: m forward and m backward passes; with MaxUp as many more forward passes as candidates; with ``reach`` m more
forward and backward passes.

References:
    Jeong and Shin (2020), "Consistency regularization for certified robustness of smoothed classifiers", section 3.2.
    With MaxUp: this project.
"""

import torch
from torch import Tensor, nn

from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.maxup import BatchLoss
from maxup_smoothing.train.objectives.objective import Objective, kl_divergence, logits_of, losses_of
from maxup_smoothing.train.objectives.worst_copy import at_the_edge, check_worst, first_copy, shift
from maxup_smoothing.train.step import Step


class Consistency(Objective):
    """Cross-entropy plus ``lam`` times the copies' divergence from their mean plus ``eta`` times its entropy.

    Raises:
        ValueError: If there are fewer than two copies.
    """

    uses = ("m", "lam", "eta", "start", "warmup", "worst_of", "graded", "reach", "selection")

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        check_worst(self)
        self.refuse_idle(config.graded, "with graded = true", "reach")
        if config.m < 2:
            raise ValueError(f"objective 'consistency' compares copies: m must be at least 2, got {config.m}.")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> BatchLoss:
        """The loss of the copies, and how far they are from agreeing."""
        worst_of, strength = self.config.worst_of, self.ramp(step.epoch)
        first, candidates_BM, sureness_B = first_copy(self, model, x, y, step)
        fresh = range(worst_of, worst_of + self.config.m - 1)
        copies = [first, *(step.noisy(x, self.sigma, copy) for copy in fresh)]
        if sureness_B is not None and (reach := self.config.reach * strength) > 0:
            copies = at_the_edge(model, x, y, copies, shift(sureness_B, m=worst_of, sigma=self.sigma, reach=reach))
        logits_BMK = logits_of(model, copies, step)
        loss_BM = losses_of(self, logits_BMK, y)
        term_B = consistency_term(logits_BMK, self.config.lam, self.config.eta)
        loss_B = loss_BM.mean(1) if worst_of == 1 else loss_BM[:, 0]
        total_B = loss_B + strength * term_B
        return BatchLoss(total_B.mean(), loss_BM.detach() if candidates_BM is None else candidates_BM)


def consistency_term(logits_BMK: Tensor, lam: float, eta: float) -> Tensor:
    """``lam`` times the mean KL divergence of the copies from their mean, plus ``eta`` times its entropy, (B,)."""
    log_p_BMK = logits_BMK.log_softmax(2)
    mean_BK = log_p_BMK.exp().mean(1)
    divergence_BM = kl_divergence(mean_BK[:, None], log_p_BMK)
    # xlogy is 0 at probability 0, with gradient 0, where p log p has none.
    entropy_B = -torch.xlogy(mean_BK, mean_BK.clamp_min(1e-20)).sum(1)
    return lam * divergence_BM.mean(1) + eta * entropy_B
