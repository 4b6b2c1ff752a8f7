"""Images of some of a network's classes, or of classes that it numbers otherwise: which class is which number there."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from maxup_smoothing.data.dataset import Dataset, listed
from maxup_smoothing.data.runtime import strict_json
from maxup_smoothing.data.runtime.untrusted import read_text

_LARGEST = 10_000_000
_MOST = 1_000_000  # classes of a network
_FORM = "a line a class, its name (or number in the data set) and its number in the network, or a JSON object of these"
_SYNSET = re.compile(r"(n\d{8})(?:[\s,].*)?")  # WordNet's number of a noun, as ImageNet's folders are called
_NAMELESS = re.compile(r"LABEL_\d+")
_NUMBERED = re.compile(r".*\S[ \t]+\d+")


def read(path: Path) -> dict[str, int]:
    """A map from classes of a data set to those of a network.

    Args:
        path: Text with a line for each class, such as ``tench 0``; the number stands last. Or JSON, ``{"tench": 0}``.
            Or a list of all classes in the network's order. That may be lines that begin with synsets
            (``synset_words.txt``, ``LOC_synset_mapping.txt``) or a JSON list of names. It may also be a JSON object
            from numbers to a name, or to a synset and a name (``id2label`` of a ``config.json``,
            ``imagenet_class_index.json``).

    Raises:
        ValueError: If the file is anything else, or names a class twice.
        OSError: If it cannot be read.
    """
    text = read_text(path, _LARGEST, _FORM)
    if text.lstrip().startswith(("{", "[")):
        try:
            found = strict_json.parse(text.encode())
        except ValueError as error:
            raise ValueError(f"{path} is not JSON ({error}); a class map is {_FORM}.") from None
        return _from_json(found, str(path))
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    synsets = [match for _, line in lines if (match := _SYNSET.fullmatch(line))]
    if len(synsets) == len(lines) and not all(_NUMBERED.fullmatch(line) for _, line in lines):
        return _in_order([(match[1],) for match in synsets], str(path))
    mapping: dict[str, object] = {}
    for number, line in lines:
        name, _, last = line.replace("\t", " ").rpartition(" ")
        name = name.strip()
        if not name or not (last.isascii() and last.isdecimal() and len(last) < 10):
            raise ValueError(
                f"{path}, line {number}: {line[:100]!r} is not a name and a number; a class map is {_FORM}."
            )
        if name in mapping:
            raise ValueError(f"{path}, line {number}: {name} is there twice; keep one of the lines.")
        mapping[name] = int(last)
    return checked(mapping, str(path))


def _from_json(found: object, source: str) -> dict[str, int]:
    """A map out of the forms in which JSON files tell a network's classes."""
    if isinstance(found, dict):
        for key in ("label2id", "id2label"):  # of a Hugging Face config.json
            # transformers fills in names of its own for one of them where only the other was set.
            if isinstance(inner := found.get(key), dict) and not any(map(_NAMELESS.fullmatch, map(str, inner))):
                return _from_json(inner, f"{source}, {key}")
        # {"0": "281"} is a number that somebody has quoted, and no class of that name.
        if found and all(name.isdecimal() and _names_of(value) for name, value in found.items()):
            numbers = sorted(found, key=int)
            if [int(number) for number in numbers] != list(range(len(numbers))):
                raise ValueError(f"{source}: the numbers of the classes must go from 0 on without gaps; correct them.")
            found = [found[number] for number in numbers]
    if isinstance(found, list):
        entries = [entry if isinstance(entry, list) else [entry] for entry in found]
        if not all(entry and all(isinstance(name, str) for name in entry) for entry in entries):
            raise ValueError(f"{source}: a list of classes must hold names, in the network's order.")
        return _in_order([tuple(entry) for entry in entries], source)
    assert isinstance(found, dict)
    return checked(found, source)


def _names_of(value: object) -> bool:
    return isinstance(value, list) or (isinstance(value, str) and not value.isdecimal())


def _in_order(entries: Sequence[Sequence[str]], source: str) -> dict[str, int]:
    """Names of each class to its place; a name of two classes is left out where each has another name, too."""
    mapping: dict[str, int] = {}
    twice = set[str]()
    for number, names in enumerate(entries):
        for name in dict.fromkeys(names):
            twice |= {name} if name in mapping else set()
            mapping[name] = number
    if bad := [names for names in entries if set(names) <= twice]:
        raise ValueError(f"{source}: {bad[0][0][:100]} is there twice; keep one of them.")
    return checked({name: number for name, number in mapping.items() if name not in twice}, source)


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
