"""Datasets in .npz files, with and without splits."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from maxup_smoothing.data.formats import npz

X = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)
Y = np.array([2, 0, 1])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.npz"


def test_a_file_with_splits_gives_the_one_asked_for(path: Path) -> None:
    np.savez(path, x_train=X, y_train=Y, x_test=X[:1], y_test=Y[:1], classes=np.array(["a", "b", "c"]))
    train, test = npz.read(path, "train"), npz.read(path, "test")
    np.testing.assert_array_equal(train.images[:, 0], X)
    np.testing.assert_array_equal(train.labels, Y)
    np.testing.assert_array_equal(test.images[:, 0], X[:1])
    assert (train.split, test.split) == ("train", "test")
    assert train.classes == test.classes == ("a", "b", "c")


def test_a_file_without_splits_is_used_whole_and_says_so(path: Path) -> None:
    np.savez(path, images=np.stack([X] * 3, axis=-1), labels=Y)
    for split in ("train", "test", "file"):
        dataset = npz.read(path, split)
        assert dataset.split == "file"
        assert dataset.name == str(path)
        assert dataset.images.shape == (3, 3, 4, 4)
        assert dataset.classes == ("0", "1", "2")


def test_only_the_arrays_of_the_split_are_read(path: Path) -> None:
    np.savez(path, x_test=X, y_test=Y, x_train=np.array([{}], dtype=object), y_train=Y)
    assert len(npz.read(path, "test").images) == 3


def test_given_classes_win_over_the_file(path: Path) -> None:
    np.savez(path, images=X, labels=Y, classes=np.array(["a", "b", "c"]))
    assert npz.read(path, "test", classes=("p", "q", "r")).classes == ("p", "q", "r")


@pytest.mark.parametrize("stem", ["fashion_mnist", "fashion-mnist"])
def test_hyphens_and_underscores_are_both_found(tmp_path: Path, stem: str) -> None:
    assert npz.find(tmp_path, "fashion-mnist") is None
    np.savez(tmp_path / f"{stem}.npz", images=X, labels=Y)
    assert npz.find(tmp_path, "fashion-mnist") == tmp_path / f"{stem}.npz"


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"images": X, "label": Y}, r"mine\.npz: expected the arrays images, labels .* labels missing, found images"),
        ({}, r"images and labels missing, found nothing"),
        ({"x_train": X, "y_train": Y}, r"x_test and y_test missing, found x_train, y_train"),
        ({"images": X / 255, "labels": Y}, r"mine\.npz \(images, labels\): images must be uint8"),
        ({"images": X, "labels": Y[:2]}, "3 images and 2 labels"),
        ({"images": X, "labels": Y - 1}, "labels must be 0 or more"),
        ({"images": X[:, None], "labels": Y}, r"transpose\(0, 2, 3, 1\)"),
        ({"images": np.array([1, "a"], dtype=object), "labels": Y}, "images cannot be read without pickle"),
        ({"images": X, "labels": Y, "classes": np.array([1, 2, 3])}, r"classes must be strings of shape \(K,\)"),
        ({"images": X, "labels": Y, "classes": np.array(["a", "b"])}, "largest label is 2, but there are only 2"),
    ],
)
def test_a_file_with_unusable_arrays_is_refused(path: Path, arrays: dict[str, NDArray[Any]], match: str) -> None:
    np.savez(path, allow_pickle=True, **arrays)
    with pytest.raises(ValueError, match=match):
        npz.read(path, "test")


def test_a_split_that_the_file_does_not_have_is_refused(path: Path) -> None:
    np.savez(path, x_train=X, y_train=Y, x_test=X, y_test=Y)
    with pytest.raises(ValueError, match="has the splits train and test, got split='val'"):
        npz.read(path, "val")


@pytest.mark.parametrize("share", [0.3, 0.7, 0.999])
def test_a_truncated_file_is_refused(path: Path, share: float) -> None:
    np.savez(path, images=X, labels=Y)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"mine\.npz: the archive is damaged"):
        npz.read(path, "test")


def test_a_flipped_bit_is_noticed(path: Path) -> None:
    np.savez(path, images=X, labels=Y)
    content = bytearray(path.read_bytes())
    content[content.index(X.tobytes()) + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.npz: the archive is damaged"):
        npz.read(path, "test")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"\x80\x04K\x01."])
def test_a_file_that_is_no_archive_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"mine\.npz(: the archive is damaged| is not an \.npz archive)"):
        npz.read(path, "test")


def test_a_single_array_is_refused(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, X)
    with pytest.raises(ValueError, match=r"is a single array, not an \.npz archive"):
        npz.read(path, "test")


def test_members_that_are_no_arrays_are_refused(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images", "pixels")
        archive.writestr("labels", "1 2 3")
    with pytest.raises(ValueError, match=r"mine\.npz: images is not a NumPy array"):
        npz.read(path, "test")


def test_a_missing_file_is_named(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"mine\.npz: no such file"):
        npz.read(path, "test")


def test_images_alone_have_no_labels(path: Path) -> None:
    np.savez(path, images=X)
    dataset = npz.read(path, "test")
    assert not dataset.labelled
    assert dataset.num_classes == 0
    np.savez(path, images=X, classes=np.array(["a", "b"]))
    dataset = npz.read(path, "test")
    assert not dataset.labelled
    assert dataset.classes == ("a", "b")
    np.savez(path, images=X, labels=np.full(3, -1))
    assert not npz.read(path, "test").labelled


def test_class_names_may_be_bytes(path: Path) -> None:
    np.savez(path, images=X, labels=Y, classes=np.array([b"a", b"b", b"c"]))
    assert npz.read(path, "test").classes == ("a", "b", "c")


def test_splits_have_the_classes_of_all_of_them(path: Path) -> None:
    np.savez(path, x_train=X[:2], y_train=np.array([0, 1]), x_test=X, y_test=Y)
    train, test = npz.read(path, "train"), npz.read(path, "test")
    assert train.classes == test.classes == ("0", "1", "2")
    assert train.notes == (f"{path} (x_train, y_train): 1 of 3 classes have no image: 2.",)


def test_splits_whose_images_differ_in_shape_are_refused_before_training(path: Path) -> None:
    np.savez(path, x_train=X, y_train=Y, x_test=np.stack([X] * 3, axis=-1), y_test=Y)
    with pytest.raises(ValueError, match=r"x_train has images of shape \(4, 4\), but x_test of \(4, 4, 3\)"):
        npz.read(path, "train")
    np.savez(path, x_train=X, y_train=Y, x_test=X[..., None], y_test=Y)
    assert len(npz.read(path, "train").images) == 3


@pytest.mark.parametrize("spelling", ["val", "valid", "validation"])
def test_validation_images_are_a_split_and_stand_for_missing_test_images(path: Path, spelling: str) -> None:
    halves = {"x_train": X, "y_train": Y, f"x_{spelling}": X[:1], f"y_{spelling}": Y[:1]}
    np.savez(path, allow_pickle=False, **halves)
    assert npz.read(path, "val").split == "val"
    dataset = npz.read(path, "test")
    assert (dataset.split, len(dataset.images)) == ("val", 1)
    assert f"{path} has no split test; its split {spelling} is used instead." in dataset.notes


def test_the_advice_on_labels_that_are_names_can_be_followed(path: Path) -> None:
    labels = np.array(["dog", "cat", "dog"])
    np.savez(path, images=X, labels=labels)
    with pytest.raises(ValueError, match=r"names, numbers = numpy\.unique\(labels, return_inverse=True\)"):
        npz.read(path, "test")
    for kind in (np.str_, np.bytes_):
        names, numbers = np.unique(labels.astype(kind), return_inverse=True)
        np.savez(path, images=X, labels=numbers, classes=names)
        dataset = npz.read(path, "test")
        assert dataset.classes == ("cat", "dog")
        np.testing.assert_array_equal(dataset.labels, [1, 0, 1])


def test_labels_that_count_from_1_are_said(path: Path) -> None:
    np.savez(path, images=X, labels=Y + 1)
    (note,) = npz.read(path, "test").notes
    assert "no image has the label 0, so class 0 of 4 stays empty; if the labels count from 1, save labels - 1" in note
    np.savez(path, images=X, labels=Y + 1, classes=np.array(["a", "b", "c"]))
    with pytest.raises(ValueError, match="the labels count from 1, up to 3 for 3 classes; save labels - 1"):
        npz.read(path, "test")
    np.savez(path, images=X, labels=Y + 1 - 1, classes=np.array(["a", "b", "c"]))
    assert npz.read(path, "test").notes == ()


def test_the_advice_on_an_alpha_channel_can_be_followed(path: Path) -> None:
    images = np.stack([X] * 4, axis=-1)
    np.savez(path, images=images, labels=Y)
    with pytest.raises(ValueError, match=r"drop the alpha channel with images\[\.\.\., :3\]"):
        npz.read(path, "test")
    np.savez(path, images=images[..., :3], labels=Y)
    assert npz.read(path, "test").images.shape == (3, 3, 4, 4)


def test_a_split_may_lack_labels(path: Path) -> None:
    np.savez(path, x_train=X, y_train=Y, x_test=X[:1])
    assert npz.read(path, "train").labelled
    dataset = npz.read(path, "test")
    assert not dataset.labelled
    assert dataset.classes == ("0", "1", "2")
    np.savez(path, x_test=X)
    assert npz.read(path, "test").num_classes == 0
