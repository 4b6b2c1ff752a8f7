r"""SmoothAdv: adversarial training of the smoothed classifier, alone and with consistency.

For m noises :math:`\delta_i` an attack moves the image to x* within l2 distance epsilon. It seeks the x* at which the
mean prediction over :math:`x^* + \delta_i` is most wrong. The loss is the mean cross-entropy of these m noisy copies.
Epsilon grows within ``warmup`` epochs; while it is 0 there is no attack, and the loss is that of ``mean_of_m``.

With MaxUp (``worst_of``) the attack is the same, and the loss is the cross-entropy of the worst of so many fresh copies
of x*.

``smoothadv_consistency`` adds, for the same copies :math:`x^* + \delta_i`, the term of ``consistency``: they shall be
predicted alike, and confidently. With MaxUp two copies of x* count, the worst of so many fresh ones and a further one:
the cross-entropy of the worst and the consistency of both.

Cost: m ``steps`` forward and backward passes for the attack (the backward ones without gradients of weights), then m
forward and m backward passes. With MaxUp the latter are ``worst_of`` forward passes without gradient and one of each,
with consistency two of each.

References:
    Salman et al. (2019), "Provably robust deep learning via adversarially trained smoothed classifiers", section 2.2.
    Jeong and Shin (2020), "Consistency regularization for certified robustness of smoothed classifiers", section 4.
    With MaxUp: this project.
"""

from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.maxup import BatchLoss
from maxup_smoothing.train.objectives.attacks import ddn, pgd
from maxup_smoothing.train.objectives.consistency import consistency_term
from maxup_smoothing.train.objectives.objective import Objective, logits_of, losses_of
from maxup_smoothing.train.objectives.worst_copy import check_worst, first_copy
from maxup_smoothing.train.seeds import derive_seed
from maxup_smoothing.train.step import Step

ATTACKS = {"pgd": pgd, "ddn": ddn}
FRESH = 1  # what sets the seed of the copies after the attack apart


class SmoothAdv(Objective):
    """Cross-entropy of noisy copies of the attacked image.

    Raises:
        ValueError: If a selection is set up without candidates.
    """

    uses: ClassVar[tuple[str, ...]] = (
        "m",
        "attack",
        "epsilon",
        "steps",
        "start",
        "warmup",
        "worst_of",
        "graded",
        "selection",
    )

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        check_worst(self)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> BatchLoss:
        """The loss around the attacked images."""
        copies, candidates_BM, step = self.around(model, x, y, step)
        loss_BM = losses_of(self, logits_of(model, copies, step), y)
        return BatchLoss(loss_BM.mean(), loss_BM.detach() if candidates_BM is None else candidates_BM)

    def around(
        self, model: nn.Module, x: Tensor, y: Tensor, step: Step, further: int = 0
    ) -> tuple[list[Tensor], Tensor | None, Step]:
        """The noisy copies of the attacked images that count.

        Returns:
            Without MaxUp the m copies that were attacked. With it the worst of ``worst_of`` copies whose noise the
            attack has not seen, and so many ``further`` ones. Then the losses of the candidates, (B, M), if there were
            any; and the step under whose dropout masks they were compared.
        """
        noises = [step.noisy(torch.zeros_like(x), self.sigma, copy) for copy in range(self.config.m)]
        epsilon = self.config.epsilon * self.ramp(step.epoch)
        if epsilon > 0:
            x = ATTACKS[self.config.attack](model, x, y, noises, epsilon=epsilon, steps=self.config.steps)
        candidates = self.config.worst_of
        if candidates == 1:
            return [x + noise for noise in noises], None, step
        fresh = replace(step, seed=derive_seed(step.seed, FRESH))
        worst, losses_BM, _ = first_copy(self, model, x, y, fresh)
        others = [fresh.noisy(x, self.sigma, copy) for copy in range(candidates, candidates + further)]
        return [worst, *others], losses_BM, fresh


class SmoothAdvConsistency(SmoothAdv):
    """Cross-entropy of noisy copies of the attacked image plus their consistency, weighted by ``lam`` and ``eta``.

    Raises:
        ValueError: If there is one copy only, and so nothing to compare.
    """

    uses: ClassVar[tuple[str, ...]] = (*SmoothAdv.uses, "lam", "eta")

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        if config.m < 2 and config.worst_of < 2:
            raise ValueError("objective 'smoothadv_consistency' compares copies: m or worst_of must be at least 2.")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> BatchLoss:
        """The loss around the attacked images, and how far their copies are from agreeing."""
        copies, candidates_BM, step = self.around(model, x, y, step, further=1)
        logits_BMK = logits_of(model, copies, step)
        loss_BM = losses_of(self, logits_BMK, y)
        term_B = consistency_term(logits_BMK, self.config.lam, self.config.eta)
        if candidates_BM is None:
            return BatchLoss((loss_BM.mean(1) + term_B).mean(), loss_BM.detach())
        return BatchLoss((loss_BM[:, 0] + term_B).mean(), candidates_BM)
