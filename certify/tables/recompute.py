"""New radii from the votes that a radius table stores, at another alpha, bound or n.

This takes neither a model nor images. A new certificate is as good as one that was certified with the new settings,
provided that these were not chosen by their result. The best of several settings, picked row by row, is false more
often than alpha.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from maxup_smoothing.certify.statistics.binomial import require_alpha
from maxup_smoothing.certify.statistics.certificate import Look, limits
from maxup_smoothing.certify.statistics.radius import ABSTAIN, ceiling_radius, is_right, two_class_radius
from maxup_smoothing.certify.statistics.rounding import rounded_down
from maxup_smoothing.certify.statistics.top_k import TOP_K
from maxup_smoothing.certify.tables.fields import ABSTAINED, CERTIFIED
from maxup_smoothing.certify.tables.radius_table import read_rows, section, write_rows
from maxup_smoothing.certify.tables.restated import claims_of, require_among
from maxup_smoothing.certify.tables.row import Row
from maxup_smoothing.certify.tables.top_k_table import TopKRow, TopKTable
from maxup_smoothing.data.runtime.atomic import file_sha256

_ROUNDED = 1 - 1e-9  # of the radius: beyond it, something was taken off, which an abstention does not show


def recompute_row(
    row: Row,
    *,
    alpha: float | None = None,
    bound: str | None = None,
    n: int | None = None,
    seed: int = 0,
    probability_error: float | None = None,
) -> Row:
    """The certificate that the row's votes prove with other settings; the row itself at its own.

    *Alpha.* Each look's part of alpha is scaled, rounded down. All looks that were planned hold together with
    probability at least 1 - alpha, whatever stopped the sampling. So it does not matter that another alpha would have
    stopped it elsewhere.

    *Bound.* The looks hold the runner-up's votes, whichever bound they were made for.

    *n.* With procedure ``fixed``, n of the votes are drawn at random, without replacement. The votes are independent
    and of one law, hence exchangeable: any n of them chosen without regard to their values are n fresh samples. The
    number drawn for a class is Binomial(n, p) where the full count is Binomial(N, p). ``sequential`` and ``anytime``
    keep their looks at up to n votes, and spend no more on them. The class votes at an earlier look are not stored: of
    the other classes' ``counts`` only the largest and the sum are then those of that look.

    Args:
        row: A row, with the class that was selected.
        alpha: Failure probability, in (0, 1); the row's own if None.
        bound: One of ``certify.statistics.certificate.BOUNDS``; the row's own if None.
        n: Samples, at most those of the row if it is ``fixed``; all of them if None.
        seed: Of the draw of n votes, together with the row's idx and n; independent of the votes.
        probability_error: How far the noise's law may be from N(0, sigma^2), in total variation. If None, or if the
            row claims less than that, what its bounds fall short of its votes is taken for it. What was taken off the
            radius is taken off again.

    Raises:
        ValueError: If a setting is out of range or the row has no look at so few votes; with idx and the fix.
    """
    if alpha is not None:
        require_alpha(alpha)
    if n is not None and n < 1:
        raise ValueError(f"n must be at least 1, got {n}.")
    looks, counts = _scaled(row.looks, row.alpha, alpha, row.procedure), dict(row.counts)
    if n is not None and n < row.n:
        looks, counts = _first_looks(row, looks, n) if row.procedure != "fixed" else _drawn(row, looks[0], n, seed)
    elif n is not None and n > row.n and row.procedure == "fixed":
        raise ValueError(f"idx {row.idx} has n={row.n} votes, fewer than {n}; take at most {row.n} or certify again.")
    bound = row.bound if bound is None else bound
    p_a_lower, p_b_upper = _bounds(row, looks, bound, probability_error)
    predict, radius = _claim(row, p_a_lower, p_b_upper)
    return replace(
        row,
        predict=predict,
        radius=radius,
        correct=is_right(predict, row.label),
        n=looks[-1].n,
        n_a=looks[-1].n_a,
        p_a_lower=p_a_lower,
        p_b_upper=p_b_upper,
        alpha=row.alpha if alpha is None else alpha,
        status=ABSTAINED if predict == ABSTAIN else CERTIFIED,
        counts=counts,
        bound=bound,
        looks=looks,
    )


def recompute_table(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    alpha: float | None = None,
    bound: str | None = None,
    n: int | None = None,
    top_k: int | None = None,
    overwrite: bool = False,
) -> None:
    """`recompute_row` for every row, in the file's order; at the table's own settings the very same bytes.

    The manifest is the old one with its sampling changed and, under ``recomputed``, the SHA-256 of the table that was
    read with what was changed. A table without a manifest, or of fewer columns, must have n, n_a, alpha, sigma and
    counts. Where something was taken off radii, as for inputs moved onto the noise's grid, abstentions stay.

    Args:
        path: The radius table.
        out: The new one, another file.
        alpha: See `recompute_row`.
        bound: See `recompute_row`.
        n: See `recompute_row`.
        top_k: Adds the column ``top_k``, see `certify.tables.restated.among_first`. ``radius`` stays the l2 radius of
            the predicted class, which every reader takes it for.
        overwrite: Replace ``out`` if it exists.

    Raises:
        ValueError: If a setting or the table does not fit, or ``out`` exists; nothing is written then.
        OSError: If files cannot be read or written.
    """
    path = Path(path)
    rows, manifest = read_rows(path)
    told, noise = section(manifest, "sampling"), section(manifest, "noise")
    most = max(told.get("n", 0), *(row.n for row in rows))
    if n is not None and n > most:
        raise ValueError(f"{path} has at most n={most} votes an image, fewer than {n}; lower it or certify again.")
    if n is not None and n > 0 and not any(ceiling_radius(n, alpha or row.alpha, row.sigma) for row in rows):
        raise ValueError(f"{n} samples cannot certify anything at alpha={alpha or rows[0].alpha:g}; raise --n.")
    settings: dict[str, Any] = {
        "seed": noise.get("seed") or 0,
        "probability_error": noise.get("probability_error"),
    }
    cut = any(0 < row.radius < _ROUNDED * _proved(row) or (row.radius == 0 and _proved(row) > 0) for row in rows)
    made = [
        _abstaining(new) if cut and row.predict == ABSTAIN else new
        for row in rows
        for new in [recompute_row(row, alpha=alpha, bound=bound, n=n, **settings)]
    ]
    wanted = {"alpha": alpha, "bound": bound, "n": n, "top_k": top_k}
    before = told or _common(rows)
    changed = {name: value for name, value in wanted.items() if value is not None and value != before.get(name)}
    original = manifest
    if manifest is None or changed:
        step = {"table_sha256": file_sha256(path), "from": {name: before.get(name) for name in changed}, "to": changed}
        old = {"sampling": _common(made)} if manifest is None else {**manifest, "sampling": _resampled(told, changed)}
        manifest = {**old, "recomputed": [*old.get("recomputed", []), step]}
    if top_k is None:
        write_rows(out, manifest, made, sources=[path], overwrite=overwrite)
        return
    known = None if original is None else manifest
    require_among({row.procedure for row in made}, top_k, known)
    claims = claims_of(made, top_k, known)[0]
    claiming = [TopKRow(**vars(row), top_k=claim) for row, claim in zip(made, claims, strict=True)]
    write_rows(out, manifest, claiming, sources=[path], overwrite=overwrite, kind=TopKTable)


@lru_cache(maxsize=4096)  # most inputs are easy, and their rows the same
def _scaled(looks: tuple[Look, ...], old: float, new: float | None, procedure: str) -> tuple[Look, ...]:
    """The looks with their levels for another alpha, of which they spend no more in exact arithmetic."""
    if new is None or new == old:
        return looks
    levels = [Fraction(look.level) for look in looks]
    spent = max(levels) if procedure == "anytime" else sum(levels, Fraction(0))
    unit = Fraction(new) / max(Fraction(old), spent)
    scaled = tuple(replace(look, level=rounded_down(unit * Fraction(look.level))) for look in looks)
    if not min(look.level for look in scaled) > 0:
        raise ValueError(f"alpha = {new} is too small to be divided among {len(looks)} looks; raise it.")
    return scaled


def _drawn(row: Row, look: Look, n: int, seed: int) -> tuple[tuple[Look, ...], dict[int, int]]:
    """A random n of a row's votes; the same whenever the table is computed again."""
    generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(row.idx, n)))
    kinds = sorted(row.counts)
    drawn = generator.multivariate_hypergeometric([row.counts[kind] for kind in kinds], n).tolist()
    counts = {kind: count for kind, count in zip(kinds, drawn, strict=True) if count}
    rival = max((count for kind, count in counts.items() if kind != row.selected), default=0)
    return (Look(n, counts.get(row.selected, 0), rival, look.level),), counts


def _first_looks(row: Row, looks: Sequence[Look], n: int) -> tuple[tuple[Look, ...], dict[int, int]]:
    """The looks at up to n votes, and counts that agree with the last of them, see `recompute_row`."""
    kept = tuple(look for look in looks if look.n <= n)
    if not kept:
        raise ValueError(f"idx {row.idx} was first looked at after {looks[0].n} votes, not {n}; take at least those.")
    last = kept[-1]
    counts, left = {row.selected: last.n_a}, last.n - last.n_a
    # Largest first: then the rest always fits, since the votes at the look were parts of the later ones.
    for kind in sorted(row.counts, key=lambda kind: (-row.counts[kind], kind)):
        if kind != row.selected:
            counts[kind] = min(row.counts[kind], last.n_b, left)
            left -= counts[kind]
    if left:
        raise ValueError(f"idx {row.idx}: the counts do not contain the votes of its look at {last.n}.")
    return kept, {kind: counts[kind] for kind in sorted(counts) if counts[kind]}


def _bounds(row: Row, looks: tuple[Look, ...], bound: str, known: float | None) -> tuple[float, float]:
    told = row.p_a_lower, row.p_b_upper
    if known is not None and told == limits(
        row.looks, procedure=row.procedure, bound=row.bound, probability_error=known
    ):
        return limits(looks, procedure=row.procedure, bound=bound, probability_error=known)
    if looks == row.looks and bound == row.bound:
        return told
    if row.p_a_lower == 0:
        return 0.0, 1.0  # how much more was taken off than there was is unknown
    full = limits(row.looks, procedure=row.procedure, bound=row.bound)
    short = max(full[0] - told[0], told[1] - full[1], 0.0)
    error = float(np.nextafter(short, 1.0)) if short else 0.0
    return limits(looks, procedure=row.procedure, bound=bound, probability_error=error)


def _proved(row: Row) -> float:
    return _radius(row.p_a_lower, row.p_b_upper, row.sigma)


@lru_cache(maxsize=4096)
def _radius(p_a_lower: float, p_b_upper: float, sigma: float) -> float:
    return float(two_class_radius(p_a_lower, p_b_upper, sigma))


def _claim(row: Row, p_a_lower: float, p_b_upper: float) -> tuple[int, float]:
    """Class and radius of new bounds, less what the row's radius was below its own bounds."""
    if (p_a_lower, p_b_upper) == (row.p_a_lower, row.p_b_upper):
        return row.predict, row.radius
    radius, before = _radius(p_a_lower, p_b_upper, row.sigma), _proved(row)
    if not p_a_lower > p_b_upper or (row.predict == ABSTAIN and before > 0):
        return ABSTAIN, 0.0
    if row.radius < before:
        radius = float(np.nextafter(radius - np.nextafter(before - row.radius, np.inf), -1.0))
        return (row.selected, radius) if radius > 0 else (ABSTAIN, 0.0)
    return row.selected, radius


def _abstaining(row: Row) -> Row:
    return replace(row, predict=ABSTAIN, radius=0.0, correct=False, status=ABSTAINED)


def _common(rows: Sequence[Row]) -> dict[str, Any]:
    """The sampling of rows without a manifest: the settings that all of them share."""
    names = ("procedure", "bound", "sigma", "n0", "n", "alpha")
    values = {name: {getattr(row, name) for row in rows} for name in names}
    return {name: found.pop() for name, found in values.items() if len(found) == 1}


def _resampled(told: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    sampling = {**told, **{name: value for name, value in changed.items() if name != TOP_K}}
    if "looks" in told and {"alpha", "n"} & changed.keys():
        looks = [Look(look, 0, 0, level) for look, level in told["looks"] if look <= sampling["n"]]
        scaled = _scaled(tuple(looks), told["alpha"], sampling["alpha"], "sequential")
        sampling["looks"] = [[look.n, look.level] for look in scaled]
    return sampling
