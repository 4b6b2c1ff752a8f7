"""A folder of images in one folder per class, or of images without classes, read with Pillow."""

import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maxup_smoothing.data.dataset import SPELLINGS, Dataset, choose_half, from_arrays, listed
from maxup_smoothing.data.runtime.untrusted import most_unpacked

# The formats of these names and no others: for EPS, whatever the file is called, Pillow starts Ghostscript.
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM")
_MOST_PIXELS = 4096 * 4096  # of one image; no classifier here takes more
EXTENSIONS = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
_GRAY = ("1", "L", "LA")  # Pillow's modes
# What systems leave in folders; macOS adds ._x.png to x.png in archives.
_SYSTEM_FILES, _SYSTEM_FOLDERS = (".ds_store", "thumbs.db", "desktop.ini"), ("__macosx", "@eadir")


def read(folder: Path, split: str, *, name: str | None = None) -> Dataset:
    """Read every image of a folder, classes and files in the order of their sorted names.

    Folders whose names are all whole numbers come in the order of these. An empty folder is a class without an image.

    Args:
        folder: Holds one folder per class; or ``train``, ``test`` and ``val`` with one folder per class each; or
            images alone, whose classes are then not known, as may one of the splits.
        split: Which of ``train``, ``test`` and ``val``; ignored without them, and the split is then recorded as
            ``folder``.
        name: Goes into ``Dataset.name``; None for the path.

    Returns:
        The dataset: images of shape (N, 1, H, W) if every one is grayscale, else (N, 3, H, W). Pixels are taken as
        stored: nothing is resized, and rotation tags of cameras are left alone. Its notes count the files that were
        passed over.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are no images, a class has files and no image among them, the splits differ in their
            classes, or an image is damaged, has another size, more than 8 bits or transparent pixels. For ``train``
            also if the images of another split have another size or other channels.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; give a folder with one folder of images per class.")
    top, recorded, known, notes = _choose_split(folder, split)
    classes = _class_names(top)
    loose, passed_loose = _images_in(top, inside=False)
    if not classes and not loose:
        raise ValueError(
            f"{top}: no class folders and no images; put the images of each class into a folder named for the class."
        )
    paths, labels, passed = list[Path](), list[int](), dict[str, Counter[str]]()
    for k, class_name in enumerate(classes):
        files, passed[class_name] = _images_in(top / class_name)
        if not files and passed[class_name].total():
            raise ValueError(
                f"{top / class_name}: no images in this class, only {_reasons(passed[class_name])}; add images "
                f"({' '.join(EXTENSIONS)}, directly in it) or remove the folder."
            )
        paths += files
        labels += [k] * len(files)
    if classes and not paths:
        raise ValueError(f"{top}: all {len(classes)} class folders are empty; put the images of each class into its.")
    if classes:
        passed["beside the class folders"] = Counter({"images": len(loose)})
    else:
        paths, passed = loose, {top.name: passed_loose}
    images = _stack(paths)
    if recorded == "train":
        for other in _halves(folder):
            _require_alike(images, top, folder / other)
    return from_arrays(
        images,
        np.array(labels, dtype=np.int64) if classes else None,
        source=str(top),
        name=str(folder) if name is None else name,
        split=recorded,
        classes=classes or known,
        notes=[*notes, *_order_note(top, classes), *_passed_note(top, passed)],
    )


def read_file(path: Path, *, name: str | None = None) -> Dataset:
    """One image, whose class is not known; see `read`."""
    return from_arrays(_stack([path]), None, source=str(path), name=str(path) if name is None else name, split="file")


def is_image(path: Path) -> bool:
    """Whether a file's name says that it is an image."""
    return path.suffix.lower() in EXTENSIONS


def _choose_split(folder: Path, split: str) -> tuple[Path, str, list[str] | None, tuple[str, ...]]:
    """Where the images are, the split's name, the classes that another split tells of unlabelled images, and notes."""
    present = _halves(folder)
    if not present:
        return folder, "folder", None, ()
    others = [name for name in SPELLINGS if name not in present and (folder / name).is_dir()]
    unlabelled = [name for name in others if _images_in(folder / name, inside=False)[0]]
    spelled, recorded, notes = choose_half([*present, *unlabelled], split, str(folder))
    if spelled in unlabelled:
        return folder / spelled, recorded, next(iter(present.values())), notes
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


def _images_in(folder: Path, *, inside: bool = True) -> tuple[list[Path], Counter[str]]:
    """The images directly in a folder, by name, and how many other files there are, by the reason.

    Images in folders ``inside`` it are counted, too.
    """
    images, passed = [], Counter[str]()
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            if inside and path.name.lower() not in _SYSTEM_FOLDERS:
                below = sum(is_image(Path(name)) for _, _, names in os.walk(path) for name in names)
                passed += Counter({"in folders inside it": below})
        elif path.name.lower() in _SYSTEM_FILES or path.name.startswith("._"):
            passed["of the operating system"] += 1
        elif path.name.startswith("."):
            passed["hidden"] += 1
        elif not is_image(path):
            passed[f"with the ending {path.suffix.lower()}" if path.suffix else "without an ending"] += 1
        else:
            images.append(path)
    return images, passed


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


def _require_alike(images: NDArray[np.uint8], top: Path, other: Path) -> None:
    """Refuse another part of the data set whose images a classifier of these images could not take."""
    colour = images.ndim == 4
    for class_name in _class_names(other) if other != top else ():
        for path in _images_in(other / class_name)[0]:
            try:
                with Image.open(path, formats=_FORMATS) as image:
                    size, gray = (image.height, image.width), image.mode in _GRAY
            except Exception as error:  # as in `_read_image`
                raise ValueError(f"{path}: not a readable image ({str(error)[:200]}); replace or remove it.") from error
            if size != images.shape[1:3]:
                raise ValueError(
                    f"the images of {top.name} are {images.shape[2]}x{images.shape[1]}, but {path} is "
                    f"{size[1]}x{size[0]}; resize or crop them to one size first."
                )
            if colour and not gray:
                return
            if not colour and not gray:
                raise ValueError(f"the images of {top.name} are gray, but {path} has colours; convert one of them.")
    if colour and other != top and any(_images_in(other / name)[0] for name in _class_names(other)):
        raise ValueError(f"the images of {top.name} have colours, but those of {other} are gray; convert one of them.")


def _stack(paths: list[Path]) -> NDArray[np.uint8]:
    """All images as uint8 (N, H, W) if every one is grayscale, else (N, H, W, 3)."""
    most, taken = most_unpacked(sum(path.stat().st_size for path in paths)), 0
    images = []
    for path in paths:
        images.append(_read_image(path))
        taken += images[-1].size
        if taken > most:
            raise ValueError(
                f"{path}: the images up to this one unpack to more than {most:,} bytes, 100 times the files."
            )
        if images[-1].shape[:2] != images[0].shape[:2]:
            break
    for path, image in zip(paths, images, strict=False):
        if image.shape[:2] != images[0].shape[:2]:
            sizes = [f"{shape[1]}x{shape[0]}" for shape in (images[0].shape, image.shape)]
            raise ValueError(
                f"images must all have one size, got {sizes[0]} in {paths[0]} and {sizes[1]} in {path}; "
                "resize or crop them to one size first."
            )
    if any(image.ndim == 3 for image in images):
        images = [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in images]
    return np.stack(images)


def _read_image(path: Path) -> NDArray[np.uint8]:
    """One image as uint8, (H, W) if it is grayscale, else (H, W, 3)."""
    if not path.is_file():
        raise ValueError(f"{path}: no regular file; replace or remove it.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, which are not used
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as image:
                if image.width * image.height > _MOST_PIXELS:
                    raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels")
                image.load()
                return np.asarray(_to_8_bit(image, path))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: the image is suspiciously large ({error}); make it smaller first.") from error
    except _RefusedError:
        raise
    except Exception as error:  # Pillow's plugins fail in whatever way the damage asks for
        raise ValueError(f"{path}: not a readable image ({str(error)[:200]}); replace or remove it.") from error


class _RefusedError(ValueError):
    """A whole image that is not taken as it is."""


def _to_8_bit(image: Image.Image, path: Path) -> Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        raise _RefusedError(f"{path}: expected 8 bits per channel, got mode {image.mode}; convert it to 8 bits first.")
    if image.has_transparency_data:
        lowest_alpha = image.convert("RGBA").getchannel("A").getextrema()[0]
        if lowest_alpha != 255:
            raise _RefusedError(f"{path}: has transparent pixels; flatten it onto a background first.")
    return image.convert("L" if image.mode in _GRAY else "RGB")
