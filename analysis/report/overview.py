"""The top of a page in words: its title, its first table, the noise, and caveats that limit sound numbers."""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from decimal import ROUND_CEILING, Context

import numpy as np

from maxup_smoothing.analysis.comparison.outcomes import wrong_at
from maxup_smoothing.analysis.report.numbers import Table, acr_text, ceiling_text, false_text, percent
from maxup_smoothing.analysis.report.subjects import UNKNOWN, ReportRun
from maxup_smoothing.analysis.report.text import isolated, shown
from maxup_smoothing.analysis.runs.training import copies_text, passes_of
from maxup_smoothing.certify.statistics.rounding import radius_text
from maxup_smoothing.certify.tables.summary import certified_accuracy
from maxup_smoothing.data.dataset import Dataset
from maxup_smoothing.data.official import SIZES

_ROUNDED_UP = Context(prec=2, rounding=ROUND_CEILING)
_PROCEDURES = {
    "fixed": "a fixed number of samples per image (Cohen et al., 2019)",
    "sequential": "group-sequential: looks at the votes on a schedule and stops early",
    "anytime": "anytime-valid: may look at the votes at any time and stops early",
}


def title(subjects: Sequence[ReportRun]) -> str:
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


def glance(subjects: Sequence[ReportRun], radii: Sequence[float] = ()) -> Table:
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


def noise_note(subjects: Sequence[ReportRun]) -> str | None:
    """What noise of whole numbers means for the proof, where a manifest records it."""
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


def every(subject: ReportRun) -> str | None:
    """Which images a protocol takes that takes every so manieth, such as "every 20th image"."""
    found = re.fullmatch("([0-9]{1,9}):[0-9]{1,9}:([1-9][0-9]{0,8})", str(subject.told("protocol", "indices")))
    if found is None or found[2] == "1":
        return None
    number = int(found[2])
    ending = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"every {number:,}{ending} image" + (f" from {int(found[1]):,} on" if int(found[1]) else "")


def _architecture(subject: ReportRun) -> object:
    return subject.told("model", "arch") or subject.config.get("arch")


def _share(subject: ReportRun, count: int) -> str:
    return f"{count:,} ({percent(count, subject.run.summary.images)} %)"


def _data(subject: ReportRun) -> str:
    name, split = subject.told("data", "name") or subject.config.get("dataset"), subject.told("data", "split")
    return UNKNOWN if not name else f"{shown(name)}, {shown(split)}" if split else shown(name)


def _images(subject: ReportRun) -> str:
    number = f"{subject.run.summary.images:,}"
    name, indices = subject.told("protocol", "name"), subject.told("protocol", "indices")
    if not name:
        return number
    taken = every(subject) or (f"idx {shown(indices)}" if indices else None)
    return f"{number} ({shown(name)}: {taken})" if taken else f"{number} ({shown(name)})"


def _model(subject: ReportRun) -> str:
    arch, epoch = _architecture(subject) or subject.told("model", "kind"), subject.told("model", "epoch")
    parts = [shown(arch)] if arch else []
    parts += [f"epoch {shown(epoch)}"] if epoch is not None else []
    return ", ".join(parts) or UNKNOWN


def objective(subject: ReportRun) -> str:
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


def _trained(subject: ReportRun, name: str) -> str:
    value = subject.config.get(name)
    return UNKNOWN if value is None else shown(value)


def _procedure(subject: ReportRun) -> str:
    procedure, bound = subject.setting("procedure"), subject.setting("bound")
    text = _PROCEDURES.get(procedure, procedure)
    return text if bound in (UNKNOWN, "clopper-pearson") else f"{text}; bound: {bound}"


def _day(subject: ReportRun) -> str:
    """The day on which a certification began, as its manifest records it."""
    begun = subject.told("notes", "begun")
    return begun[:10] if isinstance(begun, str) and re.match("[0-9]{4}-[0-9]{2}-[0-9]{2}", begun) else UNKNOWN


def _right_at(subject: ReportRun, radius: float) -> str:
    (count,) = certified_accuracy(subject.run.table, [radius])["certified"]
    return _share(subject, int(count))


def _wrong_at(subject: ReportRun, radius: float) -> str:
    return _share(subject, int(wrong_at(subject.run.table, radius).sum()))


def _at_ceiling(subject: ReportRun, *, right: bool) -> str:
    """How many images are answered rightly, or wrongly, by a unanimous vote."""
    table = subject.run.table
    if subject.run.summary.ceiling is None or "n_a" not in table:
        return "not told by the rows"
    unanimous = table["n_a"].to_numpy() == table["n"].to_numpy()
    chosen = table["correct"].to_numpy() == 1 if right else wrong_at(table, 0)
    return _share(subject, int(np.sum(unanimous & chosen)))


def caveats(subjects: Sequence[ReportRun], data: Sequence[Dataset | str]) -> list[str]:
    """Sentences about training seeds, copies in training, arithmetic, batch sizes and the images that were taken.

    Args:
        subjects: The runs.
        data: The data of each, or the reason why it is not to be had.
    """
    return [*_seeds(subjects), *_copies(subjects), *_arithmetic(subjects), *_taken(subjects, data)]


def _seeds(subjects: Sequence[ReportRun]) -> Iterator[str]:
    told = _by_value(subjects, lambda one: one.config.get("seed"))
    seeds = f" ({_values('seed', told, len(subjects))})" if told else ""
    if len(subjects) == 1:
        yield f"One training run{seeds}: another seed would give another network; how different is not known."
    else:
        yield (
            f"One training run each{seeds}: a difference is one between these networks; how much of it another "
            "training seed would change is not known."
        )


def _copies(subjects: Sequence[ReportRun]) -> Iterator[str]:
    told = _by_value(subjects, lambda one: _copies_of(one))
    if len(told) > 1:
        each = "; ".join(f"{', '.join(names)}: {value}" for value, names in told.items())
        yield f"The trainings differ in noisy copies of an image per step, and with these in compute: {each}."


def _copies_of(subject: ReportRun) -> str | None:
    m = subject.config.get("m", 1)
    if not subject.config.get("objective") or type(m) is not int:
        return None
    passes = passes_of(subject.config)
    cost = "" if passes is None else f" ({passes[0]} forward and {passes[1]} backward passes)"
    return f"{m} {'copy' if m == 1 else 'copies'}{cost}"


def _arithmetic(subjects: Sequence[ReportRun]) -> Iterator[str]:
    told = _by_value(subjects, lambda one: one.told("classifier", "dtype"))
    if coarse := {value: names for value, names in told.items() if value not in ("float32", "float64")}:
        yield (
            f"The networks were certified in {_values('', coarse, len(subjects))}, which rounds more coarsely than "
            "float32: a certificate is about the network as it rounds there."
        )
    told = _by_value(subjects, lambda one: one.told("classifier", "batch_size"))
    if not told:
        return
    sizes = _values("batch size", told, len(subjects))
    why = "rounding may depend on it, so a certificate is about the network at that batch size"
    if len(told) == 1:
        yield f"Certified at {sizes}: {why}."
    else:
        yield (
            f"Certified at {sizes}: {why}. Each is certified as a classifier of its own, and both certificates hold; "
            "what this adds to a difference between runs was not measured."
        )


def _taken(subjects: Sequence[ReportRun], data: Sequence[Dataset | str]) -> Iterator[str]:
    told = list[str]()
    for subject, one in zip(subjects, data, strict=True):
        images, all_images = subject.run.summary.images, total(subject, one)
        if all_images is not None and images < all_images:
            told.append(f"{images:,} of {all_images:,} images")
    distinct = list(dict.fromkeys(told))
    if distinct:
        which = distinct[0] if len(distinct) == 1 and len(told) == len(subjects) else ", ".join(distinct)
        yield f"{which} were certified: the intervals say how far that sample may lie from all."


def total(subject: ReportRun, data: Dataset | str) -> int | None:
    """How many images the split has that a run took its own from; None where neither data nor manifest records."""
    if not isinstance(data, str):
        return len(data.labels)
    name, split = str(subject.told("data", "name")), str(subject.told("data", "split"))
    if (known := SIZES.get(name, {}).get(split)) is not None:
        return known
    found = re.fullmatch("0:([0-9]{1,9}):[0-9]{1,9}", str(subject.told("protocol", "indices")))
    return None if found is None else int(found[1])


def _by_value(subjects: Sequence[ReportRun], of: Callable[[ReportRun], object]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for subject in subjects:
        if (value := of(subject)) is not None:
            found.setdefault(shown(value, 60), []).append(subject.name)
    return found


def _values(what: str, told: dict[str, list[str]], runs: int) -> str:
    """``seed 0`` where all runs have one value, else ``batch size 64 (a) and 128 (b)``."""
    whose = [
        value if len(told) == 1 and len(names) == runs else f"{value} ({', '.join(names)})"
        for value, names in told.items()
    ]
    return f"{what} {' and '.join(whose)}".strip()
