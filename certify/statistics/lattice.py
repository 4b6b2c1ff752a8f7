"""The lattice of the radii that n votes can certify, and the counts and settings that explain printed radii.

n votes can end in n + 1 ways only. So all radii that they certify lie on a lattice: sigma * Phi^-1 of the
Clopper-Pearson bounds of 0 to n votes. Near zero and near its end, the radius of a unanimous vote, the lattice is
coarser than the three digits that logs print. There it distinguishes n and alpha.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import special

from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound
from maxup_smoothing.certify.statistics.radius import ceiling_radius, certified_radius

SAMPLES = (1_000, 10_000, 50_000, 100_000, 150_000, 200_000, 500_000, 1_000_000)
ALPHAS = (0.0001, 0.0005, 0.001, 0.01, 0.05)
SIGMAS = (0.12, 0.25, 0.5, 1.0)

#: Relative difference that another version of the mathematics library may make.
SLACK = 1e-9
_FULL = 15  # significant digits from which on a number is stored rather than printed
_STRAY = 0.005  # share of the rows that may be off a candidate's lattice: one damaged row does not refute the rest

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Flags: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Printed:
    """Positive radii as a log prints them; shapes (rows,).

    ``half_unit`` is half of the last printed digit, 0 where a float is stored in full: a radius that was rounded to
    the nearest is off by no more. ``format`` says it in words.
    """

    radius: Floats
    half_unit: Floats
    format: str

    @property
    def in_full(self) -> bool:
        """Whether the radii are stored, not rounded for reading."""
        return not self.half_unit.any()


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Printed radii against the lattice of some n, alpha and sigma; shapes (rows,).

    Attributes:
        possible: A count of votes gives this radius, to the printed precision.
        raised: Possible, but every such count proves less than is printed: it was rounded up.
        proved: Possible, and every such count proves at least what is printed.
        coarse: Possible, where neighbours on the lattice are printed differently: such a radius is evidence.
        down: All this is for a log that rounds down, because rounding to the nearest explains fewer rows.
    """

    possible: Flags
    raised: Flags
    proved: Flags
    coarse: Flags
    down: bool


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Settings that explain a log: its largest radius is their ceiling, and its radii are on their lattice.

    ``sigma`` is None where the log has it by row. ``off`` is the number of rows that are not explained. ``evidence`` is
    the number of distinct radii that are on the lattice where it is coarser than the printing.
    """

    n: int
    alpha: float
    sigma: float | None
    off: int
    evidence: int


def printed(texts: Sequence[str]) -> Printed:
    """Positive radii with the precision that their digits show: so many decimals, or significant digits (``{:.3}``).

    Args:
        texts: Positive finite decimal numbers.
    """
    numbers = [Decimal(text) for text in texts]
    digits = max((len(number.as_tuple().digits) for number in numbers), default=3)
    decimals = {-int(number.as_tuple().exponent) for number in numbers}
    radius = np.array([float(number) for number in numbers], dtype=np.float64)
    if digits >= _FULL:
        return Printed(radius=radius, half_unit=np.zeros_like(radius), format="full precision")
    if len(decimals) == 1 and len({number.adjusted() for number in numbers}) > 1:
        half = np.full_like(radius, 0.5 * 10.0 ** -min(decimals))
        return Printed(radius=radius, half_unit=half, format=f"{min(decimals)} decimals")
    digits = max(digits, 3)  # `{:.3}` drops final zeros
    half = np.array([0.5 * 10.0 ** (number.adjusted() - digits + 1) for number in numbers], dtype=np.float64)
    return Printed(radius=radius, half_unit=half, format=f"{digits} significant digits")


def fit(
    radii: Printed,
    n: int | Integers,
    alpha: float | Floats,
    sigma: float | Floats,
    votes: Integers | None = None,
) -> Fit:
    """Hold printed radii against the lattice of n, alpha and sigma, each one number or one a row.

    Args:
        radii: Positive radii.
        n: Estimation samples, in [1, 1e9].
        alpha: One-sided failure probability, in (0, 1).
        sigma: Standard deviation of the noise, positive.
        votes: Those for the predicted class, where the log has them; then only their own radius is possible.
    """
    columns = np.broadcast_arrays(radii.radius, radii.half_unit, n, alpha, sigma, -1 if votes is None else votes)
    distinct, inverse = np.unique(np.column_stack(columns).astype(np.float64), axis=0, return_inverse=True)
    r, half, trials, level, scale, told = distinct.T
    lattice = _Lattice(trials.astype(np.int64), level, scale, None if votes is None else told.astype(np.int64))
    fits = []
    for low, high in ((r - half, r + half), (r, r + 2 * half)):
        k = lattice.least(low)
        possible = (lattice.radius(k) >= low * (1 - SLACK)) & (lattice.radius(k) <= high * (1 + SLACK))
        raised = possible & ~(lattice.radius(lattice.least(r)) <= high * (1 + SLACK))
        if votes is not None:
            raised = possible & (lattice.radius(k) < r * (1 - SLACK))
        proved = possible & (lattice.radius(k) >= r * (1 - SLACK))
        with np.errstate(invalid="ignore"):  # beyond the last there is none: inf - inf
            coarse = possible & (lattice.radius(k) - lattice.radius(k - 1) > 2 * half)
        fits.append((possible, raised, proved, coarse))
    counts = np.bincount(inverse.ravel(), minlength=len(r))
    down = int(counts[~fits[1][0]].sum()) < int(counts[~fits[0][0]].sum())
    possible, raised, proved, coarse = (flags[inverse.ravel()] for flags in fits[down])
    return Fit(possible=possible, raised=raised, proved=proved, coarse=coarse, down=down)


def candidates(
    radii: Printed,
    samples: Sequence[int],
    alphas: Sequence[float],
    sigmas: Sequence[float] | Floats,
    votes: Integers | None = None,
) -> list[Candidate]:
    """All settings among those given that explain the radii, those that explain most rows first.

    Without votes the largest radius must be the ceiling: a log whose every image has dissent shows too little. If none
    fits, the largest radius that three rows share is tried, since one forged row would hide all the others.

    Args:
        radii: Positive radii.
        samples: Values of n to try.
        alphas: Values of alpha to try.
        sigmas: Values of sigma to try; an array is sigma by row instead.
        votes: Those for the predicted class, where the log has them.
    """
    by_row = isinstance(sigmas, np.ndarray)
    choices = [sigmas] if isinstance(sigmas, np.ndarray) else [np.full_like(radii.radius, sigma) for sigma in sigmas]
    for shared in (1, 3):
        found = [
            Candidate(
                n=n,
                alpha=alpha,
                sigma=None if by_row else float(sigma_R[0]),
                off=int((~match.possible).sum()),
                evidence=len(np.unique(radii.radius[match.coarse] / sigma_R[match.coarse])),
            )
            for sigma_R in choices
            for n, alpha in _plausible(radii, samples, alphas, sigma_R, votes, shared)
            if _promising(radii, n, alpha, sigma_R, votes)
            and (~(match := fit(radii, n, alpha, sigma_R, votes)).possible).mean() <= _STRAY
        ]
        if found or votes is not None:
            break
    return sorted(found, key=lambda candidate: candidate.off)


def _plausible(
    radii: Printed,
    samples: Sequence[int],
    alphas: Sequence[float],
    sigma_R: Floats,
    votes: Integers | None,
    shared: int,
) -> Iterator[tuple[int, float]]:
    """n and alpha whose ceiling is the largest radius (that ``shared`` rows have), or with room for all votes."""
    if not len(radii.radius):
        return
    _, first, rows = np.unique(radii.radius / sigma_R, return_index=True, return_counts=True)
    if not np.any(rows >= shared):
        return
    top = first[rows >= shared][-1]
    low, high = radii.radius[top] - radii.half_unit[top], radii.radius[top] + 2 * radii.half_unit[top]
    for n in samples:
        for alpha in alphas:
            if (votes is not None and votes.max() <= n) or (
                votes is None and low * (1 - SLACK) <= ceiling_radius(n, alpha, sigma_R[top]) <= high * (1 + SLACK)
            ):
                yield n, alpha


def _promising(radii: Printed, n: int, alpha: float, sigma_R: Floats, votes: Integers | None) -> bool:
    """Whether most of a few rows fit: a cheap no to the many candidates that explain nothing."""
    some = np.linspace(0, len(radii.radius) - 1, min(64, len(radii.radius))).astype(np.int64)
    few = Printed(radius=radii.radius[some], half_unit=radii.half_unit[some], format=radii.format)
    return bool(fit(few, n, alpha, sigma_R[some], None if votes is None else votes[some]).possible.mean() >= 0.75)


class _Lattice:
    """The radii that k of n votes certify, elementwise; infinite for k > n."""

    def __init__(self, n: Integers, alpha: Floats, sigma: Floats, votes: Integers | None) -> None:
        self._n, self._alpha, self._sigma, self._votes = n, alpha, sigma, votes

    def radius(self, k: Integers) -> Floats:
        bound = lower_confidence_bound(np.clip(k, 0, self._n), self._n, self._alpha)
        return np.where(k > self._n, np.inf, certified_radius(bound, 1.0) * self._sigma)

    def least(self, radius: Floats) -> Integers:
        """The fewest votes that certify ``radius``, n + 1 where none do; the votes themselves where they are told."""
        if self._votes is not None:
            return self._votes
        p = special.ndtr(radius * (1 - SLACK) / self._sigma)
        low, high = np.ones_like(self._n), self._n + 1
        while np.any(low < high):
            middle = (low + high) // 2
            some = np.minimum(middle, self._n)  # where the search has ended at n + 1
            enough = special.betainc(some, self._n - some + 1, p) <= self._alpha
            searching = low < high
            high = np.where(searching & enough, middle, high)
            low = np.where(searching & ~enough, middle + 1, low)
        return low
