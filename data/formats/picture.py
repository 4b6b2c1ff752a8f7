"""One encoded image, read with Pillow: which formats, which colours, and what is refused.

Modes of 8 bits or fewer are taken: palette, CMYK, YCbCr and RGB become RGB by Pillow's conversion, without colour
profiles; black and white and gray become gray. More bits and transparent pixels are refused, since no conversion is the
right one for all. Of several frames the first one counts.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maxup_smoothing.data.preprocessing import Preprocessing, Refused, turned

# Shapes: C channels, H W pixels.

# The formats of these names and no others: for EPS, whatever the file is called, Pillow starts Ghostscript.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM")
EXTENSIONS = (
    ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm",
)  # fmt: skip
#: Pillow's modes without colours.
GRAY = ("1", "L", "LA")
_MOST_PIXELS = 4096 * 4096  # of an image that is taken as it is; Pillow's own limit holds for one that is made smaller


def is_image(path: Path) -> bool:
    """Whether a file's name says that it is an image."""
    return path.suffix.lower() in EXTENSIONS


@contextmanager
def opened(stream: Path | BinaryIO, name: str) -> Iterator[Image.Image]:
    """A picture whose header is read and whose pixels are not; errors within the block become one line with its name.

    Args:
        stream: The encoded image.
        name: For messages.

    Raises:
        ValueError: If it is damaged, cut off, of another format, or has more pixels than Pillow takes for harmless.
    """
    if isinstance(stream, Path) and not stream.is_file():
        raise Refused(f"{name}: no regular file; replace or remove it.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, which are not used
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(stream, formats=FORMATS) as image:
                yield image
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise Refused(f"{name}: the image is suspiciously large ({error}); make it smaller first.") from error
    except Refused:
        raise
    except Exception as error:  # Pillow's plugins fail in whatever way the damage asks for
        raise Refused(f"{name}: not a readable image ({str(error)[:200]}); replace or remove it.") from error


def stored_pixels(image: Image.Image, name: str) -> NDArray[np.uint8]:
    """The pixels as they are stored, uint8, (H, W) if the picture is gray, else (H, W, 3)."""
    if image.width * image.height > _MOST_PIXELS:
        raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels")
    image.load()
    return np.asarray(eight_bit(image, name))


def prepared_pixels(image: Image.Image, name: str, preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """The pixels that preprocessing makes of a picture, uint8, (C, side, side)."""
    image.load()
    return preprocessing.apply(coloured(turned(image), name, gray=preprocessing.grayscale), name)


def coloured(image: Image.Image, name: str, *, gray: bool) -> Image.Image:
    """A loaded picture in RGB, or in gray.

    Raises:
        ValueError: As `eight_bit`.
    """
    return _in_mode(eight_bit(image, name), "L" if gray else "RGB")


def eight_bit(image: Image.Image, name: str) -> Image.Image:
    """A loaded picture in mode L if it is gray, else in RGB.

    Raises:
        ValueError: If it has more than 8 bits a channel, or transparent pixels.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        raise Refused(f"{name}: expected 8 bits per channel, got mode {image.mode}; convert it to 8 bits first.")
    if image.has_transparency_data:
        lowest_alpha = image.convert("RGBA").getchannel("A").getextrema()[0]
        if lowest_alpha != 255:
            raise Refused(f"{name}: has transparent pixels; flatten it onto a background first.")
    return _in_mode(image, "L" if image.mode in GRAY else "RGB")


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)  # which would copy it
