r"""SmoothAdv with consistency: the noisy copies of an attacked image shall be predicted alike, and confidently.

The loss of ``smoothadv`` plus, for the same copies :math:`x^* + \delta_i`, the term of ``consistency``. With MaxUp
(``worst_of``) two copies of x* count, the worst of so many fresh ones and a further one: the cross-entropy of the worst
and the consistency of both.

Cost: that of ``smoothadv``; with MaxUp one forward and one backward pass more.

References:
    Jeong and Shin (2020), "Consistency regularization for certified robustness of smoothed classifiers", section 4.
    With MaxUp: this project.
"""

from typing import ClassVar

from torch import Tensor, nn

from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.maxup import BatchLoss
from maxup_smoothing.train.objectives.consistency import consistency_term
from maxup_smoothing.train.objectives.objective import logits_of, losses_of
from maxup_smoothing.train.objectives.smoothadv import SmoothAdv
from maxup_smoothing.train.step import Step


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
