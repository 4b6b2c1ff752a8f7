"""Parsers of data sets, with tiny valid files."""

import gzip
import io
import struct
import tarfile
import zipfile
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from fuzz.parser import Parser
from maxup_smoothing.data import class_map, labels, registry
from maxup_smoothing.data.formats import cifar, folder, idx, npz
from maxup_smoothing.data.lazy import LazyImages
from maxup_smoothing.data.loader import Loader
from maxup_smoothing.data.preprocessing import Preprocessing

_IMAGES = np.random.default_rng(0).integers(0, 256, (4, 5, 5), dtype=np.uint8)
_LABELS = np.array([0, 1, 1, 0], dtype=np.uint8)


@cache
def _npz() -> list[bytes]:
    found = []
    for save in (np.savez, np.savez_compressed):
        for arrays in (
            {"images": _IMAGES, "labels": _LABELS.astype(np.int64), "classes": np.array(["cat", "dog"])},
            {"x_train": _IMAGES, "y_train": _LABELS, "x_test": _IMAGES[:2, ..., None], "y_test": _LABELS[:2]},
        ):
            stream = io.BytesIO()
            save(stream, **arrays)
            found.append(stream.getvalue())
    return found


def member(header: bytes, body: bytes = b"") -> bytes:
    """A .npy file with this header text."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def archive(members: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """An archive of these members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return stream.getvalue()


def read_npy_text(path: Path) -> None:
    """Read an archive whose images are the header and body that the file holds; deeper than damage to a zip reaches."""
    data = path.read_bytes()
    head, _, body = data.partition(b"\n")
    label_member = member(b"{'descr':'|u1','fortran_order':False,'shape':(4,)}\n", _LABELS.tobytes())
    path.write_bytes(archive({"images.npy": member(head + b"\n", body), "labels.npy": label_member}))
    npz.read(path, "train")


@cache
def _npy_texts() -> list[bytes]:
    forms = ("(4, 5, 5)", "(4, 5, 5, 1)", "(1152921504606846976, 5, 5)", "(-1,)", "()")
    heads = [f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}" for shape in forms]
    heads += ["{'descr': '|O', 'fortran_order': False, 'shape': (4,), }"]
    heads += ["{'descr': [('a', '<f8', (9, 9))], 'fortran_order': True, 'shape': (4,), }", "(" * 90 + ")" * 90]
    return [head.encode() + b"\n" + _IMAGES.tobytes() for head in heads]


def _idx_bytes(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@cache
def _idx() -> list[bytes]:
    plain = _idx_bytes(_IMAGES)
    return [plain, gzip.compress(plain, mtime=0), _idx_bytes(_LABELS)]


@cache
def _idx_beside() -> dict[str, bytes]:
    return {"t10k-labels-idx1-ubyte": _idx_bytes(_LABELS)}


_BATCH = bytes([1]) + bytes(range(256)) * 12
_BESIDE = {"batches.meta.txt": b"cat\ndog\n"}


def _tar(files: dict[str, bytes], kind: int = tarfile.PAX_FORMAT) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


@cache
def _archives() -> list[bytes]:
    tars = [_tar({"test_batch.bin": _BATCH, **_BESIDE}, kind) for kind in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT)]
    return [gzip.compress(tar, mtime=0) for tar in tars]


def read_tar(path: Path) -> None:
    """Read an archive whose inside is the file: damage to a gzip file seldom gets beyond its checksum."""
    path.write_bytes(gzip.compress(path.read_bytes(), 1, mtime=0))
    cifar.read(path, "test", name="cifar10")


@cache
def _tars() -> list[bytes]:
    return [gzip.decompress(data) for data in _archives()]


@cache
def _images() -> list[bytes]:
    found = []
    for kind in ("PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM", "GIF"):
        for mode in ("L", "RGB"):
            stream = io.BytesIO()
            Image.fromarray(_IMAGES[0]).convert(mode).save(stream, kind)
            found.append(stream.getvalue())
    stream = io.BytesIO()
    Image.fromarray(_IMAGES[0]).convert("P").save(stream, "PNG", transparency=0)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\n%%EndComments\nshowpage\n%%EOF\n"
    return [*found, stream.getvalue(), eps]


def _read_folder(path: Path) -> None:
    folder.read(path.parent.parent, "train")


def _read_resized(path: Path) -> None:
    images = folder.read(path.parent.parent, "train", preprocessing=Preprocessing(resize=8, crop=6)).images
    assert np.asarray(images).shape == (1, 3, 6, 6)


def _read_cropped(path: Path) -> None:
    dataset = folder.read(path.parent.parent, "train", preprocessing=Preprocessing(crop=4))
    assert isinstance(dataset.images, LazyImages)
    list(Loader(dataset.images, dataset.labels, size=4).batches([[0]], seed=0, epoch=0))


@cache
def _label_files() -> list[bytes]:
    texts = (
        "a.png 0\nb.png 1\n",
        "ImageId,PredictionString\na,n01 1 2 3 4\nb,n02 5 6 7 8\n",
        "0\n1\n",
        "val/b.png;x\na.png cat\n",
    )
    return [text.encode() for text in texts]


def _read_labels(path: Path) -> None:
    found, classes, _ = labels.read(path, ["a.png", "b.png"], None)
    assert found.shape == (2,)
    assert not classes or found.max() < len(classes)


@cache
def _class_maps() -> list[bytes]:
    texts = ("a 1\nb 0\n", "n01440764 tench\nn01443537 goldfish\n", '{"0": ["n01440764", "tench"]}', '["a", "b"]')
    return [text.encode() for text in (*texts, '{"id2label": {"0": "a"}}', '{"a": 1}')]


PARSERS = [
    Parser(
        name="npz",
        file="images.npz",
        seeds=_npz,
        readers=(
            lambda path: npz.read(path, "test"),
            lambda path: npz.read(path, "train", classes=["a", "b"]),
            lambda path: registry.load(str(path), "train"),
        ),
    ),
    Parser(name="npy_header", file="images.npz", seeds=_npy_texts, readers=(read_npy_text,)),
    Parser(
        name="idx",
        file="t10k-images-idx3-ubyte",
        seeds=_idx,
        beside=_idx_beside,
        readers=(
            idx.read_array,
            lambda path: idx.read(path.parent, "test", name="mnist", classes=[str(k) for k in range(10)]),
        ),
    ),
    Parser(
        name="cifar_archive",
        file="cifar-10-binary.tar.gz",
        seeds=_archives,
        readers=(lambda path: cifar.read(path, "test", name="cifar10"),),
    ),
    Parser(name="cifar_tar", file="cifar-10-binary.tar.gz", seeds=_tars, readers=(read_tar,)),
    Parser(
        name="cifar_batch",
        file="cifar-10-batches-bin/test_batch.bin",
        seeds=lambda: [_BATCH, _BATCH * 2],
        beside=lambda: {f"cifar-10-batches-bin/{name}": content for name, content in _BESIDE.items()},
        readers=(lambda path: cifar.read(path.parent, "test", name="cifar10"),),
    ),
    Parser(
        name="cifar_names",
        file="cifar-10-batches-bin/batches.meta.txt",
        seeds=lambda: list(_BESIDE.values()),
        beside=lambda: {"cifar-10-batches-bin/test_batch.bin": _BATCH},
        readers=(lambda path: cifar.read(path.parent, "test", name="cifar10"),),
    ),
    Parser(
        name="image_folder",
        file="images/cat/a.png",
        seeds=_images,
        readers=(_read_folder, _read_resized, _read_cropped),
    ),
    Parser(name="labels", file="val.txt", seeds=_label_files, readers=(_read_labels,)),
    Parser(name="class_map", file="map", seeds=_class_maps, readers=(class_map.read,)),
]
