r"""MaxUp on top of another method: its first noisy copy is the worst of several by loss, then comes its own term.

With ``graded`` an image gets as bad a copy as its confidence allows. Of m candidates let :math:`\hat p` be the fraction
that is classified correctly, and :math:`k \sim Binomial(m, \hat p)`, at least 1. The copy is the one with the k-th
smallest loss. A sure image (k = m) still gets the worst one, and a hopeless one gets its easiest. What the worst copy
of an image that cannot be certified teaches costs radius elsewhere.

With ``reach`` the copies of a sure image are moved until the worst of them would just be classified wrongly. The worst
of many copies of an image far from every boundary is still sure, and teaches nothing. Let :math:`z` be the mean of the
margins of the image's m candidates (logit of its class minus the largest other one) over their standard deviation.
Were the margin linear, the worst candidate would stand :math:`c_m` deviations below the mean, on average. A shift of
the image by :math:`\sigma (z - c_m)` against the margin would then bring that candidate to the boundary. So all copies
of an image move by one step of length

:math:`\sigma \min(\max(z - c_m, 0), reach)`

along the gradient of their mean prediction's loss, within [0, 1], and keep their noise. Images that are not sure stay
where they are, and so do all images early in training: the curriculum is the network's own.

Cost: ``worst_of`` forward passes without gradient. With ``reach`` also a forward and a backward pass a copy, the
backward one without gradients of weights.

References:
    Gong, Ren, Ye, Liu (2020), arXiv:2002.09024, section 2, for the worst copy, and theorem 1 for c_m. Jeong, Kim, Shin
    (2023), section 3, for the binomial number. Salman et al. (2019), section 2.2, for the step. Together: this project.
"""

# Shapes: B images, M candidates for the worst copy, K classes.

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from maxup_smoothing.train.maxup import Selection, worst_copies
from maxup_smoothing.train.objectives.attacks import pgd
from maxup_smoothing.train.objectives.catrs import MOST_COPIES, accepted_copies
from maxup_smoothing.train.objectives.gradient_penalty import expected_maximum
from maxup_smoothing.train.objectives.objective import Objective, logits_of, losses_of
from maxup_smoothing.train.perturbations import GaussianNoise
from maxup_smoothing.train.step import ACCEPT, Step, without_trace


class First(NamedTuple):
    """The copy that a method uses first, and what its choice has shown.

    Attributes:
        copy: Shape of the images.
        losses_BM: Losses of the candidates; None if there was nothing to compare.
        sureness_B: With ``graded``, mean over standard deviation of the candidates' margins.
    """

    copy: Tensor
    losses_BM: Tensor | None = None
    sureness_B: Tensor | None = None


def check_worst(objective: Objective) -> None:
    """Raise ``ValueError`` if a choice among candidates is set up without candidates, or among too many."""
    config = objective.config
    objective.refuse_idle(config.worst_of > 1, "with worst_of above 1", "selection", "graded")
    if config.worst_of > 1 and config.selection == "joint":
        raise ValueError("selection = 'joint' is of the objective maxup; with worst_of choose train or eval.")
    if config.graded and config.worst_of > MOST_COPIES:
        raise ValueError(f"graded = true takes at most worst_of = {MOST_COPIES} candidates, got {config.worst_of}.")


def first_copy(objective: Objective, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> First:
    """The copy that a method uses first: copy 0 or, with ``worst_of`` above 1, the worst (or graded) one of that many.

    Copies from number ``worst_of`` on are fresh.

    Cost: ``worst_of`` forward passes without gradient if it is above 1.
    """
    config = objective.config
    if config.worst_of == 1:
        return First(step.noisy(x, objective.sigma, 0))
    if config.graded:
        return graded_copy(objective, model, x, y, step)
    worst, copies_BM = worst_copies(
        model,
        objective.loss,
        step.of_rows(GaussianNoise(objective.sigma)),
        x,
        y,
        m=config.worst_of,
        seed=step.seed,
        selection=cast(Selection, config.selection),
    )
    return First(worst[0][0], copies_BM)


def graded_copy(objective: Objective, model: nn.Module, x: Tensor, y: Tensor, step: Step) -> First:
    """The copy whose loss has the rank that the image's confidence allows; see the top of this module.

    Cost: ``worst_of`` forward passes without gradient, and as many copies of the input in memory.
    """
    m = objective.config.worst_of
    copies = [step.noisy(x, objective.sigma, copy) for copy in range(m)]
    with torch.no_grad(), without_trace(model, objective.config.selection):
        logits_BMK = logits_of(model, copies, step)
    # Autocast keeps the weights it cast; those cast without gradient would cut the weights off in the next pass.
    torch.clear_autocast_cache()
    loss_BM = losses_of(objective, logits_BMK, y)
    right_B = (logits_BMK.argmax(2) == y[:, None]).sum(1)
    rank_B = accepted_copies(right_B, m, step.uniform(x, ACCEPT))
    rank_B = rank_B.masked_fill(loss_BM.isnan().any(1), m)  # NaN is sorted last; no image passes it over
    kept_B = loss_BM.argsort(1).gather(1, rank_B[:, None] - 1).squeeze(1)
    kept = torch.stack(copies, dim=1)[torch.arange(len(x), device=x.device), kept_B]
    return First(kept, loss_BM, sureness(logits_BMK, y))


def sureness(logits_BMK: Tensor, y_B: Tensor) -> Tensor:
    """Mean over standard deviation of the margins of each image's candidates, (B,); there must be at least two."""
    index_BM1 = y_B[:, None, None].expand(-1, logits_BMK.shape[1], 1)
    own_BM = logits_BMK.gather(2, index_BM1).squeeze(2)
    margin_BM = own_BM - logits_BMK.scatter(2, index_BM1, -torch.inf).amax(2)
    return margin_BM.mean(1) / margin_BM.std(1).clamp_min(1e-6)


def shift(sureness_B: Tensor, *, m: int, sigma: float, reach: float) -> Tensor:
    """How far each image is moved, in [0, 1] pixel units, given the sureness of its m candidates, (B,)."""
    return sigma * (sureness_B - expected_maximum(m)).clamp(0, reach)


def at_the_edge(model: nn.Module, x: Tensor, y: Tensor, copies: Sequence[Tensor], shift_B: Tensor) -> list[Tensor]:
    """The copies of each image, all moved by one step of its own length; their noise is what they differ by from x."""
    noises = [copy - x for copy in copies]
    moved = pgd(model, x, y, noises, epsilon=shift_B.reshape(-1, *(1,) * (x.dim() - 1)), steps=1)
    return [moved + noise for noise in noises]
