"""A log as the audit has read it, its findings, and the check that its images are those expected."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from maxup_smoothing.certify.tables import manifest as manifests

_OURS = {"n_a", "p_a_lower", "status", "counts"}  # columns by which a table of ours is known
_MOST_IMAGES = 20_000_000
_SPLITS = (10_000, 26_032, 50_000, 60_000, 73_257)  # images of MNIST and CIFAR, SVHN, and ImageNet's validation set


@dataclass(frozen=True)
class LogFinding:
    """One kind of fault in a log: ``level`` is error, warning or note, ``rows`` how many rows have it."""

    level: str
    check: str
    message: str
    rows: int


@dataclass(frozen=True)
class Setting:
    """sigma, n or alpha of a log; None where it is unknown or differs by row, and where it is from."""

    value: float | None
    source: str

    def __str__(self) -> str:
        return self.source if self.value is None else f"{self.value:.12g} ({self.source})"


@dataclass(kw_only=True)
class RawLog:
    """A log's rows without a fault, with the digits of their ``radii`` and their ``lines`` in the file.

    ``count`` and ``indices``, the pairs (idx, line), are of all rows; ``findings`` are those of single rows.
    """

    header: list[str]
    count: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    radii: list[str] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    indices: list[tuple[int, int]] = field(default_factory=list)
    findings: list[LogFinding] = field(default_factory=list)


def where(lines: Sequence[int]) -> str:
    """The first of some lines, in words."""
    more = ", …" if len(lines) > 3 else ""
    return f"line{'s' * (len(lines) > 1)} {', '.join(str(line) for line in lines[:3])}{more}"


def such_rows(number: int) -> str:
    """So many rows, in words."""
    return f"{number} such row{'s' * (number != 1)}"


def of_manifest(path: Path, log: RawLog) -> tuple[list[LogFinding], dict[str, Any]]:
    """Whether the manifest beside a log agrees with its rows, and the manifest; {} if there is none that can be read.

    A log of ours must have one; other projects write none.
    """
    beside = manifests.manifest_path(path)
    try:
        manifest = manifests.read(beside)
    except FileNotFoundError:
        message = f"there is no {beside.name} beside it: which model was certified, and with which noise, is unknown."
        return [LogFinding("warning", "manifest", message, 0)] if set(log.header) >= _OURS else [], {}
    except (OSError, ValueError, RecursionError) as error:
        return [LogFinding("error", "manifest", str(error), 0)], {}
    sampling = manifest.get("sampling")
    if sampling is None:
        return [LogFinding("error", "manifest", f"{beside.name} has no section `sampling`.", 0)], {}
    found = []
    for name in ("sigma", "alpha", "n", "n0"):
        # Other procedures stop when they like: their n is what a row used, the manifest's the most.
        rows = [index for index, row in enumerate(log.rows) if name in row and (name != "n" or is_fixed(row))]
        other = [index for index in rows if log.rows[index][name] != sampling.get(name)]
        if other:
            message = (
                f"{where([log.lines[index] for index in other])}: {name} is {log.rows[other[0]][name]}, the manifest "
                f"says {str(sampling.get(name))[:50]}; {such_rows(len(other))}."
            )
            found.append(LogFinding("error", "manifest", message, len(other)))
    return found, manifest


def of_indices(log: RawLog, manifest: Mapping[str, Any]) -> Iterator[LogFinding]:
    """Images that are there twice or not at all; by their stride where no manifest says which are expected."""
    lines: dict[int, list[int]] = defaultdict(list)
    for idx, line in log.indices:
        lines[idx].append(line)
    if twice := {idx: found for idx, found in lines.items() if len(found) > 1}:
        idx, repeats = next(iter(twice.items()))
        rows = sum(len(found) - 1 for found in twice.values())
        message = f"idx {idx} is there {len(repeats)} times, {where(repeats)}; in all {rows} too many."
        yield LogFinding("error", "duplicate-idx", message, rows)
    there = sorted(lines)
    if (expected := _expected(manifest)) is not None:
        if strangers := [idx for idx in there if idx not in expected]:
            message = f"idx {strangers[0]} is none of the manifest's images; {such_rows(len(strangers))}."
            yield LogFinding("error", "protocol", message, len(strangers))
        if missing := len(expected) - len(there) + len(strangers):
            message = f"{missing} of the {len(expected)} images that the manifest names have no row."
            yield LogFinding("warning", "missing-rows", message, missing)
        return
    steps = Counter(after - before for before, after in pairwise(there))
    stride, share = steps.most_common(1)[0] if steps else (0, 0)
    if share < 0.9 * steps.total() or not steps:
        return  # a choice of images that no rule records
    start, last = there[0], there[-1]
    gaps = [before + stride for before, after in pairwise(there) if after - before > stride]
    if missing := sum(step // stride - 1 for step in steps.elements() if step > stride):
        message = (
            f"idx goes up in steps of {stride}, but {missing} of the rows are missing, that of idx {gaps[0]} first."
        )
        yield LogFinding("warning", "missing-rows", message, missing)
    ends = [size for size in _SPLITS if size > last]
    whole = any(last + stride >= size for size in ends) or (stride == 1 and (last + 1 - start) % 50 == 0)
    if ends and not whole:
        most = (ends[0] - 1 - start) // stride + 1
        here = (last - start) // stride + 1
        message = (
            f"the last idx is {last}, in steps of {stride} from {start}: no known data set ends there. Of {ends[0]} "
            f"images {most} would have a row, {most - here} more than here."
        )
        yield LogFinding("warning", "truncated", message, most - here)


def is_fixed(row: Mapping[str, Any]) -> bool:
    """Whether a row is CERTIFY's, a fixed n and Clopper-Pearson in l2; the checks of others are `tables.row`'s."""
    usual = row.get("procedure", "fixed") == "fixed" and row.get("bound", "clopper-pearson") == "clopper-pearson"
    return usual and row.get("norm", "l2") == "l2"


def _expected(manifest: Mapping[str, Any]) -> list[int] | None:
    """The images that a manifest's protocol names; as many of them as the run was asked for."""
    indices = manifests.told(manifest, "protocol", "indices") or ""
    slices = [re.fullmatch("([0-9]{1,9}):([0-9]{1,9}):([1-9][0-9]{0,8})", part) for part in indices.split(",")]
    if not all(slices):
        return None
    ranges = [range(*map(int, found.groups())) for found in slices if found]
    if sum(map(len, ranges)) > _MOST_IMAGES:
        return None  # more than any data set has: the manifest is damaged
    expected = [idx for part in ranges for idx in part]
    return expected[: manifests.told(manifest, "notes", "images")]
