"""The part of the report of results that is about certified runs: a section for each data set and sigma."""

import re
from collections.abc import Callable, Sequence

from matplotlib.figure import Figure

from maxup_smoothing.analysis.comparison.networks import AtRadius, compare_tables, outwards_text, p_text, verdict
from maxup_smoothing.analysis.comparison.significance import mean_interval
from maxup_smoothing.analysis.figures.curves import draw
from maxup_smoothing.analysis.literature.curves import Published
from maxup_smoothing.analysis.results.markdown import (
    UNKNOWN,
    conditions_text,
    escaped,
    minutes_text,
    percent_digits,
    rate_text,
    table_text,
    told_text,
    warnings_text,
)
from maxup_smoothing.analysis.runs.folders import CertifiedFolder
from maxup_smoothing.analysis.runs.run import different_stopping, is_named
from maxup_smoothing.analysis.runs.training import copies_text
from maxup_smoothing.certify.statistics.binomial import proportion_interval
from maxup_smoothing.certify.statistics.rounding import ceil_text, floor_text, fraction_text, radius_text
from maxup_smoothing.certify.tables.summary import certified_accuracy, contributions, radii_of

#: What a reader must know of these sections.
READING = """\
Certified accuracy at r is the share, in percent, of all images predicted rightly and certified at a radius of r or
more. ACR is the mean certified radius, 0 for an abstention or a wrong prediction; it grows with n and alpha. Both are
rounded down. Behind an ACR stands its 95 % interval (BCa bootstrap over images, 10,000 resamples, fixed seed).

Comparisons are paired: the same images under two trained networks. Differences are first minus control, in points for
certified accuracy, with a 95 % interval (Wald with half an image added to each cell, after Agresti and Min); p is
McNemar's exact two-sided p-value after Holm's correction over the radii of that comparison, not over comparisons. They
say which network is better on such images; which method is better takes several training seeds of each.
"""
_BESIDE = """\
Computed from the public per-example logs of the sources and rounded to nearest; accuracies are in percent. Only rows of
the same images, n and alpha compare with ours. That a published number lies in an interval of ours is a coarse check:
the interval is about which images were drawn, and the training seed of neither side is in it.
"""
#: What a report says of the circumstances: a name, and where a folder records it.
_CONDITIONS: dict[str, Callable[[CertifiedFolder], object]] = {
    "training device": lambda folder: folder.environment.get("device"),
    "training threads": lambda folder: folder.environment.get("threads"),
    "training Python": lambda folder: folder.environment.get("python"),
    "training torch": lambda folder: folder.environment.get("torch"),
    "certification device": lambda folder: folder.certified("classifier", "device"),
    "certification threads": lambda folder: folder.certified("notes", "threads"),
    "certification dtype": lambda folder: folder.certified("classifier", "dtype"),
    "certification torch": lambda folder: folder.certified("classifier", "torch"),
    "package": lambda folder: folder.certified("notes", "versions", "maxup-smoothing"),
    "numpy": lambda folder: folder.certified("notes", "versions", "numpy"),
    "scipy": lambda folder: folder.certified("notes", "versions", "scipy"),
    "procedure": lambda folder: folder.certified("sampling", "procedure"),
    "bound": lambda folder: folder.certified("sampling", "bound"),
    "n0": lambda folder: folder.certified("sampling", "n0"),
    "n": lambda folder: folder.certified("sampling", "n"),
    "alpha": lambda folder: folder.certified("sampling", "alpha"),
    "noise": lambda folder: folder.certified("noise", "source"),
    "noise seed": lambda folder: folder.certified("noise", "seed"),
    "split": lambda folder: folder.certified("data", "split"),
    "images": lambda folder: folder.certified("protocol", "name"),
    "indices": lambda folder: folder.certified("protocol", "indices"),
}


def certified_sections(
    folders: Sequence[CertifiedFolder], controls: Sequence[str], published: Sequence[Published], figure_folder: str
) -> tuple[list[str], dict[str, Figure]]:
    """The sections as pieces of Markdown, and the figures that they show, by file name.

    Args:
        folders: Any number.
        controls: See `analysis.results.document.build_report`.
        published: Rows shown beside runs of the same data set, sigma and architecture.
        figure_folder: Where the text will find its figures, relative to itself.
    """
    groups: dict[tuple[str, float], list[CertifiedFolder]] = {}
    for folder in folders:
        groups.setdefault((folder.dataset, folder.sigma), []).append(folder)
    parts, figures = list[str](), dict[str, Figure]()
    for (dataset, sigma), group in sorted(groups.items()):
        title = f"{dataset}, sigma {sigma:g}"
        name = f"{re.sub(r'[^A-Za-z0-9]+', '-', dataset).strip('-')}-{sigma:.2f}"
        while f"{name}.png" in figures:
            name += "-2"
        figures[f"{name}.png"] = draw([folder.run for folder in group], title=title)
        parts += [
            f"## {escaped(title)}\n",
            f"![Certified accuracy over the radius, {escaped(title)}]({figure_folder}/{name}.png)\n",
            *_section(group, controls, [row for row in published if (row.dataset, row.sigma) == (dataset, sigma)]),
        ]
    return parts, figures


def _section(group: Sequence[CertifiedFolder], controls: Sequence[str], published: Sequence[Published]) -> list[str]:
    radii = max((radii_of(folder.run.table) for folder in group), key=len)
    if group[0].sigma > 0.5:
        radii = radii[::2]  # steps of 0.5
    parts = ["### Certified accuracy\n", _certified_table(group, radii), "### Training\n", _training_table(group)]
    parts += warnings_text(group)
    held_against = [folder for folder in group if any(is_named(folder.name, name) for name in controls)]
    if controls and not held_against:
        parts += ["No control is among these runs, so none is compared.\n"]
    for control in held_against:
        if len(group) > 1:
            parts += [f"### Against {escaped(control.name)}\n", *_comparisons(control, group, radii)]
    shown = [row for row in published if any(folder.config.get("arch") == row.arch for folder in group)]
    if shown:
        parts += ["### Published, same data, sigma and architecture\n", _BESIDE, *_published(shown, group, radii)]
    return [*parts, "### Conditions\n", conditions_text(group, _CONDITIONS)]


def _certified_table(group: Sequence[CertifiedFolder], radii: Sequence[float]) -> str:
    lines = []
    for folder in group:
        summary, table = folder.run.summary, folder.run.table
        low, high = mean_interval(contributions(table))
        acr = f"{floor_text(summary.acr, 4)} [{floor_text(low, 4)}, {ceil_text(high, 4)}]"
        counts = certified_accuracy(table, radii)["certified"]
        accuracies = [fraction_text(100 * count, summary.images, percent_digits(summary.images)) for count in counts]
        facts = (folder.config.get("seed"), summary.images, summary.n, summary.alpha)
        lines.append([escaped(folder.name), *map(told_text, facts), acr, *accuracies])
    return table_text(["run", "seed", "images", "n", "alpha", "ACR", *map(radius_text, radii)], lines)


def _training_table(group: Sequence[CertifiedFolder]) -> str:
    lines = []
    for folder in group:
        epochs = f"{folder.epochs} of {told_text(folder.config.get('epochs'))}"
        rate, took = rate_text(folder.median("images_per_second")), minutes_text(folder.total_seconds())
        objective, arch, batch_size, dtype = map(folder.config.get, ("objective", "arch", "batch_size", "dtype"))
        facts = (objective, arch, copies_text(folder.config), batch_size, dtype)
        lines.append([escaped(folder.name), *map(told_text, facts), epochs, rate, took])
    header = ["objective", "arch", "copies", "batch size", "dtype"]
    return table_text(["run", *header, "epochs", "images/s (median)", "training time"], lines)


def _comparisons(control: CertifiedFolder, group: Sequence[CertifiedFolder], radii: Sequence[float]) -> list[str]:
    lines, sentences = [], []
    for folder in group:
        if folder is control:
            continue
        try:
            _require_same_setting(folder, control)
            found = compare_tables(folder.run.table, control.run.table, radii)
        except ValueError as error:
            sentences.append(f"- {escaped(folder.name)} was not compared: {escaped(str(error))}\n")
            continue
        acr = f"{found.difference:+.4f} {outwards_text(found.low, found.high, 4)}"
        lines.append([escaped(folder.name), acr, *(_difference(row, found.images) for row in found.at)])
        sentences.append(f"- {verdict(found, escaped(folder.name), escaped(control.name))}\n")
    table = [table_text(["run", "ACR", *map(radius_text, radii)], lines)] if lines else []
    return [*table, "".join(sentences)]


def _require_same_setting(folder: CertifiedFolder, control: CertifiedFolder) -> None:
    """What the manifests know and the rows do not: when a procedure that stops early did, and which data it was."""
    if (differing := different_stopping(folder.run, control.run)) is not None:
        raise ValueError(f"the manifests have different {differing}.")
    for keys, remedy in ((("sampling", "n"), "the same --n"), (("data", "fingerprint"), "the same data")):
        a, b = folder.certified(*keys), control.certified(*keys)
        if a != b:
            raise ValueError(f"the manifests have different {keys[1]}, {a} and {b}; certify both with {remedy}.")


def _difference(row: AtRadius, images: int) -> str:
    digits = percent_digits(images)
    interval = outwards_text(100 * row.low, 100 * row.high, digits)
    return f"{100 * row.difference:+.{digits}f} {interval}<br>p {p_text(row.p_holm)}"


def _published(rows: Sequence[Published], group: Sequence[CertifiedFolder], radii: Sequence[float]) -> list[str]:
    ours = [set(folder.run.table["idx"]) for folder in group]
    lines = []
    for row in sorted(rows, key=lambda row: not any(row.same_images(idx) for idx in ours)):
        facts = [escaped(row.method), f"{row.subset} ({row.images:,})", row.seeds, row.n, f"{row.alpha:g}"]
        known = [f"{row.percent[radius]:.2f}" if radius in row.percent else UNKNOWN for radius in radii]
        lines.append([*map(str, facts), f"{row.acr:.4f}", *known, escaped(row.source)])
    header = ["method", "images", "seeds", "n", "alpha", "ACR", *map(radius_text, radii), "source"]
    said = []
    for folder in group:
        if folder.config.get("objective") != "gaussian":
            continue
        gaussian = [row for row in rows if row.method.lower() == "gaussian" and row.arch == folder.config.get("arch")]
        same = [row for row in gaussian if row.same_images(folder.run.table["idx"])]
        said += [f"- {_reproduced(folder, row, row in same)}\n" for row in same or gaussian]
    return [table_text(header, lines), *(["".join(said)] if said else [])]


def _reproduced(folder: CertifiedFolder, row: Published, same_images: bool) -> str:
    summary, name = folder.run.summary, escaped(folder.name)
    if (summary.n, summary.alpha) != (row.n, row.alpha):
        return (
            f"{name} cannot be held against the published Gaussian training: its n = {told_text(summary.n)} and "
            f"alpha = {told_text(summary.alpha)} are not the published n = {row.n} and alpha = {row.alpha:g}, and ACR "
            "grows with both."
        )
    low, high = mean_interval(contributions(folder.run.table))
    at = certified_accuracy(folder.run.table, sorted(row.percent))
    limits = zip(*proportion_interval(at["certified"].to_numpy(), summary.images), strict=True)
    within = [lo <= row.percent[r] / 100 <= hi for r, (lo, hi) in zip(sorted(row.percent), limits, strict=True)]
    where = "the same images" if same_images else f"all {row.images:,} images, not ours, which may be harder or easier"
    place = "in" if low <= row.acr <= high else "outside"
    accuracies = (
        f"; its certified accuracy lies in ours (Clopper-Pearson, 95 %) at {sum(within)} of {len(within)} radii"
        if within
        else ""
    )
    return (
        f"The published ACR of Gaussian training, {row.acr:.4f} on {where}, lies {place} the interval of {name}, "
        f"[{floor_text(low, 4)}, {ceil_text(high, 4)}]{accuracies}."
    )
