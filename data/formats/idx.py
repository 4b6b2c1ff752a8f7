"""IDX files, the format of MNIST and Fashion-MNIST, plain or gzipped.

A file begins with two zero bytes, a type byte (8 for uint8) and the number of dimensions D. D sizes as big-endian
uint32 follow, then the bytes of the array, the last index fastest.
"""

import gzip
import io
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.data.dataset import Dataset, from_arrays
from maxup_smoothing.data.runtime.untrusted import Unpacked, most_unpacked

_UINT8, _MOST_DIMENSIONS = 8, 4
_GZIP_MAGIC = b"\x1f\x8b"
_PREFIXES = {"train": "train", "test": "t10k"}
_FOLDERS = {
    "mnist": ("mnist", "MNIST/raw"),
    "fashion-mnist": ("fashion-mnist", "fashion_mnist", "FashionMNIST/raw"),
}


def find(root: Path, name: str) -> Path | None:
    """The folder under ``root`` with the IDX files of ``name`` (mnist or fashion-mnist); None if there is none.

    Looks into ``root/<name>``, torchvision's ``root/MNIST/raw`` or ``root/FashionMNIST/raw``, and ``root`` itself.
    The two datasets use the same file names, so what is found still has to be compared with the official content.
    """
    for folder in (*(root / name for name in _FOLDERS[name]), root):
        if any(_find_file(folder, f"{prefix}-images", 3) for prefix in _PREFIXES.values()):
            return folder
    return None


def read(folder: Path, split: str, *, name: str, classes: Sequence[str]) -> Dataset:
    """Read one split of a dataset laid out as MNIST is.

    Args:
        folder: Holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` or ``t10k-...``, perhaps with ``.gz``.
        split: ``train`` or ``test``.
        name: Goes into ``Dataset.name``.
        classes: The class names.

    Returns:
        The dataset, images of shape (N, 1, H, W).

    Raises:
        FileNotFoundError: If one of the two files is missing.
        ValueError: If a file is damaged, or the two do not belong together.
    """
    arrays = []
    for kind, ndim in (("images", 3), ("labels", 1)):
        stem = f"{_PREFIXES[split]}-{kind}"
        path = _find_file(folder, stem, ndim)
        if path is None:
            raise FileNotFoundError(f"{folder}: no {stem}-idx{ndim}-ubyte(.gz); put the four files of {name} there.")
        array = read_array(path)
        if array.ndim != ndim:
            raise ValueError(f"{path}: expected {ndim} dimensions, got shape {array.shape}; were two files swapped?")
        arrays.append(array)
    return from_arrays(*arrays, source=str(folder), name=name, split=split, classes=classes)


def read_array(path: Path) -> NDArray[np.uint8]:
    """Read the one array of a uint8 IDX file.

    Args:
        path: The file; whether it is gzipped is seen from its first bytes, not from its name.

    Returns:
        uint8, of the shape that the file states.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the header is not that of a uint8 IDX file, or the length is not exactly what it announces.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    content = path.read_bytes()
    if content.startswith(_GZIP_MAGIC):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
                content = Unpacked(stream, most_unpacked(len(content))).read()
        except (EOFError, zlib.error, gzip.BadGzipFile, ValueError) as error:
            raise ValueError(f"{path}: the gzip data is damaged or cut off ({error}); download it again.") from error
    if len(content) < 4 or content[:2] != b"\0\0":
        raise ValueError(
            f"{path}: expected an IDX file, which begins with the bytes 00 00, got {content[:4].hex(' ') or 'nothing'}."
        )
    kind, ndim = content[2], content[3]
    if kind != _UINT8 or not 1 <= ndim <= _MOST_DIMENSIONS:
        raise ValueError(
            f"{path}: expected an IDX file of uint8 (type 8) of at most {_MOST_DIMENSIONS} "
            f"and 1 or more dimensions, got type {kind} with {ndim}."
        )
    header = 4 + 4 * ndim
    if len(content) < header:
        raise ValueError(f"{path}: cut off inside its header, {len(content)} of {header} bytes; download it again.")
    shape = tuple(int(size) for size in np.frombuffer(content, dtype=">u4", count=ndim, offset=4))
    expected = header + math.prod(shape)
    if len(content) != expected:
        raise ValueError(
            f"{path}: its header announces shape {shape}, {expected} bytes in all, but it has {len(content)}; "
            "download it again."
        )
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def _find_file(folder: Path, stem: str, ndim: int) -> Path | None:
    # Some unpackers write a dot before idx.
    for name in (f"{stem}-idx{ndim}-ubyte", f"{stem}-idx{ndim}-ubyte.gz", f"{stem}.idx{ndim}-ubyte"):
        if (folder / name).is_file():
            return folder / name
    return None
