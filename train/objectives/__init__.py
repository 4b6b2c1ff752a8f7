"""Training objectives by name: what a batch's loss is."""

import difflib
from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor, nn

from train.config import TrainConfig
from train.maxup import MaxUpLoss
from train.objectives import gaussian, maxup


class Objective(Protocol):
    """The loss of a batch, a function of the seed of the step."""

    def __call__(self, model: nn.Module, x: Tensor, y: Tensor, seed: int) -> MaxUpLoss:
        """The loss of images ``x`` (B, C, H, W) in [0, 1] with classes ``y`` (B,)."""


OBJECTIVES: Mapping[str, Callable[[TrainConfig], Objective]] = {
    "gaussian": gaussian.build,
    "maxup": maxup.build,
}


def build(config: TrainConfig) -> Objective:
    """The objective that ``config`` names.

    Raises:
        ValueError: If there is none of that name, or its settings contradict each other.
    """
    if config.objective not in OBJECTIVES:
        near = difflib.get_close_matches(config.objective, OBJECTIVES, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"unknown objective {config.objective!r}{hint} There are: {', '.join(OBJECTIVES)}.")
    return OBJECTIVES[config.objective](config)
