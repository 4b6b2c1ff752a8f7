"""What limits the numbers of a report although nothing is wrong with them, each computed from the files of the runs."""

import re
from collections.abc import Callable, Iterator, Sequence

from maxup_smoothing.analysis.report.subjects import Subject, shown
from maxup_smoothing.analysis.runs.compute import passes_of
from maxup_smoothing.data.dataset import Dataset
from maxup_smoothing.data.official import SIZES


def caveats(subjects: Sequence[Subject], data: Sequence[Dataset | str]) -> list[str]:
    """Sentences about training seeds, copies in training, arithmetic, batch sizes and the images that were taken.

    Args:
        subjects: The runs.
        data: The data of each, or the reason why it is not to be had.
    """
    return [*_seeds(subjects), *_copies(subjects), *_arithmetic(subjects), *_images(subjects, data)]


def _seeds(subjects: Sequence[Subject]) -> Iterator[str]:
    told = _by_value(subjects, lambda one: one.config.get("seed"))
    seeds = f" ({_values('seed', told, len(subjects))})" if told else ""
    if len(subjects) == 1:
        yield f"One training run{seeds}: another seed would give another network; how different is not known."
    else:
        yield (
            f"One training run each{seeds}: a difference is one between these networks; how much of it another "
            "training seed would change is not known."
        )


def _copies(subjects: Sequence[Subject]) -> Iterator[str]:
    told = _by_value(subjects, lambda one: _copies_of(one))
    if len(told) > 1:
        each = "; ".join(f"{', '.join(names)}: {value}" for value, names in told.items())
        yield f"The trainings differ in noisy copies of an image per step, and with these in compute: {each}."


def _copies_of(subject: Subject) -> str | None:
    m = subject.config.get("m", 1)
    if not subject.config.get("objective") or type(m) is not int:
        return None
    passes = passes_of(subject.config)
    cost = "" if passes is None else f" ({passes[0]} forward and {passes[1]} backward passes)"
    return f"{m} {'copy' if m == 1 else 'copies'}{cost}"


def _arithmetic(subjects: Sequence[Subject]) -> Iterator[str]:
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


def _images(subjects: Sequence[Subject], data: Sequence[Dataset | str]) -> Iterator[str]:
    told = list[str]()
    for subject, one in zip(subjects, data, strict=True):
        images, all_images = subject.run.summary.images, total(subject, one)
        if all_images is not None and images < all_images:
            told.append(f"{images:,} of {all_images:,} images")
    distinct = list(dict.fromkeys(told))
    if distinct:
        which = distinct[0] if len(distinct) == 1 and len(told) == len(subjects) else ", ".join(distinct)
        yield f"{which} were certified: the intervals say how far that sample may lie from all."


def total(subject: Subject, data: Dataset | str) -> int | None:
    """How many images the split has that a run took its own from; None where neither data nor manifest tells."""
    if not isinstance(data, str):
        return len(data.labels)
    name, split = str(subject.told("data", "name")), str(subject.told("data", "split"))
    if (known := SIZES.get(name, {}).get(split)) is not None:
        return known
    found = re.fullmatch("0:([0-9]{1,9}):[0-9]{1,9}", str(subject.told("protocol", "indices")))
    return None if found is None else int(found[1])


def _by_value(subjects: Sequence[Subject], of: Callable[[Subject], object]) -> dict[str, list[str]]:
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
