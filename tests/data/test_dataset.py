"""Datasets: one layout, checked once, with a fingerprint of the content."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from maxup_smoothing.data.dataset import Dataset, from_arrays

IMAGES_NHWC = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
LABELS = np.array([1, 0])


def build(
    images: NDArray[Any] = IMAGES_NHWC, labels: NDArray[Any] = LABELS, classes: Sequence[str] | None = None
) -> Dataset:
    return from_arrays(images, labels, source="here.npz", name="n", split="train", classes=classes)


def test_channels_last_becomes_contiguous_channels_first() -> None:
    dataset = build()
    assert dataset.images.shape == (2, 3, 4, 5)
    assert isinstance(dataset.images, np.ndarray)
    assert dataset.images.flags.c_contiguous
    for c in range(3):
        np.testing.assert_array_equal(dataset.images[:, c], IMAGES_NHWC[..., c])


def test_images_without_a_channel_axis_get_one() -> None:
    gray = IMAGES_NHWC[..., 0]
    dataset = build(gray)
    assert dataset.images.shape == (2, 1, 4, 5)
    np.testing.assert_array_equal(dataset.images[:, 0], gray)


def test_labels_of_any_integer_type_become_int64() -> None:
    for dtype in (np.uint8, np.int32, np.uint64):
        assert build(labels=LABELS.astype(dtype)).labels.dtype == np.int64


def test_classes_default_to_the_numbers_up_to_the_largest_label() -> None:
    dataset = build(labels=np.array([3, 0]))
    assert dataset.classes == ("0", "1", "2", "3")
    assert dataset.num_classes == 4


def test_the_fingerprint_is_sha256_over_shape_images_and_labels() -> None:
    dataset = build()
    expected = hashlib.sha256()
    for size in (2, 3, 4, 5):
        expected.update(size.to_bytes(8, "little"))
    expected.update(IMAGES_NHWC.transpose(0, 3, 1, 2).tobytes())
    for label in (1, 0):
        expected.update(label.to_bytes(8, "little"))
    assert dataset.fingerprint == expected.hexdigest()


def test_the_fingerprint_changes_with_pixels_labels_order_and_shape_but_not_with_names() -> None:
    dataset = build()
    pixel = IMAGES_NHWC.copy()
    pixel[1, 3, 4, 2] ^= 1
    others = [
        build(pixel),
        build(labels=np.array([1, 1])),
        build(IMAGES_NHWC[::-1], LABELS[::-1]),
        build(IMAGES_NHWC.reshape(2, 5, 4, 3)),
    ]
    assert len({dataset.fingerprint, *(other.fingerprint for other in others)}) == 5
    assert (
        dataclasses.replace(dataset, name="other", split="test", classes=("a", "b")).fingerprint == dataset.fingerprint
    )


@pytest.mark.parametrize(
    ("images", "labels", "match"),
    [
        (IMAGES_NHWC / 255, LABELS, r"here\.npz: images must be uint8 in 0-255, got float64; convert floats"),
        (IMAGES_NHWC.astype(np.int64), LABELS, r"got int64; .*images\.astype\('uint8'\)"),
        (IMAGES_NHWC[0, 0], LABELS, r"must have shape \(N, H, W\) or \(N, H, W, C\), got \(5, 3\)"),
        (IMAGES_NHWC[None], LABELS, r"got \(1, 2, 4, 5, 3\)"),
        (IMAGES_NHWC.transpose(0, 3, 1, 2), LABELS, r"images\.transpose\(0, 2, 3, 1\)"),
        (np.zeros((2, 4, 4, 4), np.uint8), LABELS, r"1 or 3 channels last, got shape \(2, 4, 4, 4\)"),
        (IMAGES_NHWC[:0], LABELS[:0], "at least one image"),
        (IMAGES_NHWC, LABELS[:1], "2 images and 1 labels"),
        (IMAGES_NHWC, LABELS * 1.0, r"labels must be integers, got float64"),
        (IMAGES_NHWC, LABELS[:, None], r"labels must have shape \(N,\), got \(2, 1\)"),
        (IMAGES_NHWC, np.array([0, -1]), r"labels must be 0 or more, got -1 at index 1"),
    ],
)
def test_arrays_that_are_not_images_and_labels_are_refused(
    images: NDArray[Any], labels: NDArray[Any], match: str
) -> None:
    with pytest.raises(ValueError, match=match):
        build(images, labels)


def test_a_label_without_a_class_name_is_refused() -> None:
    with pytest.raises(ValueError, match="largest label is 1, but there are only 1 classes"):
        build(classes=["only"])
