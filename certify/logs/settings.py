"""What printed radii tell: how they were rounded, and which n and alpha are behind them."""

from collections.abc import Iterable, Sequence

import numpy as np

from certify import inference
from certify.inference import Candidate, Printed

_EVIDENCE = 3  # distinct radii on a coarse part of the lattice: two may be there by chance


def infer_settings(radii: Iterable[float | str], sigma: float | None = None) -> Candidate | None:
    """The one pair of n and alpha, among the usual ones, that explains a log's radii; None if none or several do.

    The largest radius must be the ceiling of n, alpha and sigma, and the others near it must be radii of whole votes;
    see `certify.inference`. The usual ones are its ``SAMPLES`` and ``ALPHAS``, and ``SIGMAS`` where sigma is unknown.

    Args:
        radii: As a log prints them; those that are 0 are left out.
        sigma: Standard deviation of the noise, positive.
    """
    texts = [radius if isinstance(radius, str) else repr(float(radius)) for radius in radii]
    shown = inference.printed([text for text in texts if float(text) > 0])
    return _infer(shown, inference.SIGMAS if sigma is None else (sigma,))


def radius_notes(texts: Sequence[str], sigma: float | None, settings_told: bool) -> list[str]:
    """Notes on positive radii as they are printed: their rounding, and n and alpha if the log does not tell them.

    Args:
        texts: The radii above 0.
        sigma: Standard deviation of the noise, None if unknown or not the same for all rows.
        settings_told: Whether n and alpha are known, so that nothing need be inferred.
    """
    if not texts:
        return ["no radius is above 0: these are predictions, or nothing was certified."]
    shown = inference.printed(texts)
    if shown.in_full:
        return []
    most = 100 * float(np.max(shown.half_unit / shown.radius))
    rounding = f"radii are printed to {shown.format}, rounded to the nearest: up to {most:.2g} % too large."
    found = None if settings_told else _infer(shown, inference.SIGMAS if sigma is None else (sigma,))
    if found is None:
        return [rounding]
    with np.errstate(all="ignore"):
        match = inference.fit(shown, found.n, found.alpha, found.sigma if found.sigma is not None else 1.0)
    if match.down:
        rounding = f"radii are printed to {shown.format}, and fit only if they were rounded down."
    others = [alpha for alpha in (0.001, 0.01) if alpha != found.alpha]
    return [
        rounding,
        f"the tail fits alpha = {found.alpha:g}, n = {found.n:,}, sigma = {found.sigma:g}, not alpha = {others[0]:g}; "
        "inferred, not told.",
    ]


def _infer(shown: Printed, sigmas: Sequence[float]) -> Candidate | None:
    with np.errstate(all="ignore"):  # a log may say that a radius is 1e300
        fits = inference.candidates(shown, inference.SAMPLES, inference.ALPHAS, sigmas)
    best = [one for one in fits if one.off == fits[0].off]
    return best[0] if len(best) == 1 and best[0].evidence >= _EVIDENCE else None
