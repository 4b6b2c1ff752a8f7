r"""SmoothMix: on the way to an adversarial image far outside the class the prediction shall become uniform.

With m noises :math:`\delta_i`: an attack without limit on its distance leads from x to x'. The first term is the mean
cross-entropy at :math:`x + \delta_i`, whose mean prediction is :math:`\bar p`. With w uniform in [0, 1/2], a number an
image, the second term, for images that :math:`\bar p` classifies correctly, is :math:`\lambda` times the mean over i of
:math:`KL(t \| p_i)`, where :math:`t = (1 - w) \bar p + w / K` and :math:`p_i` is the prediction at
:math:`(1 - w) x + w x' + \delta_i`. Gradient flows through :math:`\bar p` in t, too.

With ``one_step`` the image after the attack's first step takes the place of x in both terms; its distance from x grows
to ``step_size`` within ``warmup`` epochs.

Cost: m ``steps`` forward and backward passes for the attack (the backward ones without gradients of weights), then 2 m
forward and 2 m backward passes.

References:
    Jeong et al. (2021), "SmoothMix: training confidence-calibrated smoothed classifiers for certified robustness",
    sections 3.1 to 3.3, algorithm 1.
"""

# Shapes: B images, M copies of each, K classes.

import torch
from torch import Tensor, nn

from maxup_smoothing.train.maxup import BatchLoss
from maxup_smoothing.train.objectives.attacks import ascend, limited
from maxup_smoothing.train.objectives.objective import Objective, kl_divergence, logits_of, losses_of
from maxup_smoothing.train.step import MIX, Step


class SmoothMix(Objective):
    """Cross-entropy of noisy copies plus ``lam`` times the divergence of mixed images from mixed targets."""

    uses = ("m", "lam", "steps", "step_size", "one_step", "start", "warmup")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> BatchLoss:
        """The loss of copies and of mixed copies."""
        config, ramp = self.config, self.ramp(step.epoch)
        noises = [step.noisy(torch.zeros_like(x), self.sigma, copy) for copy in range(config.m)]
        far = x
        if ramp > 0:
            first, far = ascend(model, x, y, noises, step_size=config.step_size, steps=config.steps)
            if config.one_step:
                x = x + limited(first - x, config.step_size * ramp)
        logits_BMK = logits_of(model, [x + noise for noise in noises], step)
        loss_BM = losses_of(self, logits_BMK, y)
        loss_B = loss_BM.mean(1)
        if config.lam * ramp > 0:
            loss_B = loss_B + config.lam * ramp * self._mixed(model, x, far, noises, logits_BMK, y, step)
        return BatchLoss(loss_B.mean(), loss_BM.detach())

    def _mixed(
        self,
        model: nn.Module,
        x: Tensor,
        far: Tensor,
        noises: list[Tensor],
        logits_BMK: Tensor,
        y: Tensor,
        step: Step,
    ) -> Tensor:
        """Divergence of the predictions between ``x`` and ``far`` from their targets, (B,); 0 where x is wrong."""
        mean_BK = logits_BMK.softmax(2).mean(1)
        weight_B1 = step.uniform(x, MIX)[:, None].to(mean_BK.dtype) / 2
        target_BK = (1 - weight_B1) * mean_BK + weight_B1 / mean_BK.shape[1]
        mixed = torch.lerp(x, far, weight_B1.to(x.dtype).reshape(-1, *(1,) * (x.dim() - 1)))
        log_p_BMK = logits_of(model, [mixed + noise for noise in noises], step).log_softmax(2)
        divergence_BM = kl_divergence(target_BK[:, None], log_p_BMK)
        return torch.where(mean_BK.argmax(1) == y, divergence_BM.mean(1), 0)
