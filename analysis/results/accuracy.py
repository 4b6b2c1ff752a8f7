"""The part of the report of results that is about accuracy without noise: a section for each data set."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

import numpy as np

from maxup_smoothing.analysis.comparison.networks import outwards_text, p_text
from maxup_smoothing.analysis.comparison.significance import holm, mcnemar_p_value, paired_interval
from maxup_smoothing.analysis.literature.claims import Claim
from maxup_smoothing.analysis.results.markdown import (
    UNKNOWN,
    claims_text,
    compute_cells,
    conditions_text,
    escaped,
    minutes_text,
    percent_digits,
    rate_text,
    table_text,
    told_text,
    values_text,
    warnings_text,
)
from maxup_smoothing.analysis.runs.evaluated import AccuracyFolder, Predictions
from maxup_smoothing.analysis.runs.run import is_named
from maxup_smoothing.analysis.runs.training import passes_text
from maxup_smoothing.certify.statistics.binomial import proportion_interval
from maxup_smoothing.certify.statistics.rounding import ceil_text, floor_text, fraction_text

#: What a reader must know of these sections.
READING = """\
Accuracy without noise is the share, in percent, of all test images that are classified rightly, rounded down, with its
95 % Clopper-Pearson interval. Comparisons are of two trained networks on the same images: differences are first minus
control, in points, with a 95 % interval (Wald with half an image added to each cell, after Agresti and Min) and
McNemar's exact two-sided p-value after Holm's correction over the runs that are compared with that control. Intervals
are about which images were drawn; what another training seed would change is not in them.

Passes are those of the whole training over each training image, forward + backward. Runs of the same number of epochs
are at equal epochs; runs whose training took the same time on the same device are at equal compute.
"""
#: What a report says of the circumstances: a name, and where a folder records it.
_CONDITIONS: dict[str, Callable[[AccuracyFolder], object]] = {
    "training device": lambda folder: folder.environment.get("device"),
    "training threads": lambda folder: folder.environment.get("threads"),
    "training Python": lambda folder: folder.environment.get("python"),
    "training torch": lambda folder: folder.environment.get("torch"),
    "training dtype": lambda folder: folder.config.get("dtype"),
    "batch size": lambda folder: folder.config.get("batch_size"),
    "schedule": lambda folder: folder.config.get("schedule"),
    "parameters": lambda folder: folder.test.get("parameters"),
    "evaluated checkpoint": lambda folder: folder.test.get("checkpoint"),
    "evaluation torch": lambda folder: folder.test.get("torch"),
    "split": lambda folder: folder.test.get("split"),
}


def accuracy_sections(folders: Sequence[AccuracyFolder], controls: Sequence[str], claims: Sequence[Claim]) -> list[str]:
    """The sections as pieces of Markdown.

    Args:
        folders: Any number.
        controls: See `analysis.results.document.build_report`.
        claims: Shown beside runs of the same data set.
    """
    parts = []
    for dataset in sorted({folder.dataset for folder in folders}):
        group = [folder for folder in folders if folder.dataset == dataset]
        parts += [f"## {escaped(dataset)}, accuracy without noise\n", _accuracy_table(group)]
        parts += warnings_text(group)
        held_against = [folder for folder in group if any(is_named(folder.name, name) for name in controls)]
        if controls and not held_against:
            parts += ["No control is among these runs, so none is compared.\n"]
        for control in held_against:
            if len(group) > 1:
                parts += [f"### Accuracy against {escaped(control.name)}\n", *_comparisons(control, group)]
        shown = [claim for claim in claims if (claim.data, claim.measure) == (dataset, "accuracy")]
        if shown:
            ours = {"test": [100 * folder.right / folder.images for folder in group]}
            parts += ["### Claimed for the same data\n", claims_text(shown, ours, _settings(group))]
        parts += ["### Conditions of training and evaluation\n", conditions_text(group, _CONDITIONS)]
    return parts


def _accuracy_table(group: Sequence[AccuracyFolder]) -> str:
    lines = []
    for folder in group:
        digits = percent_digits(folder.images)
        low, high = (float(100 * limit) for limit in proportion_interval(folder.right, folder.images))
        lines.append(
            [
                escaped(folder.name),
                *(told_text(folder.config.get(key)) for key in ("objective", "arch")),
                escaped(_perturbation(folder)),
                *(told_text(folder.config.get(key)) for key in ("m", "seed")),
                f"{folder.images:,}",
                fraction_text(100 * folder.right, folder.images, digits),
                f"[{floor_text(low, digits)}, {ceil_text(high, digits)}]",
                f"{folder.epochs} of {told_text(folder.config.get('epochs'))}",
                passes_text(folder.config, folder.epochs) or UNKNOWN,
                rate_text(folder.median("images_per_second")),
                minutes_text(folder.total_seconds()),
            ]
        )
    what = ["run", "objective", "arch", "copies made by", "m", "seed", "images", "accuracy", "95 % interval"]
    return table_text([*what, "epochs", "passes", "images/s (median)", "training time"], lines)


def _perturbation(folder: AccuracyFolder) -> str:
    told = folder.config.get("perturbation")
    return ", ".join(map(str, told)) if isinstance(told, list) and told else UNKNOWN


def _comparisons(control: AccuracyFolder, group: Sequence[AccuracyFolder]) -> list[str]:
    pairs, sentences = list[tuple[AccuracyFolder, int, int]](), []
    for folder in group:
        if folder is control:
            continue
        try:
            pairs.append((folder, *_discordant(folder, control)))
        except ValueError as error:
            sentences.append(f"- {escaped(folder.name)} was not compared: {escaped(str(error))}\n")
    lines, digits = [], percent_digits(control.images)
    adjusted = holm([mcnemar_p_value(only, other) for _, only, other in pairs])
    for (folder, only, other), p_value in zip(pairs, adjusted, strict=True):
        low, high = paired_interval(only, other, control.images)
        difference = f"{100 * (only - other) / control.images:+.{digits}f}"
        interval = outwards_text(100 * low, 100 * high, digits)
        counts = f"{only} : {other}"
        name, cells = escaped(folder.name), compute_cells(folder, control)
        lines.append([name, difference, interval, p_text(p_value), counts, *cells])
    header = ["run", "difference", "95 % interval", "p", "right alone : control alone", "epochs", "training time"]
    return [*([table_text(header, lines)] if lines else []), *(["".join(sentences)] if sentences else [])]


def _discordant(folder: AccuracyFolder, control: AccuracyFolder) -> tuple[int, int]:
    """Images that the first alone has right, and those that the control alone has right.

    Raises:
        ValueError: If they are not known to be the same images, or not known one by one.
    """
    a, b = _predictions(folder), _predictions(control)
    if folder.test.get("fingerprint") != control.test.get("fingerprint") or not np.array_equal(a.labels, b.labels):
        raise ValueError("the test images have different fingerprints; evaluate both on the same data.")
    return int((a.correct & ~b.correct).sum()), int((b.correct & ~a.correct).sum())


def _predictions(folder: AccuracyFolder) -> Predictions:
    if folder.predictions is None:
        raise ValueError(f"{folder.name} has no predictions of single images; run `python -m train.evaluate` on it.")
    return folder.predictions


def _settings(group: Sequence[AccuracyFolder]) -> Mapping[str, str]:
    return {
        "network": values_text(folder.config.get("arch") for folder in group),
        "parameters": values_text(folder.test.get("parameters") for folder in group),
        "epochs": values_text(map(attrgetter("epochs"), group)),
        "m": values_text(folder.config.get("m") for folder in group),
        "copies made by": values_text(map(_perturbation, group)),
        "training seed": values_text(folder.config.get("seed") for folder in group),
    }
