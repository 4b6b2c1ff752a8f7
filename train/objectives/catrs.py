r"""CAT-RS: easy images are trained on few of their noisy copies, sure ones on the worst noise near each copy.

For m noises :math:`\delta_i` let :math:`\hat p` be the fraction of copies that are classified correctly, and
:math:`k \sim Binomial(m, \hat p)`, at least 1. The loss of an image is

:math:`\frac1m \sum_{j \le k} L_{(j)} + \lambda [k = m] \max_i KL(t \| f(x + \delta_i^*))`,

the first term over the k smallest of its m cross-entropies. The target t is the smoothed prediction of a ``teacher``
or, without one, the mean softmax of the m copies, as a constant; early in training the
latter say little. :math:`\delta_i^*` is found from :math:`\delta_i` by ``steps`` steps of gradient ascent on the
divergence, of length 2 epsilon / steps and within l2 distance ``epsilon``. After each step the noise is brought back to
the mean and the root mean square of :math:`\delta_i`, so that it still looks Gaussian. That may add a little to the
distance.

The published recipe takes a teacher trained at sigma 0.25 and 10,000 noisy copies of each image for its targets
(``teacher_n``), which for 50,000 images are 5 * 10^8 forward passes, once before training.

Cost: m ``steps`` forward and backward passes for the attack (the backward ones without gradients of weights), then 2 m
forward and 2 m backward passes; before training ``teacher_n`` forward passes an image.

References:
    Jeong, Kim, Shin (2023), "Confidence-aware training of smoothed classifiers for certified robustness", section 3.
"""

# Shapes: B images, M noisy copies, N training images, K classes.

import math

import torch
from torch import Tensor, nn

from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.distributed import World
from maxup_smoothing.train.maxup import BatchLoss
from maxup_smoothing.train.objectives.attacks import attacking, limited, unit
from maxup_smoothing.train.objectives.objective import Objective, kl_divergence, logits_of, losses_of
from maxup_smoothing.train.objectives.teacher import fingerprint, smoothed_predictions
from maxup_smoothing.train.step import ACCEPT, Step, full_precision

MOST_COPIES = 1000  # beyond them binomial coefficients leave the range of floats


class CatRs(Objective):
    """Cross-entropy of the easier copies plus ``lam`` times the divergence at the worst noise.

    Raises:
        ValueError: If m is below 2 without a teacher, or above 1000.
    """

    uses = ("m", "lam", "epsilon", "steps", "start", "warmup", "teacher", "teacher_n")

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self.refuse_idle(bool(config.teacher), "with a teacher", "teacher_n")
        if config.m < 2 and not config.teacher:
            raise ValueError(
                "objective 'catrs' with m = 1 needs a teacher: one copy is its own mean; give one, or raise m."
            )
        if config.m > MOST_COPIES:
            raise ValueError(f"objective 'catrs' takes at most m = {MOST_COPIES} copies, got {config.m}.")
        self.table_NK: Tensor | None = None

    def prepare(self, images: Tensor, world: World) -> None:
        """Let the teacher, if there is one, predict all training images.

        Raises:
            FileNotFoundError: If there is no checkpoint.
            ValueError: If it is not of a classifier trained with noise on images of this shape.
        """
        config = self.config
        if config.teacher:
            half = config.dtype == "bfloat16"
            with torch.autocast(images.device.type, dtype=torch.bfloat16, enabled=half):
                self.table_NK = smoothed_predictions(
                    config.teacher, images, n=config.teacher_n, seed=config.seed, world=world
                )

    def depends_on(self) -> dict[str, str]:
        """The teacher, by the hash of its checkpoint."""
        if not self.config.teacher:
            return {}
        return {f"the teacher {self.config.teacher}": fingerprint(self.config.teacher)}

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> BatchLoss:
        """The loss of easy copies and of the worst noise."""
        config = self.config
        noises = [step.noisy(torch.zeros_like(x), self.sigma, copy) for copy in range(config.m)]
        logits_BMK = logits_of(model, [x + noise for noise in noises], step)
        loss_BM = losses_of(self, logits_BMK, y)
        accepted_B = accepted_copies((logits_BMK.argmax(2) == y[:, None]).sum(1), config.m, step.uniform(x, ACCEPT))
        easy_BM = torch.arange(config.m, device=x.device) < accepted_B[:, None]
        loss_B = (loss_BM.sort(dim=1).values * easy_BM).sum(1) / config.m
        strength = config.lam * self.ramp(step.epoch)
        if strength > 0:
            target_BK = self._target(logits_BMK, step)
            worst = worst_noises(model, x, target_BK, noises, epsilon=config.epsilon, steps=config.steps)
            log_p_BMK = logits_of(model, [x + noise for noise in worst], step).log_softmax(2)
            divergence_BM = kl_divergence(target_BK[:, None], log_p_BMK)
            loss_B = loss_B + strength * torch.where(accepted_B == config.m, divergence_BM.amax(1), 0)
        return BatchLoss(loss_B.mean(), loss_BM.detach())

    def _target(self, logits_BMK: Tensor, step: Step) -> Tensor:
        own_BK = logits_BMK.detach().softmax(2).mean(1)
        if self.table_NK is None:
            return own_BK
        assert step.index_B is not None, "the teacher's table is read by the images' numbers"
        classes = self.table_NK.shape[1]
        if classes != own_BK.shape[1]:
            raise ValueError(
                f"the teacher {self.config.teacher} knows {classes} classes, this dataset has {own_BK.shape[1]}; "
                "give a teacher trained on the same dataset."
            )
        return self.table_NK[step.index_B].to(own_BK)


def accepted_copies(right_B: Tensor, m: int, uniform_B: Tensor) -> Tensor:
    """A Binomial(m, ``right_B`` / m) number for each image, at least 1: its uniform number's quantile. int64, (B,).

    ``m`` is at most ``MOST_COPIES``.
    """
    pmf = [[math.comb(m, k) * (j / m) ** k * (1 - j / m) ** (m - k) for k in range(m)] for j in range(m + 1)]
    below_BM = torch.tensor(pmf, dtype=torch.float64, device=right_B.device).cumsum(1)[right_B]
    return (below_BM <= uniform_B[:, None]).sum(1).clamp_min(1)


def worst_noises(
    model: nn.Module, x: Tensor, target_BK: Tensor, noises: list[Tensor], *, epsilon: float, steps: int
) -> list[Tensor]:
    """Noises near the given ones, with their means and root mean squares, at which predictions diverge from the target.

    Cost: ``steps`` forward and backward passes a noise, without gradients of weights, in evaluation mode.

    Returns:
        Tensors like ``noises``, at most epsilon / cos(a / 2) from them, where sin a = epsilon / |noise - its mean|.
    """
    found = []
    with attacking(model):
        for start in noises:
            noise = start
            for _ in range(steps):
                noise = noise.detach().requires_grad_(True)
                divergence_B = kl_divergence(target_BK, full_precision(model(x + noise)).log_softmax(1))
                (gradient,) = torch.autograd.grad(divergence_B.sum(), noise)
                change = noise.detach() + (2 * epsilon / steps) * unit(gradient) - start
                noise = _like(start, start + limited(change, epsilon))
            found.append(noise)
    return found


def _like(start: Tensor, noise: Tensor) -> Tensor:
    """``noise`` shifted and scaled, image by image, to the mean and the root mean square of ``start``."""
    dims = tuple(range(1, start.dim()))
    mean = start.mean(dims, keepdim=True)
    norm = torch.linalg.vector_norm(start - mean, dim=dims, keepdim=True)
    return mean + norm * unit(noise - noise.mean(dims, keepdim=True))
