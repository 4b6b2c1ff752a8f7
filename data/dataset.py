"""What every reader here returns: uint8 images in one layout, with labels, class names and a fingerprint."""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.data.lazy import NAMES_AND_SIZES, LazyImages

# Shapes: N images, C channels (1 gray, 3 RGB), H W pixels, K classes.

#: The label of images whose class is not known; either all images of a data set have one, or none has.
UNLABELLED = -1
#: The parts of a data set, and how files and folders may spell them.
HALVES: Mapping[str, tuple[str, ...]] = {
    "train": ("train",),
    "test": ("test",),
    "val": ("val", "valid", "validation"),
}
SPELLINGS = tuple(spelling for spellings in HALVES.values() for spelling in spellings)
_SHOWN = 8  # names in a note
_MOST_UNNAMED = 1_000_000  # a damaged label must not become a list of names that fills the memory


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Images and labels of one split, in the order in which indices refer to them.

    Built by ``from_arrays``, which checks; the fields are then taken on trust. Do not write into the arrays:
    ``fingerprint`` is computed once.

    Attributes:
        name: Registry name, or the path that was read.
        split: ``train``, ``test`` or ``val``; ``file`` or ``folder`` for data that has no splits.
        images: uint8 in [0, 255], shape (N, C, H, W), C-contiguous, N >= 1, C in {1, 3}; or what looks like it and
            decodes each image when it is asked for.
        labels: int64 in [0, K), shape (N,); `UNLABELLED` throughout where no class is known.
        classes: The K class names; label k is ``classes[k]``. Empty if the images are unlabelled and nothing says K.
        notes: What a user should know of the files, such as how many were passed over, a sentence each.
    """

    name: str
    split: str
    images: NDArray[np.uint8] | LazyImages
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int:
        """K, the number of classes; 0 if the images are unlabelled and nothing says it."""
        return len(self.classes)

    @property
    def labelled(self) -> bool:
        """Whether the classes of the images are known."""
        return int(self.labels[0]) != UNLABELLED

    @property
    def named(self) -> bool:
        """Whether the classes have other names than their numbers."""
        return self.classes != _numbered(len(self.classes))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hex over the shape, the image bytes and the label bytes.

        Two datasets with equal fingerprints hold the same examples in the same order, whatever file they came from. A
        manifest records it, which fixes the image that an index means. Names are not part of it. Images
        that are decoded when they are asked for have another one; see ``LazyImages.fingerprint``.
        """
        return self.images.fingerprint(self.labels) if isinstance(self.images, LazyImages) else self._pixel_fingerprint

    @cached_property
    def _pixel_fingerprint(self) -> str:
        digest = hashlib.sha256(np.asarray(self.images.shape, dtype="<i8").tobytes())
        if isinstance(self.images, LazyImages):
            for image_CHW in self.images:
                digest.update(image_CHW.reshape(-1).data)
        else:
            digest.update(np.ascontiguousarray(self.images).reshape(-1).data)
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)  # one byte order on every machine
        return digest.hexdigest()

    def described(self, like: object = None) -> dict[str, Any]:
        """What a manifest says of the data.

        Args:
            like: The same section of a manifest that this one will be compared with. One that has the fingerprint of
                all pixels, as every manifest once had, gets that of all pixels; for it all images are read.
        """
        found: dict[str, Any] = {"name": self.name, "split": self.split}
        if not isinstance(self.images, LazyImages):
            return {**found, "fingerprint": self.fingerprint}
        how = self.images.preprocessing
        if how is None and isinstance(like, Mapping) and "fingerprint" in like and "fingerprint_of" not in like:
            return {**found, "fingerprint": self._pixel_fingerprint}
        found |= {"fingerprint": self.fingerprint, "fingerprint_of": NAMES_AND_SIZES}
        return found if how is None else {**found, "preprocessing": how.described()}


def from_arrays(
    images: NDArray[np.generic],
    labels: NDArray[np.generic] | None,
    *,
    source: str,
    name: str,
    split: str,
    classes: Sequence[str] | None = None,
    at_least: int = 0,
    notes: Sequence[str] = (),
) -> Dataset:
    """Check the arrays and bring them into the layout of ``Dataset``.

    Args:
        images: uint8, shape (N, H, W) or (N, H, W, C) with C in {1, 3}.
        labels: Integers >= 0, shape (N,); None or -1 throughout for images whose classes are not known.
        source: The file or folder they were read from, for the error messages.
        name: Goes into ``Dataset.name``.
        split: Goes into ``Dataset.split``.
        classes: Class names; None for "0" .. "K-1" with K the largest label + 1.
        at_least: Number of classes that other parts of the data set have, where they are not named.
        notes: Go into ``Dataset.notes``, before a note on classes without an image.

    Returns:
        The dataset; the arrays are copied only where the layout or dtype asks for it.

    Raises:
        ValueError: If dtype, shape, number or range of images or labels is anything else; the message names
            ``source`` and the change that mends it.
    """
    checked = _to_nchw(images, source)
    return from_images(
        checked, labels, source=source, name=name, split=split, classes=classes, at_least=at_least, notes=notes
    )


def from_images(
    images: NDArray[np.uint8] | LazyImages,
    labels: NDArray[np.generic] | None,
    *,
    source: str,
    name: str,
    split: str,
    classes: Sequence[str] | None = None,
    at_least: int = 0,
    notes: Sequence[str] = (),
) -> Dataset:
    """The same for images that are checked already, (N, C, H, W).

    Raises:
        ValueError: If number or range of labels does not fit.
    """
    if labels is None:
        labels_N = np.full(len(images), UNLABELLED, dtype=np.int64)
    else:
        labels_N = _to_labels(labels, source, len(images))
    top = int(labels_N.max())
    if classes is None:
        most = max(top + 1, at_least)
        if most > _MOST_UNNAMED:
            raise ValueError(
                f"{source}: the largest label is {most - 1}, which would be {most} classes; number the classes from 0 "
                "on."
            )
        classes = _numbered(most)
    if top >= len(classes):
        if top == len(classes) and labels_N.min() == 1:
            raise ValueError(
                f"{source}: the labels count from 1, up to {top} for {len(classes)} classes; save labels - 1."
            )
        raise ValueError(
            f"{source}: the largest label is {top}, but there are only {len(classes)} classes; "
            f"name all {top + 1} classes, or count labels from 0."
        )
    names = tuple(map(str, classes))
    return Dataset(
        name=name,
        split=split,
        images=images,
        labels=labels_N,
        classes=names,
        notes=(*notes, *_without_images(labels_N, names, source)),
    )


def choose_half(present: Collection[str], split: str, source: str) -> tuple[str, str, tuple[str, ...]]:
    """Which part of a data set a split means.

    Args:
        present: The parts that are there, as they are spelled, such as ``train`` and ``valid``.
        split: The one asked for, in any spelling. Without ``test`` the validation images stand for it.
        source: The file or folder, for the messages.

    Returns:
        The part's spelling, its name in `HALVES`, and notes.

    Raises:
        ValueError: If it is not there, or is there under two spellings.
    """
    found: dict[str, str] = {}
    for half, spellings in HALVES.items():
        spelled = [spelling for spelling in spellings if spelling in present]
        if len(spelled) > 1:
            raise ValueError(f"{source} has {' and '.join(spelled)}, which mean the same; keep one of them.")
        found |= dict.fromkeys([half], spelled[0]) if spelled else {}
    asked = next((half for half, spellings in HALVES.items() if split in spellings), split)
    if asked in found:
        return found[asked], asked, ()
    if asked == "test" and "val" in found:
        return found["val"], "val", (f"{source} has no split test; its split {found['val']} is used instead.",)
    raise ValueError(f"{source} has the splits {' and '.join(found.values())}, got split={split!r}.")


def listed(names: Sequence[str]) -> str:
    """Names separated by commas, the first of them where there are many."""
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _numbered(count: int) -> tuple[str, ...]:
    return tuple(map(str, range(count)))


def _without_images(labels_N: NDArray[np.int64], classes: tuple[str, ...], source: str) -> list[str]:
    """A note on classes that no image has, if there are any."""
    if labels_N[0] == UNLABELLED:
        return []
    empty = np.flatnonzero(np.bincount(labels_N, minlength=len(classes)) == 0).tolist()
    if not empty:
        return []
    if empty == [0] and classes == _numbered(len(classes)):
        return [
            f"{source}: no image has the label 0, so class 0 of {len(classes)} stays empty; if the labels count from "
            "1, save labels - 1."
        ]
    names = listed([classes[k] for k in empty])
    return [f"{source}: {len(empty)} of {len(classes)} classes have no image: {names}."]


def _to_nchw(images: NDArray[np.generic], source: str) -> NDArray[np.uint8]:
    if images.dtype != np.uint8:
        raise ValueError(
            f"{source}: images must be uint8 in 0-255, got {images.dtype}; convert floats in [0, 1] with "
            "(images * 255).round().astype('uint8'), and wider integers in 0-255 with images.astype('uint8')."
        )
    if images.ndim not in (3, 4):
        raise ValueError(
            f"{source}: images must have shape (N, H, W) or (N, H, W, C), got {images.shape}; reshape them."
        )
    if images.ndim == 4 and images.shape[-1] not in (1, 3):
        if images.shape[1] in (1, 3):
            raise ValueError(
                f"{source}: images must have the channels last, shape (N, H, W, C), but {images.shape} looks like "
                "(N, C, H, W); save images.transpose(0, 2, 3, 1) instead."
            )
        fix = "; drop the alpha channel with images[..., :3]" if images.shape[-1] == 4 else ""
        raise ValueError(f"{source}: images must have 1 or 3 channels last, got shape {images.shape}{fix}.")
    if images.size == 0:
        raise ValueError(f"{source}: expected at least one image with at least one pixel, got shape {images.shape}.")
    pixels = images.astype(np.uint8, copy=False)  # for the type checker: it is uint8 already
    return np.ascontiguousarray(pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2))


def _to_labels(labels: NDArray[np.generic], source: str, num_images: int) -> NDArray[np.int64]:
    if labels.dtype.kind in "US":
        raise ValueError(
            f"{source}: labels must be integers, got names ({labels.dtype}); number those of all splits together with "
            "names, numbers = numpy.unique(labels, return_inverse=True), and save the numbers as labels and the names "
            "as classes."
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{source}: labels must be integers, got {labels.dtype}; save labels.astype('int64').")
    if labels.ndim != 1:
        raise ValueError(
            f"{source}: labels must have shape (N,), got {labels.shape}; save labels.ravel() if they are one column, "
            "labels.argmax(1) if they are one-hot."
        )
    if len(labels) != num_images:
        raise ValueError(f"{source}: expected one label per image, got {num_images} images and {len(labels)} labels.")
    labels_N = np.ascontiguousarray(labels, dtype=np.int64)
    if labels_N.min() < 0 and not (labels_N == UNLABELLED).all():
        raise ValueError(
            f"{source}: labels must be 0 or more, got {labels_N.min()} at index {labels_N.argmin()}; "
            f"number the classes from 0, and leave unlabelled images out, or give all images the label {UNLABELLED}."
        )
    return labels_N
