"""IDX files, as MNIST and Fashion-MNIST are distributed."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as extra
from numpy.typing import NDArray

from maxup_smoothing.data.formats import idx

IMAGES = np.arange(3 * 2 * 4, dtype=np.uint8).reshape(3, 2, 4)
LABELS = np.array([1, 0, 1], dtype=np.uint8)


def encode(array: NDArray[np.uint8]) -> bytes:
    """The format as its authors describe it: 00 00 type ndim, big-endian sizes, bytes."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_split(
    folder: Path, prefix: str, suffix: str = "", images: NDArray[Any] = IMAGES, labels: NDArray[Any] = LABELS
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    pack = gzip.compress if suffix == ".gz" else bytes
    (folder / f"{prefix}-images-idx3-ubyte{suffix}").write_bytes(pack(encode(images)))
    (folder / f"{prefix}-labels-idx1-ubyte{suffix}").write_bytes(pack(encode(labels)))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("idx") / "array"


@given(array=extra.arrays(np.uint8, extra.array_shapes(max_dims=4, max_side=5)), zipped=st.booleans())
def test_any_array_comes_back_as_it_was_written(scratch: Path, array: NDArray[np.uint8], zipped: bool) -> None:
    scratch.write_bytes(gzip.compress(encode(array)) if zipped else encode(array))
    back = idx.read_array(scratch)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, array, strict=True)


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize(("split", "prefix"), [("train", "train"), ("test", "t10k")])
def test_a_split_is_read_from_its_two_files(tmp_path: Path, suffix: str, split: str, prefix: str) -> None:
    write_split(tmp_path, prefix, suffix)
    dataset = idx.read(tmp_path, split, name="mnist", classes=("zero", "one"))
    np.testing.assert_array_equal(dataset.images[:, 0], IMAGES)
    np.testing.assert_array_equal(dataset.labels, LABELS)
    assert (dataset.name, dataset.split, dataset.classes) == ("mnist", split, ("zero", "one"))


@pytest.mark.parametrize("folder", ["fashion-mnist", "fashion_mnist", "FashionMNIST/raw", "."])
def test_the_files_are_found_where_people_keep_them(tmp_path: Path, folder: str) -> None:
    assert idx.find(tmp_path, "fashion-mnist") is None
    write_split(tmp_path / folder, "t10k", ".gz")
    assert idx.find(tmp_path, "fashion-mnist") == tmp_path / folder


def test_mnist_is_not_taken_for_fashion_mnist(tmp_path: Path) -> None:
    write_split(tmp_path / "MNIST" / "raw", "train")
    assert idx.find(tmp_path, "fashion-mnist") is None
    assert idx.find(tmp_path, "mnist") == tmp_path / "MNIST" / "raw"


GOOD = encode(IMAGES)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"", "expected an IDX file, .* got nothing"),
        (b"\0\0\x08", "expected an IDX file, .* got 00 00 08"),
        (b"PK\x03\x04" + GOOD, "expected an IDX file, which begins with the bytes 00 00, got 50 4b 03 04"),
        (b"\0\0\x0d\x03" + GOOD[4:], "of uint8 .type 8. .* got type 13 with 3"),
        (b"\0\0\x08\0", "1 or more dimensions, got type 8 with 0"),
        (GOOD[:10], "cut off inside its header, 10 of 16 bytes"),
        (GOOD[:-1], r"announces shape \(3, 2, 4\), 40 bytes in all, but it has 39"),
        (GOOD + b"\0", "40 bytes in all, but it has 41"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "but it has 16"),
        (gzip.compress(GOOD, mtime=0)[:-3], "the gzip data is damaged or cut off"),
        (gzip.compress(GOOD, mtime=0)[:-8] + b"\0" * 8, "the gzip data is damaged or cut off"),
        (b"\x1f\x8b\x08\0" + b"\xff" * 20, "the gzip data is damaged or cut off"),
        (gzip.compress(GOOD[:-1], mtime=0), "40 bytes in all, but it has 39"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"train-images-idx3-ubyte: .*{match}"):
        idx.read_array(path)


def test_swapped_files_are_refused(tmp_path: Path) -> None:
    write_split(tmp_path, "train", images=LABELS, labels=IMAGES)
    with pytest.raises(ValueError, match=r"expected 3 dimensions, got shape \(3,\); were two files swapped"):
        idx.read(tmp_path, "train", name="mnist", classes=("0", "1"))


def test_files_of_two_splits_mixed_up_are_refused(tmp_path: Path) -> None:
    write_split(tmp_path, "train", labels=LABELS[:2])
    with pytest.raises(ValueError, match="3 images and 2 labels"):
        idx.read(tmp_path, "train", name="mnist", classes=("0", "1"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    write_split(tmp_path, "train")
    (tmp_path / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="no train-labels-idx1-ubyte"):
        idx.read(tmp_path, "train", name="mnist", classes=("0", "1"))
    with pytest.raises(FileNotFoundError, match="nowhere: no such file"):
        idx.read_array(tmp_path / "nowhere")
