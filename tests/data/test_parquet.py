"""Data sets in Parquet files of Hugging Face; the tests need pyarrow."""

import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import photograph
from PIL import Image

from maxup_smoothing.data import registry
from maxup_smoothing.data.formats import parquet
from maxup_smoothing.data.lazy import LazyImages
from maxup_smoothing.data.preprocessing import Preprocessing

HOW = Preprocessing(resize=16, crop=12)
CLASSES = ["cat", "dog", "emu"]


def encoded(seed: int, width: int = 30, height: int = 20) -> bytes:
    stream = io.BytesIO()
    photograph(seed, width, height).save(stream, "PNG")
    return stream.getvalue()


def pixels(seed: int) -> Any:
    return HOW.apply(Image.open(io.BytesIO(encoded(seed))).convert("RGB"), "x")


def write(
    path: Path,
    rows: int,
    *,
    first: int = 0,
    label: str | None = "label",
    labels: Any = None,
    group: int = 3,
    **more: Any,
) -> Path:
    """Images ``first``, ``first`` + 1 … with labels in turn, as ``datasets`` writes them."""
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    columns: dict[str, Any] = {"image": [{"bytes": encoded(first + row), "path": f"{row}.png"} for row in range(rows)]}
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if label is not None:
        columns[label] = [(first + row) % 3 for row in range(rows)] if labels is None else labels
        features[label] = {"names": CLASSES, "_type": "ClassLabel"}
    columns |= more
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path, row_group_size=group)
    return path


def test_a_file_is_read_with_the_classes_of_its_schema(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", 7)
    dataset = registry.load(str(path), "test", preprocessing=HOW)
    assert (dataset.images.shape, dataset.split, dataset.classes) == ((7, 3, 12, 12), "file", tuple(CLASSES))
    np.testing.assert_array_equal(dataset.labels, [0, 1, 2, 0, 1, 2, 0])
    for index in (6, 0, 3, 2):
        np.testing.assert_array_equal(dataset.images[index], pixels(index))
    images = pickle.loads(pickle.dumps(dataset.images))
    np.testing.assert_array_equal(images[4], pixels(4))


def test_images_of_one_size_need_no_preprocessing(tmp_path: Path) -> None:
    dataset = registry.load(str(write(tmp_path / "x.parquet", 4)), "test", lazy=True)
    assert isinstance(dataset.images, np.ndarray)
    assert dataset.images.shape == (4, 3, 20, 30)
    np.testing.assert_array_equal(dataset.images[2].transpose(1, 2, 0), np.asarray(photograph(2, 30, 20)))


@pytest.mark.parametrize(
    "names",
    [
        (
            "data/train-00000-of-00002-ab.parquet",
            "data/train-00001-of-00002-cd.parquet",
            "data/test-00000-of-00001.parquet",
        ),
        ("train/0000.parquet", "train/0001.parquet", "test/0000.parquet"),
        ("default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"),
        ("train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "validation-00000-of-00001.parquet"),
        ("train_a.parquet", "train_b.parquet", "test.parquet"),
    ],
)
def test_splits_are_told_by_names_and_parts_go_together(tmp_path: Path, names: tuple[str, ...]) -> None:
    for first, name in zip((0, 5, 100), names, strict=True):
        write(tmp_path / name, 5 if first < 100 else 2, first=first)
    train = registry.load(str(tmp_path), "train", preprocessing=HOW)
    assert (len(train.images), train.split) == (10, "train")
    for index in range(10):
        np.testing.assert_array_equal(train.images[index], pixels(index))
    test = registry.load(str(tmp_path), "test", preprocessing=HOW)
    np.testing.assert_array_equal(test.images[1], pixels(101))
    assert test.fingerprint != train.fingerprint


def test_labels_may_be_names_or_missing(tmp_path: Path) -> None:
    dataset = parquet.read(write(tmp_path / "a.parquet", 3, labels=["emu", "cat", "emu"]), "test", preprocessing=HOW)
    assert dataset.classes == ("cat", "emu")
    np.testing.assert_array_equal(dataset.labels, [1, 0, 1])
    assert not parquet.read(write(tmp_path / "b.parquet", 3, label=None), "test", preprocessing=HOW).labelled
    assert not parquet.read(write(tmp_path / "c.parquet", 3, labels=[-1] * 3), "test", preprocessing=HOW).labelled
    fine = write(tmp_path / "d.parquet", 3, label="fine_label", coarse_label=[0, 0, 0])
    np.testing.assert_array_equal(parquet.read(fine, "test", preprocessing=HOW).labels, [0, 1, 2])


def test_an_image_that_cannot_be_read_is_told_by_file_and_row(tmp_path: Path) -> None:
    rows = [{"bytes": content, "path": "x.png"} for content in (encoded(0), encoded(1)[:200], None, b"GIF89a")]
    path = write(tmp_path / "x.parquet", 4, group=2, image=rows)
    images = parquet.read(path, "test", preprocessing=HOW).images
    images[0]
    for index, told in ((1, "not a readable image"), (2, "the image is not in the file, only its path"), (3, "not a")):
        with pytest.raises(ValueError, match=rf"x\.parquet, row {index}: {told}"):
            images[index]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + bytes(100) + b"PAR1", b"no parquet at all" * 20])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.parquet: not a Parquet file that can be read \("):
        registry.load(str(path), "test", preprocessing=HOW)


def test_a_file_that_is_cut_off_or_damaged_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", 6)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"x\.parquet: not a Parquet file"):
        registry.load(str(path), "test", preprocessing=HOW)
    path.write_bytes(content[:4] + bytes(len(content) // 2) + content[4 + len(content) // 2 :])
    with pytest.raises(ValueError, match=r"x\.parquet"):
        registry.load(str(path), "test", preprocessing=HOW).images[0]


def test_columns_and_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    pq.write_table(pa.table({"text": ["a"], "label": [0]}), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match=r"expected a column `image` .* got the columns text, label"):
        parquet.read(tmp_path / "x.parquet", "test")
    with pytest.raises(FileNotFoundError, match=r"gone\.parquet: no such file"):
        registry.load(str(tmp_path / "gone.parquet"), "test")
    write(tmp_path / "hub" / "train-00001-of-00003.parquet", 2)
    with pytest.raises(ValueError, match="that there are 3 files of this split, but part 0 is missing"):
        registry.load(str(tmp_path / "hub"), "train", preprocessing=HOW)
    with pytest.raises(ValueError, match="has the splits train, got split='test'"):
        registry.load(str(tmp_path / "hub"), "test", preprocessing=HOW)
    with pytest.raises(ValueError, match="expected at least one image, got no rows"):
        parquet.read(write(tmp_path / "empty.parquet", 0), "test", preprocessing=HOW)


def test_only_the_row_groups_that_are_used_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = parquet.read(write(tmp_path / "x.parquet", 9), "test", preprocessing=HOW).images
    assert isinstance(images, LazyImages)
    source, groups = images.source, list[int]()
    assert isinstance(source, parquet.Rows)
    file = source._file(0)

    class Watched:
        def read_row_group(self, number: int, **options: Any) -> Any:
            groups.append(number)
            return file.read_row_group(number, **options)

    monkeypatch.setattr(source, "_file", lambda number: Watched())
    images[[3, 4, 5, 3, 7]]
    assert groups == [1, 2]


def test_without_pyarrow_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(
        ValueError, match=r"Parquet files need pyarrow .*; install it with pip install 'maxup-smoothing\[p"
    ):
        registry.load(str(tmp_path / "x.parquet"), "test")
