"""Folders of pictures as people have them: many sizes, formats, colours and rotation tags."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CLASSES = ("cat", "dog")


def photograph(seed: int, width: int, height: int) -> Image.Image:
    """A smooth picture with colours, another one for each seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def save(path: Path, image: Image.Image, rotation: int = 1) -> Path:
    """Write a picture; the ending says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if rotation == 1:
        image.save(path)
    else:
        exif = image.getexif()
        exif[0x0112] = rotation
        image.save(path, exif=exif)
    return path


def zoo(folder: Path) -> Path:
    """A dozen pictures of two classes: JPEG, PNG, WebP, gray, CMYK, palette, wide, tall and rotated ones."""
    save(folder / "cat" / "01.jpg", photograph(1, 60, 40))
    save(folder / "cat" / "02.png", photograph(2, 41, 67))
    save(folder / "cat" / "03.webp", photograph(3, 50, 50))
    save(folder / "cat" / "04.jpg", photograph(4, 64, 48).convert("L"))
    save(folder / "cat" / "05.jpg", photograph(5, 64, 48).convert("CMYK"))
    save(folder / "cat" / "06.jpg", photograph(6, 64, 48), rotation=6)
    save(folder / "dog" / "01.png", photograph(7, 70, 33).quantize(64))
    save(folder / "dog" / "02.jpg", photograph(8, 33, 90), rotation=3)
    save(folder / "dog" / "03.bmp", photograph(9, 36, 35))
    save(folder / "dog" / "04.tif", photograph(10, 128, 96))
    save(folder / "dog" / "05.png", photograph(11, 48, 64).convert("RGBA"))
    save(folder / "dog" / "06.webp", photograph(12, 90, 30), rotation=8)
    return folder


def of_arrays(folder: Path, images_NHWC: NDArray[np.uint8], labels_N: NDArray[np.int64], seed: int = 0) -> Path:
    """Images as JPEGs of random sizes, one folder per class."""
    rng = np.random.default_rng(seed)
    for number, (image, label) in enumerate(zip(images_NHWC, labels_N, strict=True)):
        picture = Image.fromarray(image).resize(tuple(rng.integers(32, 80, 2).tolist()), Image.Resampling.BICUBIC)
        save(folder / str(label) / f"{number:05}.jpg", picture)
    return folder
