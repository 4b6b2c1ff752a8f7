"""A text file of labels beside a flat folder of images, as ImageNet's validation images come."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.data.dataset import listed
from maxup_smoothing.data.formats.picture import EXTENSIONS
from maxup_smoothing.data.runtime.untrusted import read_text

_LARGEST = 500_000_000
_FORM = (
    "a line an image, its name and its class or number (x.jpg 5, or x.jpg,cat), or a number a line in the order of the "
    "sorted names"
)
# A name may have blanks, and so may a class: an ending says where the name is over.
_NAMED = re.compile(rf"(.+?(?:{'|'.join(map(re.escape, EXTENSIONS))}))[\s,;]+(.+)", re.IGNORECASE)
_HEADS = ("imageid", "image_id", "image", "img", "id", "filename", "file_name", "file", "path", "name")
_KAGGLE = "predictionstring"  # of LOC_val_solution.csv: a synset and four numbers for each box
_KIT = "validation_ground_truth"


def read(
    path: Path, names: Sequence[str], known: Sequence[str] | None
) -> tuple[NDArray[np.int64], list[str], list[str]]:
    """The label of each image.

    Args:
        path: Text; see `_FORM`. A name may lack its ending, or have folders in front.
        names: Of the images, sorted.
        known: The classes, in their order, where another part of the data set tells them.

    Returns:
        Labels, int64, one for each name; the class names, empty where labels are numbers and ``known`` is None; notes.

    Raises:
        ValueError: If an image has no label or two, a class is not among those that are known, or the file is
            something else; with the fix.
        OSError: If it cannot be read.
    """
    lines = [(number, line.strip()) for number, line in enumerate(read_text(path, _LARGEST, _FORM).splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line]
    if not lines:
        raise ValueError(f"{path} is empty; a file of labels is {_FORM}.")
    if all(_is_number(line) for _, line in lines):
        if len(lines) != len(names):
            raise ValueError(
                f"{path} has {len(lines)} labels for {len(names)} images; without names there must be one for each, in "
                "the order of the sorted names."
            )
        if _KIT in path.name.lower():
            note = (
                f"{path}: ImageNet's development kit numbers the classes from 1 in an order of its own, which is not "
                "that of the synsets or of any network; pass --class-map with a line for each number, or labels with "
                "synsets, such as LOC_val_solution.csv."
            )
            return np.array([int(line) for _, line in lines], dtype=np.int64), [], [note]
        return _numbered([line for _, line in lines], known, path)
    labels, notes = _by_name(_pairs(lines, path), names, path)
    return _numbered(labels, known, path, notes)


def _numbered(
    labels: Sequence[str], known: Sequence[str] | None, path: Path, notes: Sequence[str] = ()
) -> tuple[NDArray[np.int64], list[str], list[str]]:
    """Labels as numbers: they are numbers already, or names of classes."""
    classes = list(known or ())
    named = {name: number for number, name in enumerate(classes)}
    if all(_is_number(label) for label in labels) and not all(label in named for label in labels):
        return np.array([int(label) for label in labels], dtype=np.int64), classes, list(notes)
    if known is None:
        classes = sorted(set(labels))
        named = {name: number for number, name in enumerate(classes)}
    if strange := sorted(set(labels) - set(named)):
        raise ValueError(
            f"{path}: {listed(strange)} must be one of the class folders of the data set, such as {listed(classes[:3])}"
            "; correct the labels, or add an empty folder for each class."
        )
    return np.array([named[label] for label in labels], dtype=np.int64), classes, list(notes)


def _pairs(lines: Sequence[tuple[int, str]], path: Path) -> list[tuple[int, str, str]]:
    """Line number, name and label of each line."""
    head = re.split(r"[\s,;]+", lines[0][1].lower())
    boxes = head[-1] == _KAGGLE
    found = []
    for number, line in lines[1:] if head[0] in _HEADS and len(head) > 1 else lines:
        if match := _NAMED.fullmatch(line):
            name, label = match[1], match[2]
        else:
            name, _, label = line.partition(",") if "," in line else line.rpartition("\t" if "\t" in line else " ")
        label = label.split()[0] if boxes and label.split() else label.strip().strip('"')
        if not name.strip() or not label:
            raise ValueError(
                f"{path}, line {number}: {line[:100]!r} is not a name and a label; a file of labels is {_FORM}."
            )
        found.append((number, name.strip().strip('"'), label))
    return found


def _by_name(pairs: Sequence[tuple[int, str, str]], names: Sequence[str], path: Path) -> tuple[list[str], list[str]]:
    """The label of each image by its name, and a note on names that no image has."""
    places = _places(names)
    labels: list[str | None] = [None] * len(names)
    strange = []
    for number, name, label in pairs:
        short = PurePosixPath(name.replace("\\", "/"))
        place = next((places[key] for key in (name, short.name, short.stem) if key in places), None)
        if place is None:
            strange.append(name)
        elif labels[place] not in (None, label):
            raise ValueError(
                f"{path}, line {number}: {name} has the labels {labels[place]} and {label}; keep one of the lines."
            )
        else:
            labels[place] = label
    if missing := [name for name, label in zip(names, labels, strict=True) if label is None]:
        hint = f" (its first name is {strange[0][:100]})" if strange else ""
        raise ValueError(
            f"{path} has no label for {listed(missing)}{hint}; add a line for each, or take these images out."
        )
    notes = [f"{path}: {len(strange)} labels are of images that are not there: {listed(strange)}."] if strange else []
    return [label for label in labels if label is not None], notes


def _places(names: Sequence[str]) -> Mapping[str, int]:
    """Where each name is, also without its ending where that is the only one."""
    stems: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        stems.setdefault(PurePosixPath(name).stem, []).append(place)
    single = {stem: places[0] for stem, places in stems.items() if len(places) == 1}
    return {**single, **{name: place for place, name in enumerate(names)}}


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10
