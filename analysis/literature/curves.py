"""Certified accuracies that others published, as data in ``analysis/literature/published``.

They were computed from the public per-example logs of the repositories named in ``source``. Radii there have three
significant digits, rounded to nearest, so an accuracy just at such a radius may be a little high. A row of the subset
``skip20`` is the same log's on every 20th image: ours of 500 images are held against that one where there is one.
"""

import csv
import io
import math
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from maxup_smoothing.certify.tables.summary import Summary
from maxup_smoothing.data.official import SIZES
from maxup_smoothing.data.runtime.untrusted import read_bytes
from maxup_smoothing.data.subset import protocol

T = TypeVar("T")
_LARGEST = 10_000_000
_FOLDER = Path(__file__).with_name("published")
#: Part of the images of a well-known data set, under a name of its own.
_SAMPLES = {"fashion-mnist": "fashion-sample"}
_FACTS = ("dataset", "arch", "method", "sigma", "subset", "images", "seeds", "n", "alpha", "acr", "source")


@dataclass(frozen=True, kw_only=True)
class Published:
    """A method's published result: ``acr`` and, by radius, the certified accuracy in percent where it is known.

    ``subset`` is a protocol of `data.subset` over the test images; numbers are means over ``seeds`` trained networks.
    """

    dataset: str
    arch: str
    method: str
    sigma: float
    subset: str
    images: int
    seeds: int
    n: int
    alpha: float
    acr: float
    percent: Mapping[float, float]
    source: str

    def same_images(self, indices: Iterable[int]) -> bool:
        """Whether these test images, and no others, are the row's."""
        return set(indices) == set(protocol(self.subset).indices(SIZES[self.dataset]["test"]).tolist())


def load_published(path: str | os.PathLike[str] = _FOLDER) -> list[Published]:
    """Read published rows.

    Args:
        path: A CSV file, or a folder of such; by default MNIST and Fashion-MNIST with LeNet, and CIFAR-10 with residual
            networks. Beyond the facts that `Published` names, its columns are radii, with certified accuracies in
            percent, empty where unknown.

    Raises:
        ValueError: If a column is missing or a field malformed or impossible, with file and line.
        OSError: If the file cannot be read.
    """
    if os.path.isdir(path):
        return [row for file in sorted(Path(path).glob("*.csv")) for row in load_published(file)]
    return read_lines(path, _FACTS, _row)


def read_lines(
    path: str | os.PathLike[str], columns: Sequence[str], parse: Callable[[Mapping[str, str]], T]
) -> list[T]:
    """The lines of a CSV file, each parsed.

    Args:
        path: The file.
        columns: Those that it must have.
        parse: From a line's texts by column; ValueError or TypeError for what is wrong with them.

    Raises:
        ValueError: If a column is missing or a line is malformed, with file and line.
        OSError: If the file cannot be read.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_bytes(path, _LARGEST).decode("utf-8-sig"), newline=""))
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path} is no CSV file in UTF-8: {error}.") from None
    if missing:
        raise ValueError(f"{path} lacks the columns {', '.join(missing)}; add them to its first line.")
    found = list[T]()
    try:
        for line in reader:
            found.append(parse(line))
    except (TypeError, ValueError, csv.Error) as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    return found


def published_beside(
    rows: Iterable[Published], dataset: str, sigmas: Collection[float | None], indices: Iterable[int]
) -> list[Published]:
    """The rows with certified accuracies to draw beside runs: of the same images where there are such, else of all.

    Args:
        rows: As `load_published` returns them.
        dataset: Name in `data.registry`.
        sigmas: Of the runs.
        indices: Test images that the runs are about.

    Raises:
        ValueError: If there is none.
    """
    curves = [row for row in rows if row.percent]
    wanted = [row for row in curves if row.dataset == dataset and row.sigma in sigmas]
    images = set(indices)
    same = [row for row in wanted if row.same_images(images)]
    found = same + [
        row for row in wanted if row.subset == "full" and row.method not in {other.method for other in same}
    ]
    if not found:
        known = ", ".join(sorted({f"{row.dataset} (sigma {row.sigma:g})" for row in curves}))
        raise ValueError(f"no published curve of {dataset} at the runs' sigma is known; there are: {known}.")
    return found


def require_data(dataset: str, told: Mapping[str, str | None]) -> None:
    """Refuse published curves behind runs of other data: an easier data set would look like a better method.

    Args:
        dataset: Of the curves.
        told: What is known of the data that each run certified, by the run's name.

    Raises:
        ValueError: If a run is known to be of another data set, and not of a sample of the same one.
    """
    for name, data in told.items():
        if data is not None and data not in (dataset, _SAMPLES.get(dataset)):
            raise ValueError(
                f"{name} was certified on {data}, so published results of {dataset} do not belong behind it; "
                f"name the data set of the runs, or leave this run out."
            )


def different_conditions(
    rows: Sequence[Published], runs: Sequence[Summary], told: Collection[str | None]
) -> str | None:
    """A warning, without a full stop, if rows differ from runs in data set, n or alpha; None if in none of them.

    Args:
        rows: At least one.
        runs: At least one; where one does not record its n or alpha, they are not known to be the rows'.
        told: The runs' data sets, as far as they are known; an unknown one is not a difference.
    """
    theirs = _conditions([row.dataset for row in rows], [row.n for row in rows], [row.alpha for row in rows])
    ns, alphas = [run.n for run in runs], [run.alpha for run in runs]
    known = {data for data in told if data is not None} or {row.dataset for row in rows}
    if _conditions(known, ns, alphas) == theirs:
        return None
    return f"not comparable: published are {theirs}; the runs are {_conditions(told, ns, alphas)}"


def _conditions(data: Collection[str | None], ns: Collection[int | None], alphas: Collection[float | None]) -> str:
    return f"{_either(data, '')}, n = {_either(ns, ',')}, alpha = {_either(alphas, 'g')}"


def _either(values: Collection[Any], form: str) -> str:
    """Different values in their order, such as ``1,000 or 100,000``."""
    known = sorted({value for value in values if value is not None})
    return " or ".join([*(format(value, form) for value in known), *(["unknown"] if None in values else [])])


def _row(line: Mapping[str, str]) -> Published:
    row = Published(
        dataset=line["dataset"],
        arch=line["arch"],
        method=line["method"],
        sigma=float(line["sigma"]),
        subset=line["subset"],
        images=int(line["images"]),
        seeds=int(line["seeds"]),
        n=int(line["n"]),
        alpha=float(line["alpha"]),
        acr=float(line["acr"]),
        percent={float(name): float(text) for name, text in line.items() if name not in _FACTS and text},
        source=line["source"],
    )
    if not all(map(math.isfinite, (row.sigma, row.alpha, row.acr, *row.percent))):
        raise ValueError("numbers must be finite.")
    if row.dataset not in SIZES:
        raise ValueError(f"unknown dataset {row.dataset!r}; there are: {', '.join(SIZES)}.")
    whole = len(protocol(row.subset).indices(SIZES[row.dataset]["test"]))
    if row.images != whole:
        raise ValueError(f"{row.subset} of {row.dataset} has {whole} images, got {row.images}; correct one of the two.")
    in_order = [row.percent[radius] for radius in sorted(row.percent)]
    if in_order != sorted(in_order, reverse=True) or not all(0 <= value <= 100 for value in in_order):
        raise ValueError(f"certified accuracies must be in [0, 100] and fall with the radius, got {in_order}.")
    return row
