"""Hostile data sets: each test is a defect that fuzzing or reading the code has found, and that is mended."""

import gzip
import io
import os
import struct
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fuzz.data_files import archive, member
from fuzz.watch import limited_memory, watched
from maxup_smoothing.data.dataset import from_arrays
from maxup_smoothing.data.formats import cifar, folder, idx, npz
from maxup_smoothing.data.runtime import console, untrusted
from maxup_smoothing.data.subset import protocol

IMAGES, LABELS = np.zeros((2, 4, 4), np.uint8), np.array([0, 1])
HEADER = "{{'descr': '{}', 'fortran_order': False, 'shape': {}}}\n"


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def refused(path: Path, match: str, content: bytes | None = None) -> None:
    if content is not None:
        path.write_bytes(content)
    with limited_memory(), watched(path.parent), pytest.raises(ValueError, match=match) as caught:
        npz.read(path, "train")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "header",
    [
        HEADER.format("|u1", "(1152921504606846976, 5, 5)"),  # MemoryError
        HEADER.format("|u1", "(99999999999999999999999,)"),  # OverflowError
        HEADER.format("|u1", "(-1,)"),
        HEADER.format("<U0", "(100000000, 8)"),
        HEADER.format("|u1", "(4,"),  # TokenError
        "(" * 5000 + "\n",
        HEADER.format("|O", "(4,)"),
    ],
)
def test_an_array_that_is_not_what_its_header_says_is_refused(tmp_path: Path, header: str) -> None:
    content = archive({"images.npy": member(header.encode()), "labels.npy": npy(LABELS)})
    refused(tmp_path / "a.npz", "images cannot be read", content)


def test_an_archive_that_unpacks_to_far_more_than_it_has_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = archive({"images.npy": npy(np.zeros((1000, 28, 28), np.uint8)), "labels.npy": npy(np.zeros(1000, int))})
    (tmp_path / "a.npz").write_bytes(content)
    npz.read(tmp_path / "a.npz", "train")  # 100 MB are always allowed
    monkeypatch.setattr(untrusted, "_ALWAYS", 1000)
    refused(tmp_path / "a.npz", "unpacks to 784,128 bytes")


def test_an_archive_packed_in_an_unknown_way_or_with_impossible_places_is_refused(tmp_path: Path) -> None:
    whole = bytearray(archive({"images.npy": npy(IMAGES), "labels.npy": npy(LABELS)}, zipfile.ZIP_STORED))
    directory = whole.rindex(b"PK\1\2", 0, whole.rindex(b"PK\1\2"))
    whole[directory + 10 : directory + 12] = struct.pack("<H", 97)
    refused(tmp_path / "a.npz", "damaged or incomplete", bytes(whole))
    end = whole.rindex(b"PK\5\6")
    whole[end + 16 : end + 20] = struct.pack("<I", 2**31)
    refused(tmp_path / "a.npz", "damaged or incomplete|not an .npz", bytes(whole))


def test_names_of_members_lead_nowhere(tmp_path: Path) -> None:
    parts = {"images.npy": npy(IMAGES), "labels.npy": npy(LABELS), "../x.npy": npy(LABELS), "/etc/y.npy": b"z"}
    path = tmp_path / "in" / "a.npz"
    path.parent.mkdir()
    path.write_bytes(archive(parts))
    with watched(path.parent):
        assert len(npz.read(path, "train").images) == 2
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["a.npz", "in"]


def test_a_damaged_label_is_no_list_of_names_without_end() -> None:
    with limited_memory(), pytest.raises(ValueError, match="largest label is 1000000000000"):
        from_arrays(IMAGES, np.array([0, 10**12]), source="a", name="a", split="file")


def test_a_gzip_file_that_unpacks_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t10k-images-idx3-ubyte"
    path.write_bytes(gzip.compress(bytes([0, 0, 8, 1]) + struct.pack(">I", 99_996) + bytes(99_996), mtime=0))
    assert idx.read_array(path).shape == (99_996,)
    monkeypatch.setattr(untrusted, "_ALWAYS", 1000)
    with pytest.raises(ValueError, match="unpacks to more than"):
        idx.read_array(path)


def tar_gz(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    stream = io.BytesIO()
    for entry, content in members:
        stream.write(entry.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % 512))
    path.write_bytes(gzip.compress(stream.getvalue() + bytes(1024), mtime=0))
    return path


def entry(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    found = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
    found.size, found.type = size, kind
    return found


@pytest.mark.parametrize("size", [-512, 2**40])
def test_a_tar_member_of_negative_or_endless_size_is_refused(tmp_path: Path, size: int) -> None:
    source = tar_gz(tmp_path / "a.tar.gz", (entry("test_batch.bin", size), bytes(512)))
    with limited_memory(), watched(tmp_path), pytest.raises(ValueError, match="damaged or cut off"):
        cifar.read(source, "test", name="cifar10")


def test_an_archive_within_an_archive_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = tar_gz(tmp_path / "inner.tar.gz", (entry("test_batch.bin", 3073), bytes(3073)))
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(inner.read_bytes(), mtime=0))
    with pytest.raises(ValueError, match="damaged or cut off"):
        cifar.read(tmp_path / "a.tar.gz", "test", name="cifar10")
    monkeypatch.setattr(cifar, "_LARGEST_ARCHIVE", 1000)
    with pytest.raises(ValueError, match=r"unpacks to more than 1,000 bytes|outside what"):
        cifar.read(inner, "test", name="cifar10")


def image(tmp_path: Path) -> Path:
    path = tmp_path / "images" / "cat" / "a.png"
    path.parent.mkdir(parents=True)
    return path


def test_an_eps_image_under_another_name_starts_no_program(tmp_path: Path) -> None:
    path = image(tmp_path)
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n%%EndComments\nshowpage\n%%EOF\n")
    with watched(tmp_path), pytest.raises(ValueError, match="not a readable image"):
        folder.read(tmp_path / "images", "train")


def test_an_image_that_no_classifier_takes_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = image(tmp_path)
    Image.new("1", (5000, 5000)).save(path)
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match=r"suspiciously large.*5000x5000"):
        folder.read(tmp_path / "images", "train")


def test_many_images_that_unpack_to_far_more_than_they_have_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = image(tmp_path)
    for number in range(3):
        Image.new("L", (1000, 1000)).save(path.with_name(f"{number}.png"))
    monkeypatch.setattr(untrusted, "_ALWAYS", 1000)
    with pytest.raises(ValueError, match="100 times the files"):
        folder.read(tmp_path / "images", "train")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(image(tmp_path))
    with pytest.raises(ValueError, match="no regular file"):
        folder.read(tmp_path / "images", "train")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no regular file"):
        untrusted.read_bytes(tmp_path / "pipe", 10)


def test_a_file_larger_than_any_of_its_kind_is_not_read_whole(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(11))
    assert untrusted.read_bytes(tmp_path / "a", 11) == bytes(11)
    with pytest.raises(ValueError, match="more than 10 bytes"):
        untrusted.read_bytes(tmp_path / "a", 10)


def test_a_protocol_of_thousands_of_digits_is_no_protocol() -> None:
    with pytest.raises(ValueError, match="unknown protocol"):
        protocol("skip" + "1" * 5000)


def test_names_out_of_files_cannot_command_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ValueError("a\x1b]0;title\x07\nb\u202ec\udcff é" + "x" * 10_000)

    monkeypatch.setattr(sys, "argv", ["x"])
    with pytest.raises(SystemExit) as ended:
        console.run(fail)
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("error: a\\x1b]0;title\\x07\\nb\\u202ec\\udcff éxxx")
    assert err.count("\n") == 1
    assert len(err) < 5000
