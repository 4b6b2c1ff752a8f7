"""MaxUp: the cross-entropy of the worst of m randomly perturbed copies of each image.

Cost: m forward passes without gradient, then one forward and one backward pass.

With ``m_start`` the number of copies grows from there to ``m`` within ``warmup`` epochs: a curriculum, since the worst
of many copies of an untrained network teaches little.

References:
    Gong, Ren, Ye, Liu (2020), arXiv:2002.09024, sections 2 and 2.1. The schedule of m is this project's.
"""

from typing import cast

from torch import Tensor, nn

from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.maxup import BatchLoss, Reduction, Selection, check, maxup_loss
from maxup_smoothing.train.objectives.objective import Perturbed
from maxup_smoothing.train.step import Step


class MaxUp(Perturbed):
    """Cross-entropy of the worst copy, or what ``reduction`` makes of those of all copies.

    Copies have N(0, sigma^2) noise, or are what ``perturbation`` says. Where labels are mixed, each copy has its own
    target, and the worst copy is the one whose mixed loss is largest.

    Raises:
        ValueError: If the number of copies, the reduction or the selection is out of range.
    """

    uses = (*Perturbed.uses, "m", "m_start", "warmup", "reduction", "top_k", "temperature", "selection")

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        check(
            m=config.m,
            reduction=config.reduction,
            top_k=config.top_k,
            temperature=config.temperature,
            selection=config.selection,
        )
        selecting = config.m > 1 and (config.reduction in ("max", "topk") or config.selection == "joint")
        self.refuse_idle(config.reduction == "topk", "with reduction = 'topk'", "top_k")
        self.refuse_idle(config.reduction == "logsumexp", "with reduction = 'logsumexp'", "temperature")
        self.refuse_idle(selecting, "where the worst of several copies are kept", "selection")
        self.refuse_idle(config.m_start > 0, "with m_start", "warmup")
        if not 0 <= config.m_start <= config.m:
            raise ValueError(
                f"m_start must lie in [0, m] = [0, {config.m}] (0: m from the start), got {config.m_start}."
            )

    def copies(self, epoch: int) -> int:
        """How many copies are drawn in an epoch."""
        if not self.config.m_start:
            return self.config.m
        warmup = max(1, self.config.warmup)
        return self.config.m_start + (self.config.m - self.config.m_start) * min(epoch, warmup) // warmup

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> BatchLoss:
        """The loss of the copies that the reduction keeps."""
        m = self.copies(step.epoch)
        return maxup_loss(
            model,
            self.loss,
            step.of_rows(self.perturb),
            x,
            y,
            m=m,
            seed=step.seed,
            reduction=cast(Reduction, self.config.reduction),
            top_k=min(m, self.config.top_k),
            temperature=self.config.temperature,
            selection=cast(Selection, self.config.selection),
        )
