"""Logs of DSRS: limits of the true class's probability, and radii; separated by spaces, without a header."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from scipy import special

from maxup_smoothing.certify.logs.log import NO_ROWS, UNLABELLED, Given, Log, missing_rows, unlabelled
from maxup_smoothing.certify.logs.settings import radius_notes
from maxup_smoothing.certify.logs.source import Source, numbered, split
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound, upper_confidence_bound
from maxup_smoothing.certify.statistics.radius import certified_radius
from maxup_smoothing.certify.tables.fields import (
    COUNT,
    LOWER_BOUND,
    NOT_NEGATIVE,
    POSITIVE,
    POSITIVE_COUNT,
    PROBABILITY,
    SECONDS,
    Field,
)

_NAMED = ("idx", "radius")
_KEYS = ("disttype", "k", "std", "N", "alpha")
_SETTINGS: Mapping[str, Field[Any]] = {"std": POSITIVE, "N": POSITIVE_COUNT, "alpha": PROBABILITY}


@dataclass(frozen=True)
class DsrsSampling:
    """``x key value`` lines, then ``o idx low high``: two-sided Clopper-Pearson limits of the true class."""

    name: str = "dsrs-sampling"
    project: str = "llylly/DSRS, sampler"

    def matches(self, source: Source) -> bool:
        """Whether the first line is one of the two."""
        first = source.body[0][1] if source.body else ""
        return re.fullmatch(rf"x ({'|'.join(_KEYS)}) \S+|o [0-9]+ \S+ \S+", first.strip()) is not None

    def read(self, source: Source, given: Given) -> Log:
        """Radii of Gaussian noise from the lower limits.

        Raises:
            ValueError: If a line is malformed, sigma, N or alpha is missing, or the noise is not Gaussian.
        """
        told, limits = _sampling(source)
        if told.get("disttype", "gaussian") != "gaussian":
            raise ValueError(
                f"{source.path} was sampled from {told['disttype'][:50]} noise: of `gaussian` alone a radius follows "
                "from the limits; read DSRS's own file of radii."
            )
        settings = {name: _setting(source, told, name) for name in _SETTINGS}
        two_sided = settings["alpha"]
        sigma, n = given.or_told("sigma", settings["std"]), given.or_told("n", settings["N"])
        alpha = given.or_told("alpha", None if two_sided is None else two_sided / 2)
        Given(sigma=sigma, n=n, alpha=alpha)
        low, high = (np.array([pair[side] for pair in limits.values()]) for side in (0, 1))
        k = np.clip(np.rint(np.nan_to_num(special.bdtrik(1 - alpha, n, low)) + 1), 0, n).astype(np.int64)
        k = np.where(low == 0, 0, k)
        bound = lower_confidence_bound(k, n, alpha)
        fits = np.isclose(bound, low, rtol=1e-6, atol=1e-12)
        fits &= np.isclose(upper_confidence_bound(k, n, alpha), high, rtol=1e-6, atol=1e-12)
        lower = np.where(fits, np.minimum(low, bound), low)
        more = {"p_a_lower": lower.tolist(), "sigma": [sigma] * len(k), "alpha": [alpha] * len(k)}
        notes = [UNLABELLED, f"limits are of the true class and two-sided: one side has alpha = {alpha:g}."]
        if fits.all():
            more |= {"n": [n] * len(k), "n_a": k.tolist()}
        else:
            notes.append(
                f"{int((~fits).sum())} rows have limits that no number of n={n} votes gives at that alpha, the first "
                f"idx {list(limits)[int(np.argmin(fits))]}: taken as they are, without n and n_a."
            )
        table = unlabelled(list(limits), certified_radius(lower, sigma).tolist(), **more)
        audited = tuple(missing_rows(list(limits)))
        return Log(table=table, dialect=self.name, kind="sampling", notes=tuple(notes), audited=audited)


@dataclass(frozen=True)
class DsrsRadii:
    """``idx radius``, perhaps with the gain over an earlier radius, its ratio, and seconds; perhaps under a header."""

    name: str = "dsrs-radii"
    project: str = "llylly/DSRS, radii"

    def matches(self, source: Source) -> bool:
        """Whether the first line is such a row, or names the two columns."""
        if source.header == _NAMED:
            return True
        grid = numbered(source)
        if not grid or not _is_row(grid[0][1]):
            return False
        # Several whole numbers a line are votes; radii are written as decimal numbers.
        return len(grid[0][1]) == 2 or any("." in text for _, texts in grid for text in texts)

    def read(self, source: Source, given: Given) -> Log:
        """The radii of the true class.

        Raises:
            ValueError: If a line is malformed or an image is there twice, or if the file may be a curve, too.
        """
        rows: dict[int, tuple[float, float, str]] = {}
        named = source.header == _NAMED
        body = [(number, split(line)) for number, line in (source.body[1:] if named else source.whole)]
        for number, texts in body:
            try:
                if not _is_row(texts):
                    raise ValueError("expected `idx radius`, perhaps with a gain, its ratio and seconds.")
                idx, radius = COUNT.read(texts[0], "idx"), NOT_NEGATIVE.read(texts[1], "radius")
                seconds = SECONDS.read(texts[4], "time") if len(texts) == 5 else float("nan")
                if idx in rows:
                    raise ValueError(f"idx {idx} is there twice.")
            except ValueError as error:
                raise source.error(number, error) from None
            rows[idx] = (radius, seconds, texts[1])
        if not rows:
            raise ValueError(f"{source.path}: {NO_ROWS}")
        radii, times = [row[0] for row in rows.values()], [row[1] for row in rows.values()]
        if not named and len(rows) > 3 and max(radii) <= 1 and _falls(radii) and _falls([-idx for idx in rows]):
            raise ValueError(
                f"{source.path} may be a curve, of radii and accuracies, or radii of images: write `radius accuracy` "
                "or `idx radius` above its lines."
            )
        table = given.added_to(unlabelled(list(rows), radii, time=times))
        printed = radius_notes([row[2] for row in rows.values() if row[0] > 0], given.sigma, True)
        audited = (*printed, *missing_rows(list(rows)))
        return Log(table=table, dialect=self.name, kind="radii", notes=(UNLABELLED,), audited=audited)


def _is_row(texts: Sequence[str]) -> bool:
    return len(texts) in (2, 4, 5) and re.fullmatch("[0-9]{1,18}", texts[0]) is not None


def _falls(values: Sequence[float]) -> bool:
    return all(later <= earlier for earlier, later in pairwise(values)) and values[0] > values[-1]


def _setting(source: Source, told: Mapping[str, str], name: str) -> Any:
    """The value of a setting, None where the file does not tell it."""
    try:
        return _SETTINGS[name].read(told[name], name) if name in told else None
    except ValueError as error:
        raise ValueError(f"{source.path}: {error}") from None


def _sampling(source: Source) -> tuple[dict[str, str], dict[int, tuple[float, float]]]:
    told: dict[str, str] = {}
    limits: dict[int, tuple[float, float]] = {}
    for number, line in source.body:
        texts = line.split()
        try:
            if len(texts) == 3 and texts[0] == "x" and texts[1] not in told and not limits:
                told[texts[1]] = texts[2]
            elif len(texts) == 4 and texts[0] == "o":
                idx, low, high = (
                    COUNT.read(texts[1], "idx"),
                    LOWER_BOUND.read(texts[2], "low"),
                    NOT_NEGATIVE.read(texts[3], "high"),
                )
                if idx in limits or not low <= high <= 1:
                    raise ValueError("expected each idx once, with 0 <= low <= high <= 1.")
                limits[idx] = (low, high)
            else:
                raise ValueError("expected `x key value`, each key once, or then `o idx low high`.")
        except ValueError as error:
            raise source.error(number, error) from None
    if not limits:
        raise ValueError(f"{source.path}: {NO_ROWS}")
    return told, limits
