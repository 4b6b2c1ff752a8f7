"""Images that are decoded when they are asked for, so that a run opens no file but those that it uses."""

# Shapes: N images, C channels (1 gray, 3 RGB), H W pixels.

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maxup_smoothing.data.formats.picture import GRAY, opened, prepared_pixels, stored_pixels
from maxup_smoothing.data.preprocessing import Preprocessing
from maxup_smoothing.data.runtime.untrusted import most_unpacked

#: What the fingerprint of images that were not all read is made of, as a manifest says it.
NAMES_AND_SIZES = "names and sizes of files"
#: Bytes of pixels beyond which images that are taken as stored are decoded one by one, where a caller can do with that.
LARGE = 256 * 2**20
_CACHE = 32_000_000  # bytes of decoded images that are kept: those that checks look at several times
_RULE = 1  # counts changes of how a picture becomes pixels


class Source(Protocol):
    """Where encoded images are: files, rows of a table, or an array."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def name(self, index: int) -> str:
        """What a message calls an image."""
        ...

    @property
    def packed(self) -> int:
        """Bytes of all of them, as they are encoded."""
        ...

    def opened(self, index: int) -> AbstractContextManager[Image.Image]:
        """An image whose pixels are not decoded yet; errors in the block become a ``ValueError`` with its name."""
        ...

    def described(self) -> Iterator[bytes]:
        """What tells these images from others without reading them all."""
        ...


@dataclass(frozen=True)
class Files:
    """Image files, by their paths below a folder.

    Attributes:
        root: The folder.
        names: Relative to it, with slashes.
        sizes: Bytes of each file; -1 where there is none.
    """

    root: Path
    names: Sequence[str]
    sizes: Sequence[int]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.names)

    @property
    def packed(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes)

    def name(self, index: int) -> str:
        """The path."""
        return str(self.root / self.names[index])

    def opened(self, index: int) -> AbstractContextManager[Image.Image]:
        """See `Source`."""
        path = self.root / self.names[index]
        return opened(path, str(path))

    def described(self) -> Iterator[bytes]:
        """Size and relative name of each."""
        for name, size in zip(self.names, self.sizes, strict=True):
            yield f"{size} {name}\n".encode("utf-8", "surrogateescape")


@dataclass(frozen=True)
class Stored:
    """Images of one size that are in memory, to be resized and cropped one at a time.

    Attributes:
        images: uint8, (N, C, H, W).
        source: What a message calls them.
        fingerprint: Of the data set they are from.
    """

    images: NDArray[np.uint8]
    source: str
    fingerprint: str

    def __len__(self) -> int:
        """How many there are."""
        return len(self.images)

    @property
    def packed(self) -> int:
        """Bytes of the array."""
        return self.images.nbytes

    def name(self, index: int) -> str:
        """The data set and the number."""
        return f"{self.source}, image {index}"

    @contextmanager
    def opened(self, index: int) -> Iterator[Image.Image]:
        """See `Source`."""
        image_CHW = self.images[index]
        yield Image.fromarray(image_CHW[0] if len(image_CHW) == 1 else image_CHW.transpose(1, 2, 0))

    def described(self) -> Iterator[bytes]:
        """The fingerprint of the images as stored."""
        yield self.fingerprint.encode()


class LazyImages:
    """What looks like a uint8 array (N, C, H, W) and decodes the images that are asked for.

    Indexing by a number gives (C, H, W), by a slice or a sequence of numbers (M, C, H, W). ``np.asarray`` decodes all.

    Args:
        source: The encoded images, at least one.
        preprocessing: None for pixels as stored: then all images must have the size of the first.
        expected: Digests that images must have, by index; see ``digests``.

    Raises:
        ValueError: If the first image cannot be read, and without preprocessing all are gray and one cannot be.

    Attributes:
        shape: (N, C, H, W).
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self, source: Source, preprocessing: Preprocessing | None, expected: Mapping[int, str] | None = None
    ) -> None:
        self.source, self.preprocessing, self._expected = source, preprocessing, dict(expected or {})
        self._cache: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()
        self._cached = 0
        self.shape: tuple[int, int, int, int] = (len(source), *self._image_shape())

    def __len__(self) -> int:
        """N."""
        return len(self.source)

    def __getitem__(self, index: Any) -> NDArray[np.uint8]:
        """One image, or several stacked.

        Raises:
            ValueError: If one cannot be read, or is not the one that was recorded; the message names it.
            IndexError: If there is none of that number.
        """
        if isinstance(index, int | np.integer):
            return self._one(range(len(self))[index]).copy()
        numbers = range(len(self))[index] if isinstance(index, slice) else _numbers(index, len(self))
        out = np.empty((len(numbers), *self.shape[1:]), dtype=np.uint8)
        for place, number in enumerate(numbers):
            out[place] = self._one(number)
        return out

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """One image after another."""
        return (self[index] for index in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """All of them, decoded."""
        return self[:] if dtype is None else self[:].astype(dtype)

    def expecting(self, digests: Mapping[int, str]) -> "LazyImages":
        """The same images; those that have other digests are refused from now on.

        Args:
            digests: By index, as ``digests`` gives them.
        """
        return LazyImages(self.source, self.preprocessing, {**self._expected, **digests})

    def digests(self, indices: Iterable[int]) -> dict[int, str]:
        """64 bits of the SHA-256 of each image's shape and pixels, in hex, by its index.

        Raises:
            ValueError: If one cannot be read; the message names it.
        """
        return {index: _digest(self._one(index)) for index in indices}

    def fingerprint(self, labels: NDArray[np.int64]) -> str:
        """SHA-256 in hex over preprocessing, names, sizes and labels: what can be told without reading the images.

        Args:
            labels: Shape (N,).
        """
        how = {} if self.preprocessing is None else self.preprocessing.described()
        digest = hashlib.sha256(json.dumps([NAMES_AND_SIZES, _RULE, how, list(self.shape)]).encode())
        for part in self.source.described():
            digest.update(part)
        digest.update(np.ascontiguousarray(labels, dtype="<i8").data)
        return digest.hexdigest()

    def _one(self, index: int) -> NDArray[np.uint8]:
        if (kept := self._cache.get(index)) is not None:
            self._cache.move_to_end(index)
            return kept
        name = self.source.name(index)
        with self.source.opened(index) as image:
            if self.preprocessing is not None:
                pixels = prepared_pixels(image, name, self.preprocessing)
            else:
                pixels = stored_pixels(image, name)
        if self.preprocessing is None:
            pixels = self._as_first(pixels, name)
        if (wanted := self._expected.get(index)) is not None and _digest(pixels) != wanted:
            raise ValueError(
                f"{name} has other pixels than the image {index} that was certified: it was replaced, or this Pillow "
                "decodes it otherwise. Put the file back, or write a new table with --out."
            )
        self._cache[index] = pixels
        self._cached += pixels.nbytes
        while self._cached > _CACHE:
            self._cached -= self._cache.popitem(last=False)[1].nbytes
        return pixels

    def _image_shape(self) -> tuple[int, int, int]:
        if self.preprocessing is not None:
            return 1 if self.preprocessing.grayscale else 3, self.preprocessing.side, self.preprocessing.side
        with self.source.opened(0) as image:
            height, width = image.height, image.width
        # As where all are read: one with colours makes all of them RGB. The first one tells, unless it is gray.
        for index in range(len(self)):
            with self.source.opened(index) as image:
                if image.mode not in GRAY:
                    return 3, height, width
        return 1, height, width

    def _as_first(self, pixels: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
        if pixels.shape[:2] != self.shape[2:]:
            raise ValueError(_unlike(self.shape[2:], self.source.name(0), pixels.shape, name))
        if pixels.ndim == 2:
            return np.repeat(pixels[None], self.shape[1], axis=0)
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def images_of(
    source: Source, preprocessing: Preprocessing | None, *, lazy: bool = False
) -> NDArray[np.uint8] | LazyImages:
    """The images of a source, each decoded when it is asked for, or all of them now.

    Args:
        source: At least one image.
        preprocessing: Makes them alike, when they are asked for. Without it they must be alike.
        lazy: Without preprocessing, decode images that take more than `LARGE` when they are asked for, too.

    Raises:
        ValueError: If they have different sizes, or one cannot be read; the message names it.
    """
    if preprocessing is not None:
        return LazyImages(source, preprocessing)
    if lazy:
        with source.opened(0) as image:
            if len(source) * 3 * image.width * image.height > LARGE:
                return LazyImages(source, None)
    return _stacked(source)


def _stacked(source: Source) -> NDArray[np.uint8]:
    """All images as uint8 (N, 1, H, W) if every one is grayscale, else (N, 3, H, W)."""
    most, taken = most_unpacked(source.packed), 0
    images = list[NDArray[np.uint8]]()
    for index in range(len(source)):
        name = source.name(index)
        with source.opened(index) as image:
            images.append(stored_pixels(image, name))
        taken += images[-1].size
        if taken > most:
            raise ValueError(
                f"{name}: the images up to this one unpack to more than {most:,} bytes, 100 times the files."
            )
        if images[-1].shape[:2] != images[0].shape[:2]:
            raise ValueError(_unlike(images[0].shape, source.name(0), images[-1].shape, name))
    if any(image.ndim == 3 for image in images):
        images = [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in images]
        return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))
    return np.stack(images)[:, None]


def _unlike(first: Sequence[int], first_name: str, other: Sequence[int], name: str) -> str:
    """That two images have different sizes; shapes (H, W) or (H, W, C)."""
    return (
        f"images must all have one size, got {first[1]}x{first[0]} in {first_name} and {other[1]}x{other[0]} in "
        f"{name}; resize or crop them to one size: pass --resize and --crop, such as --resize 256 --crop 224 (in the "
        "configuration of a training: resize = 256, crop = 224)."
    )


def _numbers(index: Sequence[int] | NDArray[Any], total: int) -> list[int]:
    """Numbers of images, counted from 0."""
    array = np.asarray(index)
    if array.dtype == bool and array.shape == (total,):
        return np.flatnonzero(array).tolist()
    if isinstance(index, tuple) or array.ndim != 1 or not (array.size == 0 or np.issubdtype(array.dtype, np.integer)):
        raise TypeError(f"images are indexed by a number, a slice, or a sequence of numbers, got {str(index)[:50]}.")
    return [range(total)[int(number)] for number in array]


def _digest(pixels: NDArray[np.uint8]) -> str:
    shape = np.asarray(pixels.shape, dtype="<i8").tobytes()
    return hashlib.sha256(shape + pixels.tobytes()).hexdigest()[:16]
