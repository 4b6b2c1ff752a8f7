"""Whether the radii of a certification log are possible for its sigma, n and alpha, and what rounding did to them."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maxup_smoothing.certify.logs.findings import LogFinding, RawLog, Setting, is_fixed, such_rows, where
from maxup_smoothing.certify.statistics import lattice
from maxup_smoothing.certify.statistics.binomial import LARGEST_N, lower_confidence_bound
from maxup_smoothing.certify.statistics.lattice import SLACK, Fit, Floats, Integers, Printed
from maxup_smoothing.certify.statistics.radius import ceiling_radius, certified_radius

_VOTES = ("n_a", "count")  # the predicted class's votes, as logs call them
_EVIDENCE = 3  # distinct radii on a coarse lattice: two may be there by chance
_EXPLAINED = 0.9  # share of the rows that a lattice must give before it shows how they were rounded
_STEP = 0.25  # tables report certified accuracy at its multiples


def of_radii(
    path: Path, log: RawLog, given: Mapping[str, float | None], recorded: Mapping[str, Any] | None
) -> tuple[list[LogFinding], dict[str, Setting]]:
    """Whether the radii are possible for sigma, n and alpha, as told by columns, ``given``, ``recorded`` or inferred.

    Args:
        path: The log's, whose name may hold sigma.
        log: The log.
        given: sigma, n and alpha as the caller says, None where the caller does not.
        recorded: The manifest's sampling, None if there is none.

    Returns:
        The findings, and sigma, n and alpha with where each is from.
    """
    found: list[LogFinding] = []
    settings = {name: _setting(path, log, name, given[name], recorded or {}, found) for name in ("sigma", "n", "alpha")}
    if {"n_a", "p_a_lower", "n", "alpha", "sigma"} <= set(log.header):
        return found, settings  # each row was held against its own votes
    rows = [index for index, row in enumerate(log.rows) if row["radius"] > 0 and is_fixed(row)]
    if not rows:
        return found, settings
    radii, votes = lattice.printed([log.radii[index] for index in rows]), _votes(log, rows)
    if any(setting.source in ("unknown", "file name") for setting in settings.values()):
        settings = _inferred(radii, votes, _values(log, rows, "sigma", settings), settings, found)
    sigma, n, alpha = (_values(log, rows, name, settings) for name in ("sigma", "n", "alpha"))
    match = None
    if sigma is not None and n is not None and alpha is not None:
        match = lattice.fit(radii, n.astype(np.int64), alpha, sigma, votes)
        # Where settings were inferred nothing said them, and so nothing contradicts them.
        level = "warning" if any(setting.source == "inferred" for setting in settings.values()) else "error"
        lines = [log.lines[row] for row in rows]
        found += _impossible(radii, match, votes, n.astype(np.int64), alpha, sigma, lines, level)
        if match.possible.mean() < _EXPLAINED:
            match = None
    found += [*_rounding(radii, match), *_ties(log, rows, radii, match)]
    return found, settings


def _impossible(
    radii: Printed,
    match: Fit,
    votes: Integers | None,
    n: Integers,
    alpha: Floats,
    sigma: Floats,
    lines: Sequence[int],
    level: str,
) -> Iterator[LogFinding]:
    """Radii that no votes prove, or not the votes that the log tells."""
    k = n if votes is None else np.minimum(votes, n)
    most = certified_radius(lower_confidence_bound(k, n, alpha), 1.0) * sigma
    above = radii.radius - radii.half_unit > most * (1 + SLACK)
    many = np.zeros_like(above) if votes is None else votes > n
    off = ~match.possible & ~above & ~many
    for check, rows in (("ceiling" if votes is None else "votes", above & ~many), ("counts", many), ("lattice", off)):
        if not rows.any():
            continue
        at = np.flatnonzero(rows).tolist()
        row = at[0]
        radius, of = f"radius {radii.radius[row]:g}", f"n={n[row]}, alpha={alpha[row]:g}, sigma={sigma[row]:g}"
        weight = level
        if check == "ceiling":
            message = f"{radius} is above {most[row]:.6g}, the most that {of} can certify"
        elif check == "votes":
            message = f"{radius} is above {most[row]:.6g}, which {k[row]} votes prove at {of}"
        elif votes is None:
            message = f"no number of votes gives {radius} at {of}"
        elif check == "counts":
            message = f"{votes[row]} votes are more than n={n[row]}"
        else:  # a radius may claim less than its votes prove
            message, weight = f"{radius} is below {most[row]:.6g}, which {k[row]} votes prove at {of}", "note"
        message = f"{where([lines[index] for index in at])}: {message}; {such_rows(len(at))}."
        yield LogFinding(weight, check, message, len(at))


def _inferred(
    radii: Printed, votes: Integers | None, sigma: Floats | None, settings: dict[str, Setting], found: list[LogFinding]
) -> dict[str, Setting]:
    """The settings, with the unknown ones inferred from the radii where possible; ``found`` gets a finding of it."""
    n, alpha = settings["n"], settings["alpha"]
    if "differs by row" in (n.source, alpha.source):
        return settings
    samples = lattice.SAMPLES if n.value is None else (int(n.value),)
    alphas = lattice.ALPHAS if alpha.value is None else (alpha.value,)
    told = sigma is not None and settings["sigma"].source != "file name"
    choices: list[Sequence[float] | Floats] = [] if sigma is None else [sigma]
    choices += [] if told else [lattice.SIGMAS]
    fits = next((fits for tried in choices if (fits := lattice.candidates(radii, samples, alphas, tried, votes))), [])
    largest = f"the largest radius is {radii.radius.max():g}"
    if not fits:
        message = (
            f"{largest}: none of the settings tried (n {_span(samples)}, alpha {_span(alphas)}) gives these radii."
        )
        found.append(LogFinding("warning", "settings", message, 0))
        return settings
    best = [fit for fit in fits if fit.off == fits[0].off]
    names = [
        f"n={fit.n}, alpha={fit.alpha:g}" + (f", sigma={fit.sigma:g}" if fit.sigma is not None else "") for fit in best
    ]
    if len(best) > 1:
        message = f"{largest}: {len(best)} settings give these radii, {'; '.join(names[:6])}. Which one is unknown."
        found.append(LogFinding("warning", "settings", message, 0))
        return settings
    fit = best[0]
    if fit.evidence < _EVIDENCE:
        message = (
            f"{largest}: only {names[0]} gives these radii, but {fit.evidence} distinct ones, on a coarse part of its "
            f"lattice, are too few to be sure (at least {_EVIDENCE})."
        )
        found.append(LogFinding("warning", "settings", message, 0))
        return settings
    ceiling = f"its ceiling being {ceiling_radius(fit.n, fit.alpha, 1.0):.3g} sigma"
    message = (
        f"{largest}: of the settings tried only {names[0]} gives these radii, {ceiling}; {fit.evidence} distinct ones "
        "are on its lattice where that is coarse."
    )
    found.append(LogFinding("note", "settings", message, 0))
    named = settings["sigma"].value
    if named is not None and fit.sigma is not None and fit.sigma != named:
        message = f"the file name says sigma {named:g}, the radii say {fit.sigma:g}."
        found.append(LogFinding("warning", "settings", message, 0))
    new = {"sigma": fit.sigma if fit.sigma is not None else named, "n": fit.n, "alpha": fit.alpha}
    return {
        name: setting if new[name] in (None, setting.value) else Setting(new[name], "inferred")
        for name, setting in settings.items()
    }


def _rounding(radii: Printed, match: Fit | None) -> Iterator[LogFinding]:
    """Radii that are printed larger than what was proved."""
    total = len(radii.radius)
    if radii.in_full:
        return
    if match is None:
        most = 100 * float(np.max(radii.half_unit / radii.radius))
        message = (
            f"radii have {radii.format}: rounded to the nearest, as most scripts do, about half of the {total} are "
            f"above what was proved, by up to {most:.2g} %; which ones, only n, alpha and sigma tell."
        )
        yield LogFinding("warning", "rounding", message, total)
    elif match.down:
        yield LogFinding(
            "note", "rounding", f"radii have {radii.format}, and fit only if they are rounded down.", total
        )
    elif raised := int(match.raised.sum()):
        message = (
            f"radii have {radii.format}, rounded to the nearest: {raised} of {total} ({raised / total:.1%}) are "
            f"certainly above what was proved, such as {radii.radius[match.raised].max():g}, and {match.proved.sum()} "
            "certainly not; of the rest the digits do not tell."
        )
        yield LogFinding("warning", "rounding", message, raised)
    else:
        message = f"radii have {radii.format}; of the {total} none is certainly rounded up, but any of them may be."
        yield LogFinding("warning", "rounding", message, total)


def _ties(log: RawLog, rows: Sequence[int], radii: Printed, match: Fit | None) -> Iterator[LogFinding]:
    """Correct rows printed at the very radii that tables report: ``radius >= r`` counts them, proved or not."""
    if radii.in_full or (match is not None and match.down):
        return
    tied = np.array([log.rows[row]["correct"] == 1 for row in rows]) & (radii.radius / _STEP % 1 == 0)
    if match is not None:
        tied &= ~match.proved
    if not tied.any():
        return
    counts = sorted(Counter(radii.radius[tied].tolist()).items())
    worst, most = max(counts, key=lambda item: item[1])
    message = (
        f"what is printed exactly at a radius that tables report counts there, though what was proved may be less: "
        f"{tied.sum()} rows ({', '.join(f'{count} at {radius:g}' for radius, count in counts)}), which may add up to "
        f"{100 * most / len(log.rows):.2f} points of certified accuracy, at {worst:g}"
    )
    if match is not None:
        message += f"; for {int((tied & match.raised).sum())} of them it certainly is"
    yield LogFinding("warning", "ties", f"{message}.", int(tied.sum()))


def _setting(
    path: Path, log: RawLog, name: str, given: float | None, recorded: Mapping[str, Any], found: list[LogFinding]
) -> Setting:
    """sigma, n or alpha as told; ``found`` gets a finding if what is ``given`` contradicts the log or its manifest."""
    column = {row[name] for row in log.rows if name in row}
    beside = recorded.get(name)
    setting = Setting(None, "unknown")
    if column:
        setting = Setting(column.pop(), "column") if len(column) == 1 else Setting(None, "differs by row")
    elif _sensible(name, beside):
        setting = Setting(beside, "manifest")
    if given is not None:
        if setting.source != "unknown" and setting.value != given:
            message = f"{name} {given:g} was given, but the log's {setting.source} says {setting}."
            found.append(LogFinding("error", "settings", message, 0))
        return Setting(given, "given") if setting.source in ("unknown", "manifest") else setting
    named = _sigma_of_name(path) if name == "sigma" and setting.source == "unknown" else None
    return setting if named is None else Setting(named, "file name")


def _sensible(name: str, value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if name == "n":
        return isinstance(value, int) and 1 <= value <= LARGEST_N
    return 0 < value < (1 if name == "alpha" else 1e300)


def _sigma_of_name(path: Path) -> float | None:
    """``noise_0.25/test/sigma_0.50`` is 0.5, ``cohen-0.12.tsv`` 0.12; of folders only such as are named for noise."""
    name = re.findall(r"(?<![0-9.])[0-9]*\.[0-9]+(?![0-9]*\.[0-9])", path.name)
    folders = re.findall(r"(?:sigma|noise)[_=-]?([0-9]*\.?[0-9]+)", "/".join(path.parts[-5:-1]))
    numbers = [float(number) for number in (*folders, *name) if 0 < float(number) <= 4]
    return numbers[-1] if numbers else None


def _values(log: RawLog, rows: Sequence[int], name: str, settings: Mapping[str, Setting]) -> Floats | None:
    """A setting by row, None where it is unknown."""
    value, source = settings[name].value, settings[name].source
    if source in ("column", "differs by row"):
        values = np.array([log.rows[row][name] for row in rows], dtype=np.float64)
        return None if name == "n" and values.max() > LARGEST_N else values
    return None if value is None else np.full(len(rows), value, dtype=np.float64)


def _votes(log: RawLog, rows: Sequence[int]) -> Integers | None:
    """The predicted class's votes, if the log has them."""
    name = next((name for name in _VOTES if name in log.header), None)
    texts = [str(log.rows[row][name]) for row in rows] if name else []
    return (
        np.array(texts, dtype=np.int64) if texts and all(re.fullmatch("[0-9]{1,9}", text) for text in texts) else None
    )


def _span(values: Sequence[float]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"
