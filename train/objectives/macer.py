r"""MACER: cross-entropy of the soft smoothed classifier, and a hinge that widens the radius where it is right.

With the mean prediction over m noisy copies :math:`\bar p = \frac1m \sum_i softmax(f(x + \delta_i))` the first term is
:math:`-\log \bar p_y`. With :math:`\bar q = \frac1m \sum_i softmax(\beta f(x + \delta_i))`, its two largest entries
:math:`q_A \ge q_B` and their gap :math:`\xi = \Phi^{-1}(q_A) - \Phi^{-1}(q_B)` the second, for images that
:math:`\bar q` classifies correctly, is :math:`\lambda \frac\sigma2 \max(margin - \xi, 0)`; it is 0 for the others. Both
are averaged over all images.

Cost: m forward and m backward passes.

References:
    Zhai et al. (2020), "MACER: attack-free and scalable robust training via maximizing certified radius", section 4,
    equations (14) and (15), algorithm 1.
"""

# Shapes: B images, M copies of each, K classes, R images whose radius is widened.

import math

import torch
from torch import Tensor, nn

from maxup_smoothing.train.maxup import BatchLoss
from maxup_smoothing.train.objectives.objective import Objective, logits_of, losses_of
from maxup_smoothing.train.step import Step


class Macer(Objective):
    """Cross-entropy of the mean prediction plus ``lam`` times the hinge on the radius."""

    uses = ("m", "lam", "beta", "margin", "start", "warmup")

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> BatchLoss:
        """The loss of the mean prediction and its radius."""
        copies = [step.noisy(x, self.sigma, copy) for copy in range(self.config.m)]
        logits_BMK = logits_of(model, copies, step)
        log_mean_BK = logits_BMK.log_softmax(2).logsumexp(1) - math.log(self.config.m)
        # Log-probabilities are logits of themselves, so this is -log of the mean, with label smoothing where asked.
        loss = self.loss(log_mean_BK, y).mean()
        strength = self.config.lam * self.ramp(step.epoch)
        if strength > 0:
            gap_R = widened_gaps(logits_BMK, y, self.config.beta, self.config.margin)
            hinge = self.sigma / 2 * (self.config.margin - gap_R).sum() / len(x)
            loss = loss + strength * hinge.to(loss.dtype)
        return BatchLoss(loss, losses_of(self, logits_BMK.detach(), y))


def widened_gaps(logits_BMK: Tensor, y_B: Tensor, beta: float, margin: float) -> Tensor:
    """Gaps of normal quantiles, float64, (R,), of the images that are right and whose gap is at most ``margin``."""
    with torch.autocast(logits_BMK.device.type, enabled=False):
        mean_BK = (beta * logits_BMK.double()).softmax(2).mean(1)
        top_B2, class_B2 = mean_BK.topk(2)
        # Entries are chosen before they are differentiated: a quantile's derivative is infinite at 0 and 1, and 0 times
        # infinity would be the gradient of what is left out.
        gap_B = _gaps(top_B2.detach())
        return _gaps(top_B2[(class_B2[:, 0] == y_B) & gap_B.isfinite() & (gap_B <= margin)])


def _gaps(top_B2: Tensor) -> Tensor:
    quantile_B2 = torch.special.ndtri(top_B2)
    return quantile_B2[:, 0] - quantile_B2[:, 1]
