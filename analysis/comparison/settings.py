"""Settings that logs leave out, inferred from their radii, and whether two logs have the same ones.

If a log records no sigma, n or alpha, two logs are compared as if they were equal. Their radii may refute that: then
they are different, whatever nobody told.
"""

from collections.abc import Sequence
from itertools import combinations

from maxup_smoothing.analysis.runs.run import Run
from maxup_smoothing.certify.logs.settings import infer_settings, norm_of
from maxup_smoothing.certify.statistics.lattice import Candidate
from maxup_smoothing.certify.statistics.radius import ceiling_radius
from maxup_smoothing.certify.statistics.rounding import floor_text

_SETTINGS = ("sigma", "n", "alpha")
_ROUNDED_UP = 1.005  # three digits, rounded to the nearest, are at most so much too large


def refuted(runs: Sequence[Run], *, different_sigma: bool = False) -> str | None:
    """Why the settings of some runs cannot be equal although not all are told, without a full stop; else None.

    Radii are held against the usual settings, see `certify.logs.settings.infer_settings`. Settings differ where two
    logs fit different ones. They also differ where a radius of one log is above the ceiling of the other's settings,
    and where one log fits usual settings and another fits none of them.

    Args:
        runs: Logs or tables of certificates in l2.
        different_sigma: Whether sigma may differ; then only n and alpha are looked at.
    """
    asked = [name for name in _SETTINGS if name != "sigma" or not different_sigma]
    fits = {run.name: _fit(run) for run in runs if not _told(run, asked)}
    for a, b in combinations(runs, 2):
        if a.name not in fits and b.name not in fits:
            continue  # what both record is compared as it is told
        known_a, known_b = _known(a, fits.get(a.name)), _known(b, fits.get(b.name))
        both = [name for name in asked if known_a[name] is not None and known_b[name] is not None]
        if any(known_a[name] != known_b[name] for name in both):
            return f"the radii fit different settings ({_shown(a, known_a)}; {_shown(b, known_b)})"
        if different_sigma:
            continue
        for one, known, other in ((a, known_a, b), (b, known_b, a)):
            if other.name not in fits or None in known.values():
                continue
            ceiling = ceiling_radius(int(known["n"] or 1), known["alpha"] or 0.5, known["sigma"] or 1.0)
            if other.summary.largest_radius > _ROUNDED_UP * ceiling:
                return (
                    f"{other.name} has the radius {other.summary.largest_radius:g}, above {floor_text(ceiling, 4)}, "
                    f"the most that the settings of {one.name} can certify ({_shown(one, known)})"
                )
            if one.name in fits and fits[other.name] is None and other.summary.largest_radius > 0:
                return (
                    f"the radii of {one.name} fit usual settings ({_shown(one, known)}), and those of {other.name} fit "
                    "none of the usual ones"
                )
    return None


def different_norm(runs: Sequence[Run]) -> str | None:
    """Why radii of some runs cannot be held against each other, by what they measure; None if they can.

    Raises:
        ValueError: If a table records several norms.
    """
    norms = {run.name: norm_of(run.table) for run in runs}
    unknown = [name for name, norm in norms.items() if norm is None]
    if unknown:
        return (
            f"the radii of {', '.join(unknown)} are too large for l2, and their norm is not told: import the log with "
            "`analysis import LOG --norm NORM --out OUT.tsv` and name OUT.tsv"
        )
    told = sorted({str(norm) for norm in norms.values()})
    if len(told) < 2:
        return None
    shown = " and ".join(f"{norm} ({', '.join(name for name in norms if norms[name] == norm)})" for norm in told)
    return f"the radii are of different norms, {shown}: a radius of one norm is no radius of another"


def _told(run: Run, names: Sequence[str]) -> bool:
    return all(name in run.table for name in names)


def _fit(run: Run) -> Candidate | None:
    return infer_settings(run.table["radius"], run.summary.sigma) if _one_sigma(run) else None


def _one_sigma(run: Run) -> bool:
    return "sigma" not in run.table or run.summary.sigma is not None


def _known(run: Run, fit: Candidate | None) -> dict[str, float | None]:
    """Sigma, n and alpha as the rows record them, or else as the radii do."""
    told = {name: getattr(run.summary, name) for name in _SETTINGS}
    return {
        name: value if value is not None or name in run.table or fit is None else getattr(fit, name)
        for name, value in told.items()
    }


def _shown(run: Run, known: dict[str, float | None]) -> str:
    parts = ", ".join(f"{name} = {known[name]}" for name in ("n", "alpha", "sigma") if known[name] is not None)
    return f"{run.name}: {parts}"
