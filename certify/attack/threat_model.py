"""What an attack may do: stay within a fixed radius, or within a multiple of each image's certified radius."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from maxup_smoothing.certify.statistics.radius import ABSTAIN

MOST = 1000  # goals of a table


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One l2 norm for all images, or one for each by its certificate.

    Attributes:
        number: Of the goal in its table.
        epsilon: The norm in [0, 1] pixel units; None if it is each image's own.
        factor: Then, the multiple of the certified radius.
    """

    number: int
    epsilon: float | None
    factor: float | None

    def norm(self, label: int, predict: int, radius: float) -> float | None:
        """The norm for a row of the table; None if the goal leaves it out, since it is not rightly certified."""
        if self.factor is None:
            return self.epsilon
        if predict == ABSTAIN or predict != label or radius == 0:
            return None
        return self.factor * radius


def goals_of(radii: Sequence[float], factors: Sequence[float]) -> tuple[Goal, ...]:
    """Goals in the order of their numbers: fixed radii first, each sorted.

    Raises:
        ValueError: If a radius is negative, a factor is not positive, or there are none, or too many.
    """
    if not all(0 <= radius < math.inf for radius in radii):
        raise ValueError(f"--radii must be at least 0 and finite, got {_listed(radii)}.")
    if not all(0 < factor < math.inf for factor in factors):
        raise ValueError(f"--radius-factors must be positive and finite, such as 0.5,0.9,1.1; got {_listed(factors)}.")
    fixed, relative = sorted(set(radii)), sorted(set(factors))
    if not 0 < len(fixed) + len(relative) <= MOST:
        raise ValueError(f"attack at 1 to {MOST} radii, got {len(fixed) + len(relative)}.")
    first = [Goal(number=number, epsilon=float(radius), factor=None) for number, radius in enumerate(fixed)]
    numbered = enumerate(relative, start=len(fixed))
    return (*first, *(Goal(number=number, epsilon=None, factor=float(factor)) for number, factor in numbered))


def _listed(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
