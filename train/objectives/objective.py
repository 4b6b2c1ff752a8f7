"""What every objective is, from a batch and its step to a loss, and what those of perturbed copies share."""

# Shapes: B images, M copies of each, K classes.

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maxup_smoothing.train.config import TrainConfig, refuse_idle
from maxup_smoothing.train.distributed import World
from maxup_smoothing.train.maxup import BatchLoss
from maxup_smoothing.train.perturbations import catalogue
from maxup_smoothing.train.step import Step


class Objective:
    """The loss of a batch, a function of the model, the batch and the step.

    Args:
        config: Its ``sigma`` and the keys that the objective ``uses``.

    Attributes:
        uses: Keys of ``OBJECTIVE_KEYS`` that mean something to it; the others must keep their defaults.
        loss: From (B, K) logits and (B,) classes, or (B, K) probabilities, to the (B,) cross-entropies, with label
            smoothing where asked.
        mixes: Whether it mixes examples. It then takes targets as (B, K) probabilities, and a step that knows the
            whole batch.
    """

    uses: ClassVar[tuple[str, ...]] = ()
    mixes: bool = False

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self.sigma = config.sigma
        self.loss = partial(F.cross_entropy, reduction="none", label_smoothing=config.label_smoothing)

    def prepare(self, images: Tensor, world: World) -> None:
        """Called once before training, with all training images: uint8, (N, C, H, W), on the device."""

    def depends_on(self) -> dict[str, str]:
        """What else than configuration and images the run is a function of, for --resume to compare."""
        return {}

    def refuse_idle(self, active: bool, when: str, *keys: str) -> None:
        """Raise ``ValueError`` if keys that only matter ``when`` are set while that is not the case."""
        if not active:
            refuse_idle(self.config, when, *keys)

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> BatchLoss:
        """The loss of images ``x`` (B, C, H, W) in [0, 1] with classes ``y`` (B,)."""
        raise NotImplementedError

    def ramp(self, epoch: int) -> float:
        """Strength of the method's own term: 0 before epoch ``start``, then linearly to 1 within ``warmup`` epochs.

        As in the public recipes the first of ``warmup`` epochs has 1 / warmup already.
        """
        since = epoch - self.config.start
        return 0.0 if since < 0 else min(1.0, (since + 1) / max(1, self.config.warmup))


def logits_of(model: nn.Module, copies: Sequence[Tensor], step: Step) -> Tensor:
    """Logits of several copies of a batch, (B, M, K), one forward pass a copy.

    Args:
        model: From (B, C, H, W) to (B, K).
        copies: M tensors (B, C, H, W).
        step: Whose dropout masks all passes share.
    """
    return torch.stack([step.forward(model, x_BCHW) for x_BCHW in copies], dim=1)


def losses_of(objective: Objective, logits_BMK: Tensor, y_B: Tensor) -> Tensor:
    """Cross-entropy of each copy, (B, M)."""
    return torch.stack([objective.loss(logits_BK, y_B) for logits_BK in logits_BMK.unbind(1)], dim=1)


def kl_divergence(target: Tensor, log_p: Tensor) -> Tensor:
    """KL(target || p) over the last dimension, given target probabilities and log p, whose other ones broadcast."""
    return F.kl_div(log_p, target.expand_as(log_p), reduction="none").sum(-1)


class Perturbed(Objective):
    """An objective of randomly perturbed copies of each image.

    Attributes:
        perturb: Draws one copy of a whole batch.

    Raises:
        ValueError: If ``perturbation`` does not say what can be drawn, or a key is set that none of its parts reads.
    """

    uses = ("perturbation", *(key for part in catalogue.PARTS.values() for key in part.reads if key != "sigma"))

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self.perturb, self.mixes = catalogue.configured(config)
        for name, part in catalogue.PARTS.items():
            keys = (key for key in part.reads if key != "sigma")
            self.refuse_idle(name in config.perturbation, f"with {name!r} in perturbation", *keys)
