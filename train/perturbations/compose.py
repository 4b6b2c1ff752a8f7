"""One perturbation after another."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from maxup_smoothing.train.perturbations.perturbation import Perturbation


@dataclass(frozen=True)
class Compose:
    """One perturbation after another, from the same generator."""

    parts: Sequence[Perturbation]

    def __call__(self, x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """What the last part returns."""
        for part in self.parts:
            x, y = part(x, y, generator)
        return x, y
