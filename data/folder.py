"""A folder of images in one folder per class, read with Pillow."""

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from data.bounded import most_unpacked
from data.dataset import Dataset, from_arrays

# The formats of these names and no others: for EPS, whatever the file is called, Pillow starts Ghostscript.
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM")
_MOST_PIXELS = 4096 * 4096  # of one image; no classifier here takes more
EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_SPLITS = ("train", "test")


def read(folder: Path, split: str, *, name: str | None = None) -> Dataset:
    """Read every image of a folder, classes and files in the order of their sorted names.

    Args:
        folder: Holds one folder per class, or ``train`` and ``test`` with one folder per class each.
        split: Which of ``train`` and ``test``; ignored without them, and the split is then recorded as ``folder``.
        name: Goes into ``Dataset.name``; None for the path.

    Returns:
        The dataset: images of shape (N, 1, H, W) if every one is grayscale, else (N, 3, H, W). Pixels are taken as
        stored: nothing is resized, and rotation tags of cameras are left alone.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If there are no class folders, a class is empty, ``train`` and ``test`` differ in their classes,
            or an image is damaged, has another size, more than 8 bits or transparent pixels.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; give a folder with one folder of images per class.")
    top, recorded = _choose_split(folder, split)
    classes = _class_names(top)
    if not classes:
        raise ValueError(f"{top}: no class folders; put the images of each class into a folder named for the class.")
    paths, labels = [], []
    for k, class_name in enumerate(classes):
        files = sorted(path for path in (top / class_name).iterdir() if path.suffix.lower() in EXTENSIONS)
        if not files:
            raise ValueError(
                f"{top / class_name}: no images in this class; add some ({' '.join(EXTENSIONS)}, directly in it) "
                "or remove the folder."
            )
        paths += files
        labels += [k] * len(files)
    return from_arrays(
        _stack(paths),
        np.array(labels, dtype=np.int64),
        source=str(top),
        name=str(folder) if name is None else name,
        split=recorded,
        classes=classes,
    )


def _choose_split(folder: Path, split: str) -> tuple[Path, str]:
    present = {name: _class_names(folder / name) for name in _SPLITS if (folder / name).is_dir()}
    present = {name: classes for name, classes in present.items() if classes}
    if not present:
        return folder, "folder"
    if split not in present:
        raise ValueError(f"{folder} has the splits {' and '.join(present)}, got split={split!r}.")
    if len(present) == 2 and present["train"] != present["test"]:
        # Labels are positions in the sorted names: a class missing on one side would shift all that follow.
        different = sorted(set(present["train"]) ^ set(present["test"]))
        raise ValueError(
            f"{folder}: train and test must have the same class folders; {', '.join(different)} in only one."
        )
    return folder / split, split


def _class_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


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
    return image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
