"""A folder of images in one folder per class, or of images without classes, read with Pillow."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maxup_smoothing.data import labels as label_files
from maxup_smoothing.data.dataset import SPELLINGS, Dataset, choose_half, from_images, listed
from maxup_smoothing.data.formats.picture import EXTENSIONS, GRAY, is_image, opened
from maxup_smoothing.data.lazy import Files, images_of
from maxup_smoothing.data.preprocessing import Preprocessing

# What systems leave in folders; macOS adds ._x.png to x.png in archives.
_SYSTEM_FILES, _SYSTEM_FOLDERS = (".ds_store", "thumbs.db", "desktop.ini"), ("__macosx", "@eadir")


class _File(NamedTuple):
    path: str
    size: int


def read(
    folder: Path,
    split: str,
    *,
    name: str | None = None,
    preprocessing: Preprocessing | None = None,
    labels: Path | None = None,
    lazy: bool = False,
) -> Dataset:
    """Find every image of a folder, classes and files in the order of their sorted names.

    Folders whose names are all whole numbers come in the order of these. An empty folder is a class without an image.

    Args:
        folder: Holds one folder per class; or ``train``, ``test`` and ``val`` with one folder per class each; or
            images alone, whose classes are then not known, as may one of the splits.
        split: Which of ``train``, ``test`` and ``val``; ignored without them, and the split is then recorded as
            ``folder``.
        name: Goes into ``Dataset.name``; None for the path.
        preprocessing: Makes images of any size alike, each when it is asked for. None for pixels as stored: nothing
            is resized, and rotation tags of cameras are left alone.
        labels: A file with the labels of images that are not in class folders; see ``data.labels``.
        lazy: See ``data.lazy.images_of``.

    Returns:
        The dataset: images of shape (N, 1, H, W) if every one is grayscale or preprocessing says so, else (N, 3, H,
        W). Its notes count the files that were passed over.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are no images, a class has files and no image among them, the splits differ in their
            classes, or labels do not fit. Also if an image is damaged, or has another size, more than 8 bits or
            transparent pixels. For ``train`` also if the images of another split have another size or other channels.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; give a folder with one folder of images per class.")
    top, recorded, known, notes = _choose_split(folder, split, flat=labels is not None)
    classes = _class_names(top)
    loose, passed_loose = _images_in(top, inside=False)
    if not classes and not loose:
        raise ValueError(
            f"{top}: no class folders and no images; put the images of each class into a folder named for the class."
        )
    if labels is not None and not loose:
        raise ValueError(f"{top} has class folders, which say the labels of their images; leave --labels out.")
    if labels is not None:
        classes = []
    files, numbers, passed = list[_File](), list[int](), dict[str, Counter[str]]()
    for k, class_name in enumerate(classes):
        found, passed[class_name] = _images_in(top / class_name)
        if not found and passed[class_name].total():
            raise ValueError(
                f"{top / class_name}: no images in this class, only {_reasons(passed[class_name])}; add images "
                f"({' '.join(EXTENSIONS)}, directly in it) or remove the folder."
            )
        files += found
        numbers += [k] * len(found)
    if classes and not files:
        raise ValueError(f"{top}: all {len(classes)} class folders are empty; put the images of each class into its.")
    labels_N = np.array(numbers, dtype=np.int64) if classes else None
    if classes:
        passed["beside the class folders"] = Counter({"images": len(loose)})
    else:
        files, passed, classes = loose, {top.name: passed_loose}, known or []
        if labels is not None:
            labels_N, classes, told = label_files.read(labels, [os.path.basename(file.path) for file in files], known)
            notes = (*notes, *told)
    images = images_of(_source(files, top), preprocessing, lazy=lazy)
    if recorded == "train" and preprocessing is None:
        for other in _halves(folder):
            _require_alike(images.shape, top, folder / other)
    return from_images(
        images,
        labels_N,
        source=str(top),
        name=str(folder) if name is None else name,
        split=recorded,
        classes=classes or None,
        notes=[*notes, *_order_note(top, classes if labels is None else []), *_passed_note(top, passed)],
    )


def read_file(path: Path, *, name: str | None = None, preprocessing: Preprocessing | None = None) -> Dataset:
    """One image, whose class is not known; see `read`."""
    images = images_of(_source([_File(str(path), path.stat().st_size)], path.parent), preprocessing)
    return from_images(images, None, source=str(path), name=str(path) if name is None else name, split="file")


def _choose_split(folder: Path, split: str, *, flat: bool) -> tuple[Path, str, list[str] | None, tuple[str, ...]]:
    """Where the images are, the split's name, the classes that another split tells of unlabelled images, and notes.

    A part may be ``flat``, without class folders, only if another has these, or a file tells the labels.
    """
    present = _halves(folder)
    if not present and not flat:
        return folder, "folder", None, ()
    others = [name for name in SPELLINGS if name not in present and (folder / name).is_dir()]
    unlabelled = [name for name in others if _images_in(folder / name, inside=False)[0]]
    if not present and not unlabelled:
        return folder, "folder", None, ()
    spelled, recorded, notes = choose_half([*present, *unlabelled], split, str(folder))
    if spelled in unlabelled:
        return folder / spelled, recorded, next(iter(present.values()), None), notes
    for other, classes in present.items():
        if classes != present[spelled]:
            # Labels are positions in the sorted names: a class missing on one side would shift all that follow.
            different = sorted(set(classes) ^ set(present[spelled]))
            first, second = sorted((spelled, other), key=list(present).index)
            raise ValueError(
                f"{folder}: {first} and {second} must have the same class folders; {listed(different)} in only one. A "
                "class without images there is an empty folder."
            )
    return folder / spelled, recorded, None, notes


def _halves(folder: Path) -> dict[str, list[str]]:
    """The class folders of each part that is there."""
    present = {name: _class_names(folder / name) for name in SPELLINGS if (folder / name).is_dir()}
    return {name: classes for name, classes in present.items() if classes}


def _class_names(folder: Path) -> list[str]:
    names = [path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    names = sorted(name for name in names if name.lower() not in _SYSTEM_FOLDERS)
    return sorted(names, key=int) if _are_numbers(names) else names


def _are_numbers(names: Sequence[str]) -> bool:
    return all(name.isascii() and name.isdecimal() for name in names)


def _order_note(top: Path, classes: list[str]) -> list[str]:
    if classes == sorted(classes):
        return []
    return [
        f"{top}: the class folders are in the order of their numbers, {listed(classes)}; sorted as text, as other "
        f"programs do it, they would be {listed(sorted(classes))}."
    ]


def _images_in(folder: Path, *, inside: bool = True) -> tuple[list[_File], Counter[str]]:
    """The images directly in a folder, by name, and how many other files there are, by the reason.

    Images in folders ``inside`` it are counted, too.
    """
    images, passed = [], Counter[str]()
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        name, ending = entry.name.lower(), os.path.splitext(entry.name)[1].lower()
        if entry.is_dir():
            if inside and name not in _SYSTEM_FOLDERS:
                below = sum(is_image(Path(name)) for _, _, names in os.walk(entry.path) for name in names)
                passed += Counter({"in folders inside it": below})
        elif name in _SYSTEM_FILES or name.startswith("._"):
            passed["of the operating system"] += 1
        elif name.startswith("."):
            passed["hidden"] += 1
        elif ending not in EXTENSIONS:
            passed[f"with the ending {ending}" if ending else "without an ending"] += 1
        else:
            images.append(_File(str(folder / entry.name), _size(entry)))
    return images, passed


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except OSError:  # a link to nowhere, which reading it says
        return -1


def _reasons(passed: Counter[str]) -> str:
    return ", ".join(f"{count} {reason}" for reason, count in passed.items())


def _passed_note(top: Path, passed: dict[str, Counter[str]]) -> list[str]:
    """How many files were passed over in which folder, and why, in a sentence, if there are any."""
    lost = {name: reasons for name, reasons in passed.items() if reasons.total()}
    if not lost:
        return []
    total = sum(reasons.total() for reasons in lost.values())
    told = listed([f"{name} {_reasons(reasons)}" for name, reasons in lost.items()])
    return [f"{top}: files passed over: {total} ({told})."]


def _source(files: Sequence[_File], top: Path) -> Files:
    prefix = os.path.join(str(top), "")  # of every path, unless the folder is the working directory
    return Files(top, [file.path.removeprefix(prefix) for file in files], [file.size for file in files])


def _require_alike(shape: Sequence[int], top: Path, other: Path) -> None:
    """Refuse another part of the data set whose images a classifier of images of this (N, C, H, W) could not take."""
    colour, height, width = shape[1] == 3, *shape[2:]
    for class_name in _class_names(other) if other != top else ():
        for file in _images_in(other / class_name)[0]:
            path = Path(file.path)
            with opened(path, str(path)) as image:
                size, gray = (image.height, image.width), image.mode in GRAY
            if size != (height, width):
                raise ValueError(
                    f"the images of {top.name} are {width}x{height}, but {path} is {size[1]}x{size[0]}; resize or crop "
                    "them to one size: pass --resize and --crop."
                )
            if colour and not gray:
                return
            if not colour and not gray:
                raise ValueError(f"the images of {top.name} are gray, but {path} has colours; convert one of them.")
    if colour and other != top and any(_images_in(other / name)[0] for name in _class_names(other)):
        raise ValueError(f"the images of {top.name} have colours, but those of {other} are gray; convert one of them.")
