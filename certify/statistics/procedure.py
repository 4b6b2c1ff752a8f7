"""How many samples each input gets, when its votes are looked at, and when they are enough."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

from maxup_smoothing.certify.statistics.anytime import geometric_looks
from maxup_smoothing.certify.statistics.binomial import LARGEST_N, require_alpha
from maxup_smoothing.certify.statistics.certificate import (
    BOUNDS,
    PROCEDURES,
    Look,
    limits,
    optimistic,
    require_sigma,
)
from maxup_smoothing.certify.statistics.radius import two_class_radius
from maxup_smoothing.certify.statistics.sequential import FUTILITY, schedule

_STEP = 0.25  # of the radii that are decided where none are named
_DEFAULT_N = {"fixed": 100_000, "sequential": 100_000, "anytime": 10_000_000}


@dataclass(frozen=True, kw_only=True)
class ProcedureSettings:
    """A procedure of certification and its settings, before the noise is known.

    ``fixed`` draws n samples and looks once: CERTIFY of Cohen et al. (2019). ``sequential`` looks on a schedule of at
    most n samples and spends alpha in parts; ``anytime`` looks as often as it likes. Both stop as soon as every radius
    of ``radii`` is proved or given up, or the radius is known to ``tolerance``; whatever stops them, what they report
    is valid. Giving up is a rule of cost (see ``certify.statistics.sequential.FUTILITY``).

    Attributes:
        n0: Selection samples for each input.
        n: Estimation samples for each input, at most; None for 100,000, or 10,000,000 with ``anytime``.
        alpha: Failure probability of each certificate, over all looks.
        procedure: One of ``certify.statistics.certificate.PROCEDURES``.
        bound: One of ``certify.statistics.certificate.BOUNDS``.
        radii: What is to be decided, for the procedures that may stop early; by default 0, 0.25, 0.5 … below the
            radius of a unanimous vote.
        tolerance: Instead of radii: stop when the radius is at least 1 - tolerance of what is still plausible.
        looks: When ``sequential`` looks, the last at ``n``; see ``certify.statistics.sequential.schedule``.
    """

    n0: int
    alpha: float
    n: int | None = None
    procedure: str = "fixed"
    bound: str = "clopper-pearson"
    radii: tuple[float, ...] | None = None
    tolerance: float | None = None
    looks: tuple[int, ...] | None = None

    def at(self, sigma: float) -> "Sampling":
        """These settings for a noise.

        Raises:
            ValueError: See ``Sampling``.
        """
        return Sampling(sigma=sigma, **{field.name: getattr(self, field.name) for field in fields(ProcedureSettings)})


@dataclass(frozen=True, kw_only=True)
class Sampling(ProcedureSettings):
    """A procedure of certification, its settings, and the noise.

    Attributes:
        sigma: Standard deviation of the noise in [0, 1] pixel units.

    Raises:
        ValueError: If a setting is out of range, does not fit the procedure, or lets nothing be certified.
    """

    sigma: float

    def __post_init__(self) -> None:
        """Check every setting."""
        require_sigma(self.sigma)
        require_alpha(self.alpha)
        _require_name("procedure", self.procedure, PROCEDURES)
        _require_name("bound", self.bound, BOUNDS)
        if self.n0 < 1:
            raise ValueError(f"n0, the selection samples, must be at least 1, got {self.n0}.")
        if self.most < 1:
            raise ValueError(f"n must be at least 1, got {self.most}.")
        if self.most > LARGEST_N:
            raise ValueError(f"n = {self.most} is more than {LARGEST_N}, up to which the bound was checked; lower it.")
        if self.procedure == "fixed" and (self.radii or self.tolerance or self.looks):
            raise ValueError("radii to decide, a tolerance and looks are for the procedures sequential and anytime.")
        if self.looks and self.procedure != "sequential":
            raise ValueError("looks are for the procedure sequential; anytime looks as often as it likes.")
        if self.radii and self.tolerance is not None:
            raise ValueError("give radii to decide, or a tolerance, not both: each says when to stop.")
        if self.tolerance is not None and not 0 < self.tolerance < 1:
            raise ValueError(f"tolerance must lie between 0 and 1, got {self.tolerance}.")
        if self.ceiling == 0:
            raise ValueError(
                f"n = {self.most} samples cannot certify anything at alpha = {self.alpha:g}; at least {self._needed()} "
                "are needed."
            )
        if self.radii and not all(0 <= radius <= self.ceiling for radius in self.radii):
            raise ValueError(
                f"radii must lie between 0 and {self.ceiling:.4f}, the radius of a unanimous vote of {self.most} "
                f"samples; got {list(self.radii)}. Raise n, or leave the larger ones out."
            )

    @property
    def most(self) -> int:
        """Most estimation samples of an input."""
        return _DEFAULT_N[self.procedure] if self.n is None else self.n

    @cached_property
    def schedule(self) -> tuple[tuple[int, float], ...]:
        """Numbers of samples at which the votes are looked at, and alpha spent at each look."""
        if self.procedure == "fixed":
            return ((self.most, self.alpha),)
        if self.procedure == "sequential":
            plan = schedule(self.most, self.looks)
            return tuple(zip(plan.looks, plan.levels(self.alpha), strict=True))
        early = itertools.takewhile(lambda look: look < self.most, geometric_looks())
        return (*((look, self.alpha) for look in early), (self.most, self.alpha))

    @cached_property
    def ceiling(self) -> float:
        """The radius of a unanimous vote of all samples; 0.0 if nothing can be certified."""
        return self.proved([Look(n, n, 0, level) for n, level in self.schedule])

    @property
    def expected(self) -> int:
        """Samples of an input on average, roughly: all of them, or what a whole curve took on CIFAR-10."""
        return self.n0 + (self.most if self.procedure == "fixed" else min(self.most, 25_000))

    @cached_property
    def to_decide(self) -> tuple[float, ...]:
        """The radii at which the procedures that may stop early decide."""
        if self.radii is not None:
            return self.radii
        return tuple(index * _STEP for index in range(math.ceil(self.ceiling / _STEP)))

    @property
    def beta(self) -> float:
        """Futility of one look; see ``certify.statistics.sequential.FUTILITY``."""
        return FUTILITY / (len(self.schedule) if self.procedure == "sequential" else 1)

    def proved(self, looks: Sequence[Look], error: float = 0.0) -> float:
        """The radius that these looks prove."""
        bounds = limits(looks, procedure=self.procedure, bound=self.bound, probability_error=error)
        return float(two_class_radius(*bounds, self.sigma))

    def plausible(self, last: Look, error: float = 0.0) -> float:
        """The largest radius that more samples may still prove, judged by the last look."""
        bounds = optimistic(last, procedure=self.procedure, bound=self.bound, beta=self.beta, probability_error=error)
        return float(two_class_radius(*bounds, self.sigma))

    def enough(self, looks: Sequence[Look], error: float) -> bool:
        """Whether no further look is needed; a rule of cost, since the bounds hold whenever one stops.

        Args:
            looks: All looks at the votes so far.
            error: See ``certify.statistics.certificate.limits``.
        """
        if len(looks) == len(self.schedule):
            return True
        proved, plausible = self.proved(looks, error), self.plausible(looks[-1], error)
        if plausible == 0:
            return True
        if self.tolerance is not None:
            return proved >= (1 - self.tolerance) * plausible
        return all((proved >= radius and proved > 0) or plausible < radius for radius in self.to_decide)

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        settings = {"procedure": self.procedure, "bound": self.bound, "sigma": self.sigma, "n0": self.n0}
        settings |= {"n": self.most, "alpha": self.alpha}
        if self.procedure == "fixed":
            return settings
        if self.procedure == "sequential":
            settings["looks"] = [list(look) for look in self.schedule]
        rule = {"radii": list(self.to_decide)} if self.tolerance is None else {"tolerance": self.tolerance}
        return {**settings, **rule, "futility": FUTILITY}

    def _needed(self) -> int:
        """Fewest samples with which something can be certified."""
        level = self.schedule[-1][1]
        return next(n for n in itertools.count(1) if self.proved([Look(n, n, 0, level)]) > 0)


def _require_name(what: str, name: str, names: Sequence[str]) -> None:
    if name not in names:
        raise ValueError(f"{what} must be one of {', '.join(names)}, got {name!r}.")
