"""The report of the theory check, as Markdown."""

import math
from collections.abc import Sequence

import numpy as np

from maxup_smoothing.analysis.theory.constants import table
from maxup_smoothing.analysis.theory.norms import Array, Norms, change
from maxup_smoothing.analysis.theory.regression import CONFIDENCE, Interval
from maxup_smoothing.analysis.theory.verdict import SMOOTH_MARGIN, AtSigma, Study, Verdict

_CONSTANTS = (2, 3, 4, 8, 16, 64, 100, 1000)
_FIGURES = {
    "law": "MaxUp's gain over the gradient penalty, against sigma",
    "orders": "What remains after the first and the second order, against sigma",
    "norms": "Gradient norms of the networks on the same images",
}


def markdown(
    studies: Sequence[Study], norms: Sequence[Norms], *, figures: Sequence[str], conditions: str, command: str
) -> str:
    """The report.

    Args:
        studies: At least one.
        norms: Of the networks to be compared, the first with each of the others; may be empty.
        figures: Paths of the figures, relative to the report.
        conditions: Hardware, versions, seeds.
        command: How to repeat it; may be empty.
    """
    blocks = [
        "# Does MaxUp act as a gradient penalty?",
        "Written by `python -m analysis theory`. The law on trial: the largest of m losses under noise σ is on average "
        "σ c_m |g| above the clean loss, up to σ² times a curvature term.",
        *([f"    {command}"] if command else []),
        f"{conditions}. Intervals are for {CONFIDENCE:.0%}, and for images drawn from many. *Holds* means that the "
        "interval lies inside 1 ± margin (equivalence, two one-sided tests at 2.5 %); *fails*, that on these very "
        "images the ratio is shown to be off by more than the margin, whatever it is on others.",
        _overview(studies),
    ]
    for path in figures:
        stem = path.rsplit("/", 1)[-1].removesuffix(".png")
        blocks.append(f"![{_FIGURES[stem]}]({path})")
    for study in studies:
        blocks += [f"## {study.name}", _described(study), _by_m(study), _by_sigma(study)]
    if norms:
        blocks += ["## Gradient norms", _norms(norms)]
    blocks += ["## Constants", _constants(studies)]
    return "\n\n".join(blocks) + "\n"


def lines(studies: Sequence[Study]) -> list[str]:
    """A line for each network and m, for a terminal."""
    return [
        f"{study.name}, m = {verdict.m}: {verdict.word}, {verdict.why}; {_range(verdict)}{_training(study, verdict)}"
        for study in studies
        for verdict in study.verdicts
    ]


def _overview(studies: Sequence[Study]) -> str:
    rows = [
        [
            study.name,
            str(verdict.m),
            f"**{verdict.word}**",
            f"{verdict.why}; {_range(verdict)}{_training(study, verdict)}",
        ]
        for study in studies
        for verdict in study.verdicts
    ]
    return _table(["network", "m", "verdict", "because"], rows)


def _range(verdict: Verdict) -> str:
    if verdict.holds_to is None:
        return f"over these images it holds to {verdict.margin:.0%} at no sigma tried"
    return f"over these images it holds to {verdict.margin:.0%} up to sigma = {verdict.holds_to:g}"


def _training(study: Study, verdict: Verdict) -> str:
    at = next((at for at in verdict.at if at.sigma == study.sigma), None)
    if at is None:
        return ""
    word = {"holds": "still holds", "fails": "does not hold", "undecided": "is not decided"}[at.word]
    return f"; at the sigma of training, {at.sigma:g}, it {word}: the ratio is {interval(at.pooled, 3)}"


def _described(study: Study) -> str:
    kind = (
        f"smooth, so it is judged image by image, at {SMOOTH_MARGIN:.0%}"
        if study.smooth
        else f"with kinks ({', '.join(study.kinks)}), so it is judged over all images, "
        f"at {study.verdicts[0].margin:.0%}"
    )
    text = f"{study.images}, {study.groups} groups of m copies at each. A network {kind}."
    if study.nudge:
        text += f" The images were moved by N(0, {study.nudge:g}²) noise, once, before anything else."
    if study.corners:
        text += (
            f" At **{study.corners} of {study.count} images the loss has no gradient**: they lie in a corner of it, "
            "such as a tie in a max pooling over an even background, and there the law holds for no sigma."
        )
    return f"{text} σ‖H‖ reaches a tenth of |g| at σ = {study.reach:.2g}; the law is fitted below that."


def _by_m(study: Study) -> str:
    rows = []
    for verdict in study.verdicts:
        first, second = verdict.orders
        words = verdict.limits
        rows.append(
            [
                str(verdict.m),
                f"{verdict.constant:.6f}",
                interval(verdict.noise, 4),
                interval(verdict.at[0].plain, 3),
                f"{words['holds']} / {words['fails']} / {words['undecided']} / {words['unresolved']}",
                "–" if math.isnan(verdict.limit_off) else f"{verdict.limit_off:.2%}",
                interval(verdict.curvature, 3),
                interval(first, 2),
                interval(second, 2),
                interval(verdict.across.slope, 4),
                f"{verdict.across.r_squared:.5f}",
            ]
        )
    heads = [
        "m",
        "c_m",
        "largest noise / c_m",
        "gain at smallest σ, no control variate",
        "limit: holds / fails / undecided / lost",
        "furthest limit",
    ]
    heads += ["σ² term / law's", "order left by 1st", "by 2nd", "slope over images", "R²"]
    return _table(heads, rows)


def _by_sigma(study: Study) -> str:
    heads = ["m", "σ", "MaxUp's gain / σ c_m ‖g‖", "law to 2nd order", "says", "images within 1 %", "quartiles"]
    rows = [
        [
            str(verdict.m),
            f"{at.sigma:g}" + (" (training)" if at.sigma == study.sigma else ""),
            interval(at.pooled, 4),
            f"{at.predicted:.4f}",
            at.word,
            _images(at),
            _quartiles(at),
        ]
        for verdict in study.verdicts
        for at in verdict.at
    ]
    return _table(heads, rows)


def _images(at: AtSigma) -> str:
    judged = at.images.total() - at.images["unresolved"]
    lost = f", {at.images['unresolved']} lost" if at.images["unresolved"] else ""
    return f"{at.images['holds']} of {judged}{lost}"


def _quartiles(at: AtSigma) -> str:
    return " ".join(f"{value:.3f}" for value in at.quartiles)


def _norms(norms: Sequence[Norms]) -> str:
    first = norms[0]
    rows = []
    for one in norms:
        alike = one is not first and one.images == first.images
        clean = first.clean_I if alike else None
        noisy = first.noisy_I if alike and one.sigma == first.sigma else None
        rows.append([one.name, "images", *_quantiles(one.clean_I), *_changed(one.clean_I, clean)])
        if one.noisy_I is not None:
            where = f"images + N(0, {one.sigma:g}²)"
            rows.append([one.name, where, *_quantiles(one.noisy_I), *_changed(one.noisy_I, noisy)])
    heads = ["network", "at", "mean of |g|", "10 %", "median", "90 %"]
    heads += [f"mean, less {first.name}'s", f"geometric mean of ratios to {first.name}", "smaller at"]
    losses = ", ".join(f"{one.name} {one.loss:.3f}" for one in norms)
    return f"{first.images}. Mean loss at the images: {losses}.\n\n{_table(heads, rows)}"


def _quantiles(values: Array) -> list[str]:
    return [f"{values.mean():.4f}", *(f"{value:.2g}" for value in np.quantile(values, [0.1, 0.5, 0.9]))]


def _changed(values: Array, reference: Array | None) -> list[str]:
    if reference is None:
        return ["–", "–", "–"]
    found = change(values, reference)
    return [interval(found.mean, 4), interval(found.typical, 3), f"{found.smaller:.1%}"]


def _constants(studies: Sequence[Study]) -> str:
    ms = sorted({*_CONSTANTS, *(verdict.m for study in studies for verdict in study.verdicts)})
    rows = [
        [
            str(row.m),
            f"{row.mean:.12f}",
            f"{row.second:.9f}",
            f"{row.variance:.5f}",
            f"{row.root_log:.4f} ({row.root_log / row.mean - 1:+.0%})",
            f"{row.blom:.4f} ({row.blom / row.mean - 1:+.1%})",
        ]
        for row in table(ms)
    ]
    return _table(["m", "c_m", "E[M²]", "Var M", "√(2 log m)", "Blom"], rows)


def interval(found: Interval | None, digits: int) -> str:
    """An estimate with its interval, such as ``1.003 [1.001, 1.005]``; a dash for none."""
    if found is None or math.isnan(found.value):
        return "–"
    if math.isnan(found.low):
        return f"{found.value:.{digits}f}"
    return f"{found.value:.{digits}f} [{found.low:.{digits}f}, {found.high:.{digits}f}]"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    texts = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in texts)
