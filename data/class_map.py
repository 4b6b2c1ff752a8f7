"""Images of some of a network's classes, or of classes that it numbers otherwise: which class is which number there."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from maxup_smoothing.data.dataset import Dataset, listed
from maxup_smoothing.data.runtime import strict_json
from maxup_smoothing.data.runtime.untrusted import read_bytes

_LARGEST = 10_000_000
_MOST = 1_000_000  # classes of a network
_FORM = "a line a class, its name (or number in the data set) and its number in the network, or a JSON object of these"


def read(path: Path) -> dict[str, int]:
    """A map from classes of a data set to those of a network.

    Args:
        path: Text with a line for each class, such as ``tench 0``; the number stands last. Or JSON, ``{"tench": 0}``.

    Raises:
        ValueError: If the file is anything else, or names a class twice.
        OSError: If it cannot be read.
    """
    try:
        text = read_bytes(path, _LARGEST).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not text; a class map is {_FORM}.") from None
    if text.lstrip().startswith("{"):
        try:
            found = strict_json.parse(text.encode())
        except ValueError as error:
            raise ValueError(f"{path} is not JSON ({error}); a class map is {_FORM}.") from None
        assert isinstance(found, dict)
        return checked(found, str(path))
    mapping: dict[str, object] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        name, _, last = line.strip().replace("\t", " ").rpartition(" ")
        name = name.strip()
        if not name or not (last.isascii() and last.isdecimal() and len(last) < 10):
            raise ValueError(
                f"{path}, line {number}: {line[:100]!r} is not a name and a number; a class map is {_FORM}."
            )
        if name in mapping:
            raise ValueError(f"{path}, line {number}: {name} is there twice; keep one of the lines.")
        mapping[name] = int(last)
    return checked(mapping, str(path))


def checked(mapping: Mapping[str, object], source: str) -> dict[str, int]:
    """The map, if its numbers are those of classes.

    Raises:
        ValueError: If there are none, or one is anything else.
    """
    for name, value in mapping.items():
        if type(value) is not int or not 0 <= value < _MOST:
            raise ValueError(
                f"{source}: {name} must have the number of a class of the network, got {str(value)[:50]!r}."
            )
    if not mapping:
        raise ValueError(f"{source} names no class; a class map is {_FORM}.")
    return {name: value for name, value in mapping.items() if type(value) is int}


def renumbered(dataset: Dataset, mapping: Mapping[str, int]) -> tuple[Dataset, dict[str, int]]:
    """The data set with its labels numbered as in the network, and the entries of the map that it took.

    Args:
        dataset: With labels.
        mapping: From class names, or the numbers of classes in the data set, to numbers in the network. Other names
            may be there, too, and several classes may have one number.

    Raises:
        ValueError: If the images have no labels, or a class that has images is not in the map.
    """
    if not dataset.labelled:
        raise ValueError(f"{dataset.name} has no labels that --class-map could number; leave it out.")
    numbers = [mapping.get(name, mapping.get(str(k))) for k, name in enumerate(dataset.classes)]
    present = set(np.unique(dataset.labels).tolist())
    if missing := [dataset.classes[k] for k in sorted(present) if numbers[k] is None]:
        raise ValueError(f"the class map has no number for {listed(missing)} of {dataset.name}; add a line for each.")
    used = {dataset.classes[k]: number for k, number in enumerate(numbers) if number is not None}
    names = {number: "/".join(name for name, other in used.items() if other == number) for number in used.values()}
    labels_N = np.array([-1 if number is None else number for number in numbers], dtype=np.int64)[dataset.labels]
    classes = tuple(names.get(k, str(k)) for k in range(max(names) + 1))
    return dataclasses.replace(dataset, labels=labels_N, classes=classes), used
