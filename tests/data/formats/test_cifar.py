"""CIFAR-10 and CIFAR-100 in their binary version, from the archive or the unpacked folder."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from maxup_smoothing.data.formats import cifar

Write = Callable[..., Path]

FILES = {
    "cifar10": ("cifar-10-batches-bin", "cifar-10-binary.tar.gz", 1),
    "cifar100": ("cifar-100-binary", "cifar-100-binary.tar.gz", 2),
}
IMAGES = np.random.default_rng(0).integers(0, 256, (10, 3, 32, 32), dtype=np.uint8)
LABELS = np.arange(10, dtype=np.uint8)


def record(index: int, label_bytes: int) -> bytes:
    """(coarse,) fine label, then the red, green and blue planes."""
    return bytes([7, LABELS[index]])[2 - label_bytes :] + IMAGES[index].tobytes()


def contents(name: str) -> dict[str, bytes]:
    """Two images a training batch (all ten in CIFAR-100's one file), three test images."""
    test = b"".join(record(k, FILES[name][2]) for k in (9, 8, 7))
    if name == "cifar100":
        train = b"".join(record(k, 2) for k in range(10))
        fine = "".join(f"fine{k}\n" for k in range(100))
        return {"fine_label_names.txt": fine.encode(), "test.bin": test, "train.bin": train}
    batches = {f"data_batch_{b + 1}.bin": record(2 * b, 1) + record(2 * b + 1, 1) for b in range(5)}
    names = "".join(f"class{k}\n" for k in range(10)) + "\n"
    # Official archives are not in the order of the batches either.
    return {"test_batch.bin": test, **dict(reversed(batches.items())), "batches.meta.txt": names.encode()}


def write_folder(root: Path, name: str, files: dict[str, bytes] | None = None) -> Path:
    folder = root / FILES[name][0]
    folder.mkdir(parents=True)
    for file, content in (files or contents(name)).items():
        (folder / file).write_bytes(content)
    return folder


def write_archive(root: Path, name: str, files: dict[str, bytes] | None = None, prefix: str = "") -> Path:
    path = root / FILES[name][1]
    with tarfile.open(path, "w:gz") as tar:
        for file, content in (files or contents(name)).items():
            member = tarfile.TarInfo(f"{prefix}{FILES[name][0]}/{file}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize("write", [write_folder, write_archive])
@pytest.mark.parametrize("name", FILES)
def test_images_and_fine_labels_come_in_the_order_of_the_batches(tmp_path: Path, write: Write, name: str) -> None:
    source = write(tmp_path, name)
    train, test = cifar.read(source, "train", name=name), cifar.read(source, "test", name=name)
    np.testing.assert_array_equal(train.images, IMAGES)
    np.testing.assert_array_equal(train.labels, LABELS)
    np.testing.assert_array_equal(test.images, IMAGES[[9, 8, 7]])
    np.testing.assert_array_equal(test.labels, [9, 8, 7])
    assert train.num_classes == {"cifar10": 10, "cifar100": 100}[name]
    assert train.classes[9] == {"cifar10": "class9", "cifar100": "fine9"}[name]
    assert (train.name, train.split, test.split) == (name, "train", "test")


def test_reading_an_archive_writes_nothing(tmp_path: Path) -> None:
    source = write_archive(tmp_path, "cifar10", prefix="./")
    cifar.read(source, "train", name="cifar10")
    assert list(tmp_path.iterdir()) == [source]


@pytest.mark.parametrize("parent", [".", "cifar10"])
@pytest.mark.parametrize("write", [write_folder, write_archive])
def test_it_is_found_where_people_keep_it(tmp_path: Path, parent: str, write: Write) -> None:
    assert cifar.find(tmp_path, "cifar10") is None
    (tmp_path / parent).mkdir(exist_ok=True)
    source = write(tmp_path / parent, "cifar10")
    assert cifar.find(tmp_path, "cifar10") == source
    assert cifar.find(tmp_path, "cifar100") is None


def test_the_folder_itself_may_be_the_root(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, "cifar100")
    assert cifar.find(folder, "cifar100") == folder


@pytest.mark.parametrize("write", [write_folder, write_archive])
@pytest.mark.parametrize("bad", [b"", record(0, 1)[:-1], record(0, 1) + b"\0"])
def test_a_batch_that_is_no_whole_number_of_records_is_refused(tmp_path: Path, write: Write, bad: bytes) -> None:
    source = write(tmp_path, "cifar10", {**contents("cifar10"), "data_batch_3.bin": bad})
    with pytest.raises(ValueError, match=rf"data_batch_3\.bin must be a whole number .* 3073 bytes, got {len(bad)}"):
        cifar.read(source, "train", name="cifar10")


def test_a_label_beyond_the_classes_is_refused(tmp_path: Path) -> None:
    source = write_folder(tmp_path, "cifar10", {**contents("cifar10"), "test_batch.bin": b"\x0a" + bytes(3072)})
    with pytest.raises(ValueError, match="largest label is 10, but there are only 10 classes"):
        cifar.read(source, "test", name="cifar10")


def test_missing_files_are_named(tmp_path: Path) -> None:
    files = contents("cifar10")
    del files["data_batch_2.bin"]
    with pytest.raises(FileNotFoundError, match=r"cifar-10-batches-bin: data_batch_2\.bin missing"):
        cifar.read(write_folder(tmp_path, "cifar10", files), "train", name="cifar10")
    with pytest.raises(ValueError, match=r"tar\.gz: cifar-10-batches-bin/data_batch_2\.bin missing"):
        cifar.read(write_archive(tmp_path, "cifar10", files), "train", name="cifar10")
    with pytest.raises(FileNotFoundError, match="nowhere: no such file or folder"):
        cifar.read(tmp_path / "nowhere", "train", name="cifar10")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9])
def test_a_truncated_archive_is_refused(tmp_path: Path, share: float) -> None:
    path = write_archive(tmp_path, "cifar10")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ValueError, match=r"cifar-10-binary\.tar\.gz: the archive is damaged or cut off"):
        cifar.read(path, "train", name="cifar10")


def test_an_archive_with_a_damaged_byte_is_refused(tmp_path: Path) -> None:
    path = write_archive(tmp_path, "cifar10")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="the archive is damaged or cut off"):
        cifar.read(path, "train", name="cifar10")
