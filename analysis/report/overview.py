"""What runs are about, in words: the title of a page, its first table, and what a radius means for their data."""

import math
import re
from collections.abc import Sequence
from decimal import ROUND_CEILING, Context

import numpy as np

from maxup_smoothing.analysis.comparison.outcomes import wrong_at
from maxup_smoothing.analysis.report.numbers import Table, acr_text, ceiling_text, false_text, percent
from maxup_smoothing.analysis.report.subjects import UNKNOWN, Subject, isolated, shown
from maxup_smoothing.analysis.runs.training import copies_text
from maxup_smoothing.certify.statistics.rounding import radius_text
from maxup_smoothing.certify.tables.summary import certified_accuracy
from maxup_smoothing.data.dataset import Dataset

_PROCEDURES = {
    "fixed": "a fixed number of samples per image (Cohen et al., 2019)",
    "sequential": "group-sequential: looks at the votes on a schedule and stops early",
    "anytime": "anytime-valid: may look at the votes at any time and stops early",
}


def title(subjects: Sequence[Subject]) -> str:
    """A page's title: which runs, and the data, architecture and sigma that all of them have."""
    told = {
        "{}": [subject.told("data", "name") or subject.config.get("dataset") for subject in subjects],
        " {}": [_architecture(subject) for subject in subjects],
        " sigma {}": [subject.recorded("sigma") for subject in subjects],
    }
    common = [
        form.strip().format(isolated(shown(values[0], 60)))
        for form, values in told.items()
        if values[0] is not None and all(value == values[0] for value in values)
    ]
    about = subjects[0].name if len(subjects) == 1 else f"{len(subjects)} runs"
    return f"Certified robustness of {about}" + (f": {', '.join(common)}" if common else "")


def glance(subjects: Sequence[Subject], radii: Sequence[float] = ()) -> Table:
    """What was certified and how, and what came out: one row per quantity, one column per run.

    Args:
        subjects: The runs.
        radii: At which right and wrong answers are counted, beside all and those at the ceiling.
    """
    lines = {
        "data": [_data(subject) for subject in subjects],
        "images": [_images(subject) for subject in subjects],
        "certified on": [_day(subject) for subject in subjects],
        "model": [_model(subject) for subject in subjects],
        "training objective": [objective(subject) for subject in subjects],
        "training sigma": [_trained(subject, "sigma") for subject in subjects],
        "training seed": [_trained(subject, "seed") for subject in subjects],
        "noise sigma": [subject.setting("sigma") for subject in subjects],
        "procedure": [_procedure(subject) for subject in subjects],
        "samples to choose the class (n0)": [subject.setting("n0") for subject in subjects],
        "samples to prove it (n)": [subject.setting("n") for subject in subjects],
        "alpha": [subject.setting("alpha") for subject in subjects],
        "ACR, with 95 % interval": [acr_text(subject) for subject in subjects],
        "right": [_share(subject, subject.run.summary.correct) for subject in subjects],
        **{
            f"right, and certified at {radius_text(r)} or more": [_right_at(subject, r) for subject in subjects]
            for r in radii
        },
        "wrong": [_share(subject, subject.run.summary.wrong) for subject in subjects],
        **{
            f"wrong, and certified at {radius_text(r)} or more": [_wrong_at(subject, r) for subject in subjects]
            for r in radii
        },
        "abstained": [_share(subject, subject.run.summary.abstained) for subject in subjects],
        "ceiling: the largest radius that n samples can prove": [ceiling_text(subject) for subject in subjects],
        "right and at the ceiling": [_at_ceiling(subject, right=True) for subject in subjects],
        "wrong and at the ceiling": [_at_ceiling(subject, right=False) for subject in subjects],
        "false certificates": [false_text(subject) for subject in subjects],
    }
    return Table(
        caption="What was certified, how, and what came out",
        header=("", *(subject.name for subject in subjects)),
        rows=tuple((name, *cells) for name, cells in lines.items()),
    )


def spread_note(data: Sequence[Dataset | str]) -> str | None:
    """How much a change of norm 1 is if every pixel takes its part; None where no pictures of one shape are there."""
    shapes = {one.images.shape[1:] for one in data if not isinstance(one, str)}
    if len(shapes) != 1:
        return None
    (shape,) = shapes
    size = math.prod(shape)
    what = "pixels" if shape[0] == 1 else "colour values of all pixels"
    return f"Spread over all {size:,} {what} it is about {255 / math.sqrt(size):.1f} of 255 grey levels each."


def noise_note(subjects: Sequence[Subject]) -> str | None:
    """What noise of whole numbers means for the proof, where a manifest tells it."""
    exact = [subject for subject in subjects if subject.told("noise", "source") == "exact"]
    if not exact:
        return None
    whose = "" if len(exact) == len(subjects) else f" of {', '.join(subject.name for subject in exact)}"
    errors = [subject.told("noise", "probability_error") for subject in exact]
    known = [error for error in errors if isinstance(error, float) and 0 <= error < 1]
    # Rounded up: no smaller distance than the largest is claimed.
    bound = f", at most {float(_ROUNDED_UP.create_decimal(repr(max(known)))):g}," if len(known) == len(errors) else ""
    return (
        f"The noise{whose} is whole numbers on the 8-bit grid of the images: normal noise, rounded. Its "
        f"total-variation distance from that{bound} was subtracted from the proved share of votes."
    )


def every(subject: Subject) -> str | None:
    """Which images a protocol takes that takes every so manieth, such as "every 20th image"."""
    found = re.fullmatch("([0-9]{1,9}):[0-9]{1,9}:([1-9][0-9]{0,8})", str(subject.told("protocol", "indices")))
    if found is None or found[2] == "1":
        return None
    number = int(found[2])
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"every {number:,}{ending} image" + (f" from {int(found[1]):,} on" if int(found[1]) else "")


_ROUNDED_UP = Context(prec=2, rounding=ROUND_CEILING)


def _architecture(subject: Subject) -> object:
    return subject.told("model", "arch") or subject.config.get("arch")


def _share(subject: Subject, count: int) -> str:
    return f"{count:,} ({percent(count, subject.run.summary.images)} %)"


def _data(subject: Subject) -> str:
    name, split = subject.told("data", "name") or subject.config.get("dataset"), subject.told("data", "split")
    return UNKNOWN if not name else f"{shown(name)}, {shown(split)}" if split else shown(name)


def _images(subject: Subject) -> str:
    number = f"{subject.run.summary.images:,}"
    name, indices = subject.told("protocol", "name"), subject.told("protocol", "indices")
    if not name:
        return number
    taken = every(subject) or (f"idx {shown(indices)}" if indices else None)
    return f"{number} ({shown(name)}: {taken})" if taken else f"{number} ({shown(name)})"


def _model(subject: Subject) -> str:
    arch, epoch = _architecture(subject) or subject.told("model", "kind"), subject.told("model", "epoch")
    parts = [shown(arch)] if arch else []
    parts += [f"epoch {shown(epoch)}"] if epoch is not None else []
    return ", ".join(parts) or UNKNOWN


def objective(subject: Subject) -> str:
    """The training objective in words where it is one of the simple ones, else its name and what copies it used."""
    name, m = subject.config.get("objective"), subject.config.get("m")
    if not name:
        return UNKNOWN
    copies = f"{m:,} noisy copies" if isinstance(m, int) and m > 1 else None
    words = {
        "gaussian": "loss of one noisy copy",
        "mean_of_m": f"mean loss over {copies}" if copies else None,
        "maxup": f"loss of the worst of {copies}" if copies and _trained(subject, "reduction") == "max" else None,
    }
    found = words.get(name) if isinstance(name, str) else None
    if found:
        return f"{found} ({name})"
    text = copies_text(subject.config)
    if text is None or text == "1":
        return shown(name)
    return f"{shown(name)} ({f'm = {text}' if text[0].isdigit() and ' ' not in text else text})"


def _trained(subject: Subject, name: str) -> str:
    value = subject.config.get(name)
    return UNKNOWN if value is None else shown(value)


def _procedure(subject: Subject) -> str:
    procedure, bound = subject.setting("procedure"), subject.setting("bound")
    text = _PROCEDURES.get(procedure, procedure)
    return text if bound in (UNKNOWN, "clopper-pearson") else f"{text}; bound: {bound}"


def _day(subject: Subject) -> str:
    """The day on which a certification began, as its manifest tells it."""
    begun = subject.told("notes", "begun")
    return begun[:10] if isinstance(begun, str) and re.match("[0-9]{4}-[0-9]{2}-[0-9]{2}", begun) else UNKNOWN


def _right_at(subject: Subject, radius: float) -> str:
    (count,) = certified_accuracy(subject.run.table, [radius])["certified"]
    return _share(subject, int(count))


def _wrong_at(subject: Subject, radius: float) -> str:
    return _share(subject, int(wrong_at(subject.run.table, radius).sum()))


def _at_ceiling(subject: Subject, *, right: bool) -> str:
    """How many images are answered rightly, or wrongly, by a unanimous vote."""
    table = subject.run.table
    if subject.run.summary.ceiling is None or "n_a" not in table:
        return "not told by the rows"
    unanimous = table["n_a"].to_numpy() == table["n"].to_numpy()
    chosen = table["correct"].to_numpy() == 1 if right else wrong_at(table, 0)
    return _share(subject, int(np.sum(unanimous & chosen)))
