"""MaxUp on top of another method: its first noisy copy is the worst of several by loss, then comes its own term."""

# Shapes: B images, M candidates for the worst copy.

from typing import cast

from torch import Tensor, nn

from train.maxup import Selection, worst_copies
from train.objectives.objective import Objective
from train.perturbations import GaussianNoise
from train.step import Step


def check_worst(objective: Objective) -> None:
    """Raise ``ValueError`` if a selection is set up without candidates."""
    objective.refuse_idle(objective.config.worst_of > 1, "with worst_of above 1", "selection")


def first_copy(
    objective: Objective, model: nn.Module, x: Tensor, y: Tensor, step: Step
) -> tuple[Tensor, Tensor | None]:
    """The copy that a method uses first: copy 0 or, with ``worst_of`` above 1, the worst of that many.

    Cost: ``worst_of`` forward passes without gradient if it is above 1.

    Returns:
        The copy, shape of ``x``, and the losses of the candidates, (B, M); None if there was nothing to compare.
        Copies from number ``worst_of`` on are fresh.
    """
    config = objective.config
    if config.worst_of == 1:
        return step.noisy(x, objective.sigma, 0), None
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
    return worst[0][0], copies_BM
