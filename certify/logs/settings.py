"""Settings inferred from printed radii: their rounding, n and alpha, and whether they can be l2."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from maxup_smoothing.certify.statistics import lattice
from maxup_smoothing.certify.statistics.binomial import LARGEST_N
from maxup_smoothing.certify.statistics.lattice import Candidate, Printed
from maxup_smoothing.certify.statistics.radius import ceiling_radius

L2 = "l2"
_ROUNDED_UP = 1.005  # three digits, rounded to the nearest, are at most so much too large
_EVIDENCE = 3  # distinct radii on a coarse part of the lattice: two may be there by chance


def infer_settings(radii: Iterable[float | str], sigma: float | None = None) -> Candidate | None:
    """The one pair of n and alpha, among the usual ones, that explains a log's radii; None if none or several do.

    The largest radius must be the ceiling of n, alpha and sigma, and the others near it must be radii of whole votes;
    see `audit.lattice`. The usual ones are its ``SAMPLES`` and ``ALPHAS``, and ``SIGMAS`` where sigma is unknown.

    Args:
        radii: As a log prints them; those that are 0 are left out.
        sigma: Standard deviation of the noise, positive.
    """
    texts = [radius if isinstance(radius, str) else repr(float(radius)) for radius in radii]
    shown = lattice.printed([text for text in texts if float(text) > 0])
    return _infer(shown, lattice.SIGMAS if sigma is None else (sigma,))


def radius_notes(texts: Sequence[str], sigma: float | None, settings_told: bool) -> list[str]:
    """Notes on positive radii as they are printed: their rounding, and n and alpha if the log does not record them.

    Args:
        texts: The radii above 0.
        sigma: Standard deviation of the noise, None if unknown or not the same for all rows.
        settings_told: Whether n and alpha are known, so that nothing need be inferred.
    """
    if not texts:
        return ["no radius is above 0: these are predictions, or nothing was certified."]
    shown = lattice.printed(texts)
    if shown.in_full:
        return []
    most = 100 * float(np.max(shown.half_unit / shown.radius))
    rounding = f"radii are printed to {shown.format}, rounded to the nearest: up to {most:.2g} % too large."
    found = None if settings_told else _infer(shown, lattice.SIGMAS if sigma is None else (sigma,))
    if found is None:
        return [rounding]
    with np.errstate(all="ignore"):
        match = lattice.fit(shown, found.n, found.alpha, found.sigma if found.sigma is not None else 1.0)
    if match.down:
        rounding = f"radii are printed to {shown.format}, and fit only if they were rounded down."
    others = [alpha for alpha in (0.001, 0.01) if alpha != found.alpha]
    return [
        rounding,
        f"the tail fits alpha = {found.alpha:g}, n = {found.n:,}, sigma = {found.sigma:g}, not alpha = {others[0]:g}; "
        "inferred, not told.",
    ]


def norm_of(table: pd.DataFrame) -> str | None:
    """The norm of the radii: the one recorded, l2 where none is, None where the radii refute that.

    Raises:
        ValueError: If it records several.
    """
    if "norm" in table:
        told = sorted(set(table["norm"].tolist()))
        if len(told) > 1:
            raise ValueError(f"the radii are of several norms, {' and '.join(told[:3])}; one table holds those of one.")
        return told[0] if told else L2
    return L2 if beyond_l2(table) is None else None


def beyond_l2(table: pd.DataFrame) -> str | None:
    """Why radii of which no norm is told cannot be l2, and what to do; None if they can be.

    They cannot where one is above the ceiling of its sigma, n and alpha. Those that the table does not record are the
    largest of the usual ones, `certify.statistics.lattice.SIGMAS`, ``SAMPLES`` and ``ALPHAS``. Our own tables are l2.
    """
    if "norm" in table or "status" in table or len(table) == 0:
        return None
    told = [name for name in ("sigma", "n", "alpha") if name in table]
    sigma = table["sigma"].to_numpy(np.float64) if "sigma" in table else np.full(len(table), max(lattice.SIGMAS))
    n = min(int(table["n"].max()), LARGEST_N) if "n" in table else max(lattice.SAMPLES)
    alpha = float(table["alpha"].max()) if "alpha" in table else max(lattice.ALPHAS)
    ceiling = ceiling_radius(n, alpha, 1.0)
    with np.errstate(over="ignore"):  # a log may say that sigma is 1e-300
        at = int((table["radius"].to_numpy(np.float64) / sigma).argmax())
    scale, radius = float(sigma[at]), float(table["radius"].iloc[at])
    if radius <= _ROUNDED_UP * ceiling * scale:
        return None
    usual = "" if len(told) == 3 else ", the largest of the usual ones where they are not told"
    return (
        f"the radius {radius:g} is above {ceiling * scale:.4g}, the most that n = {n:,}, alpha = {alpha:g} and "
        f"sigma = {scale:g} can certify in l2{usual}: say which norm the radii are of with `analysis import LOG --norm "
        "NORM --out OUT.tsv` (l1, linf, another word, or l2)."
    )


def _infer(shown: Printed, sigmas: Sequence[float]) -> Candidate | None:
    with np.errstate(all="ignore"):  # a log may say that a radius is 1e300
        fits = lattice.candidates(shown, lattice.SAMPLES, lattice.ALPHAS, sigmas)
    best = [one for one in fits if one.off == fits[0].off]
    return best[0] if len(best) == 1 and best[0].evidence >= _EVIDENCE else None
