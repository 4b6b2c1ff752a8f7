"""How a picture of any size becomes the pixels that a network takes: a rule that is part of a data set's definition.

The picture is turned as its rotation tag says, its colours become RGB (or gray), its shorter side is resized, and the
centre is cut out. All of it is Pillow's integer arithmetic, with a filter that is named, so that pixels are the same
on every machine.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Shapes: C channels (1 gray, 3 RGB), H W pixels.

#: Filters by the names that other projects use, too.
INTERPOLATIONS: Mapping[str, Image.Resampling] = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
_LARGEST = 4096  # pixels of a side; no classifier here takes more
_LONGEST = 16384  # pixels of the longer side while it is resized: a strip of 1x10,000 pixels must not fill the memory


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Resize, then cut out the centre.

    Attributes:
        resize: Pixels of the shorter side, in [1, 4096]; the longer one keeps the proportion, rounded down. None leaves
            the size as it is.
        crop: Pixels of the square that is cut out of the centre, at most ``resize``. None for ``resize``.
        interpolation: A name in `INTERPOLATIONS`.
        grayscale: One channel instead of three.

    Raises:
        ValueError: If a value is out of its range, or neither ``resize`` nor ``crop`` is given.
    """

    resize: int | None = None
    crop: int | None = None
    interpolation: str = "bilinear"
    grayscale: bool = False

    def __post_init__(self) -> None:
        for name, value in (("resize", self.resize), ("crop", self.crop)):
            if value is not None and (type(value) is not int or not 1 <= value <= _LARGEST):
                raise ValueError(f"{name} must be a whole number of pixels from 1 to {_LARGEST}, got {value!r}.")
        if self.interpolation not in INTERPOLATIONS:
            raise ValueError(
                f"interpolation must be one of {', '.join(INTERPOLATIONS)}, got {str(self.interpolation)[:50]!r}."
            )
        if self.resize is None and self.crop is None:
            raise ValueError("images of any size need resize or crop, such as resize 256 and crop 224; got neither.")
        if self.resize is not None and self.crop is not None and self.crop > self.resize:
            raise ValueError(
                f"crop must be at most resize, the shorter side, got crop {self.crop} and resize {self.resize}."
            )

    @property
    def side(self) -> int:
        """Pixels of each side of the result."""
        side = self.crop or self.resize
        assert side is not None, "one of them is given"
        return side

    def described(self) -> dict[str, Any]:
        """For a manifest."""
        return {**asdict(self), "crop": self.side}

    def __str__(self) -> str:
        """In words, for a message before a run."""
        first = f"shorter side resized to {self.resize} ({self.interpolation}), " if self.resize else ""
        return f"{first}centre of {self.side}x{self.side} pixels, {'gray' if self.grayscale else 'RGB'}"

    def apply(self, image: Image.Image, name: str) -> NDArray[np.uint8]:
        """The pixels of a picture.

        Args:
            image: Loaded, of mode L or RGB, already turned; see ``formats.picture``.
            name: For messages.

        Returns:
            uint8, shape (C, side, side), C as the picture's mode has.

        Raises:
            ValueError: If it is smaller than ``crop`` without being resized, or far too long.
        """
        side = self.side
        if self.resize is not None:
            image = image.resize(self._size(image, name), INTERPOLATIONS[self.interpolation])
        elif min(image.size) < side:
            raise Refused(
                f"{name}: the image is {image.width}x{image.height}, smaller than the crop of {side}; pass --resize "
                f"{side} or larger, too."
            )
        # Rounded as torchvision does it.
        left, top = round((image.width - side) / 2), round((image.height - side) / 2)
        pixels = np.asarray(image.crop((left, top, left + side, top + side)), dtype=np.uint8)
        return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))

    def _size(self, image: Image.Image, name: str) -> tuple[int, int]:
        assert self.resize is not None, "asked before"
        short, long = sorted(image.size)
        longer = self.resize * long // short
        if longer > max(_LONGEST, long):
            raise Refused(f"{name}: the image of {image.width}x{image.height} is far too long to be resized; crop it.")
        return (self.resize, longer) if image.width <= image.height else (longer, self.resize)


class Refused(ValueError):
    """A whole image that is not taken as it is."""


def recorded(described: object, source: str) -> Preprocessing | None:
    """What a manifest or a configuration has recorded; None if it has nothing.

    Args:
        described: As ``Preprocessing.described`` gives it.
        source: For messages.

    Raises:
        ValueError: If it is anything else.
    """
    if described is None:
        return None
    names = Preprocessing.__dataclass_fields__
    if not isinstance(described, Mapping) or (strange := [name for name in described if name not in names]):
        told = f"the key {strange[0]!r}" if isinstance(described, Mapping) else repr(described)[:50]
        raise ValueError(f"{source}: preprocessing must have the keys {', '.join(names)}, got {told}.")
    if type(described.get("grayscale", False)) is not bool:
        raise ValueError(f"{source}: grayscale must be true or false, got {described['grayscale']!r}.")
    try:
        return Preprocessing(**described)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


_ORIENTATION = 0x0112  # the rotation tag
_TURNS: Mapping[int, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def turn(image: Image.Image) -> Image.Transpose | None:
    """What the rotation tag of an image (EXIF) says how it is to be looked at; None for as it is stored."""
    return _TURNS.get(image.getexif().get(_ORIENTATION, 1))


def exchanges_sides(turn: Image.Transpose | None) -> bool:
    """Whether width and height change places."""
    return turn in list(_TURNS.values())[3:]


def turned(image: Image.Image) -> Image.Image:
    """A picture as its rotation tag says that it is to be looked at."""
    how = turn(image)
    return image if how is None else image.transpose(how)
