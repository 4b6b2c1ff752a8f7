"""What every reader here returns: uint8 images in one layout, with labels, class names and a fingerprint."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

# Shapes: N images, C channels (1 gray, 3 RGB), H W pixels, K classes.


_MOST_UNNAMED = 1_000_000  # a damaged label must not become a list of names that fills the memory


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Images and labels of one split, in the order in which indices refer to them.

    Built by ``from_arrays``, which checks; the fields are then taken on trust. Do not write into the arrays:
    ``fingerprint`` is computed once.

    Attributes:
        name: Registry name, or the path that was read.
        split: ``train`` or ``test``; ``file`` or ``folder`` for data that has no splits.
        images: uint8 in [0, 255], shape (N, C, H, W), C-contiguous, N >= 1, C in {1, 3}.
        labels: int64 in [0, K), shape (N,).
        classes: The K class names; label k is ``classes[k]``.
    """

    name: str
    split: str
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.classes)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 in hex over the shape, the image bytes and the label bytes.

        Two datasets with equal fingerprints hold the same examples in the same order, whatever file they came from,
        so a certification manifest that records it says what an index refers to. Names are not part of it.
        """
        digest = hashlib.sha256(np.asarray(self.images.shape, dtype="<i8").tobytes())
        digest.update(np.ascontiguousarray(self.images).reshape(-1).data)
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)  # one byte order on every machine
        return digest.hexdigest()


def from_arrays(
    images: NDArray[np.generic],
    labels: NDArray[np.generic],
    *,
    source: str,
    name: str,
    split: str,
    classes: Sequence[str] | None = None,
) -> Dataset:
    """Check the arrays and bring them into the layout of ``Dataset``.

    Args:
        images: uint8, shape (N, H, W) or (N, H, W, C) with C in {1, 3}.
        labels: Integers >= 0, shape (N,).
        source: The file or folder they were read from, for the error messages.
        name: Goes into ``Dataset.name``.
        split: Goes into ``Dataset.split``.
        classes: Class names; None for "0" .. "K-1" with K the largest label + 1.

    Returns:
        The dataset; the arrays are copied only where the layout or dtype asks for it.

    Raises:
        ValueError: If dtype, shape, number or range of images or labels is anything else; the message names
            ``source`` and the change that mends it.
    """
    images_NCHW = _to_nchw(images, source)
    labels_N = _to_labels(labels, source, len(images_NCHW))
    top = int(labels_N.max())
    if classes is None:
        if top >= _MOST_UNNAMED:
            raise ValueError(
                f"{source}: the largest label is {top}, which would be {top + 1} classes; number the classes from 0 on."
            )
        classes = [str(k) for k in range(top + 1)]
    if top >= len(classes):
        raise ValueError(
            f"{source}: the largest label is {top}, but there are only {len(classes)} classes; "
            f"name all {top + 1} classes, or count labels from 0."
        )
    return Dataset(name=name, split=split, images=images_NCHW, labels=labels_N, classes=tuple(map(str, classes)))


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
        raise ValueError(f"{source}: images must have 1 or 3 channels last, got shape {images.shape}.")
    if images.size == 0:
        raise ValueError(f"{source}: expected at least one image with at least one pixel, got shape {images.shape}.")
    pixels = images.astype(np.uint8, copy=False)  # for the type checker: it is uint8 already
    return np.ascontiguousarray(pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2))


def _to_labels(labels: NDArray[np.generic], source: str, num_images: int) -> NDArray[np.int64]:
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
    if labels_N.min() < 0:
        raise ValueError(
            f"{source}: labels must be 0 or more, got {labels_N.min()} at index {labels_N.argmin()}; "
            "number the classes from 0 and leave unlabelled images out."
        )
    return labels_N
