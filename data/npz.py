"""Datasets in one NumPy archive, read without pickles.

Two layouts:

- with splits: ``x_train, y_train, x_test, y_test`` and optionally ``classes``;
- without: ``images, labels`` and optionally ``classes``.

Images are uint8 of shape (N, H, W) or (N, H, W, C), labels integers of shape (N,), classes strings of shape (K,).
Other keys are left alone.
"""

import math
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from data.bounded import most_unpacked
from data.dataset import Dataset, from_arrays

_SPLITS = ("train", "test")
_LAYOUTS = "images, labels (no splits) or x_train, y_train, x_test, y_test"


def find(root: Path, name: str) -> Path | None:
    """The archive of dataset ``name`` directly under ``root``, spelled with hyphens or underscores; None if absent."""
    for stem in dict.fromkeys((name.replace("-", "_"), name)):
        path = root / f"{stem}.npz"
        if path.is_file():
            return path
    return None


def read(path: Path, split: str, *, name: str | None = None, classes: Sequence[str] | None = None) -> Dataset:
    """Read one split of a dataset, or the whole of a file that has no splits.

    Args:
        path: The archive.
        split: ``train`` or ``test``; ignored by a file without splits, whose split is then recorded as ``file``.
        name: Goes into ``Dataset.name``; None for the path.
        classes: Class names that win over those in the file; None for the file's own, or "0" .. "K-1".

    Returns:
        The dataset, images of shape (N, C, H, W).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no archive, is damaged, holds pickled objects, lacks a key, or its arrays are not images
            and labels; or if ``split`` is not one of the file's.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; give the path of an .npz file.")
    try:
        # A stream of our own: np.load(path) leaves its file open when the zip directory is damaged.
        with path.open("rb") as stream, _open(stream, path) as archive:
            return _read(archive, path, split, name, classes)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        raise ValueError(f"{path}: the archive is damaged or incomplete ({error}); copy or save it again.") from error


def _open(stream: BinaryIO, path: Path) -> "np.lib.npyio.NpzFile":
    try:
        archive = np.load(stream, allow_pickle=False)
    except ValueError as error:  # numpy takes whatever it does not know for a pickle
        raise ValueError(f"{path} is not an .npz archive; write one with np.savez_compressed.") from error
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise ValueError(
            f"{path} is a single array, not an .npz archive; save images and labels with np.savez_compressed."
        )
    return archive


def _read(
    archive: "np.lib.npyio.NpzFile", path: Path, split: str, name: str | None, classes: Sequence[str] | None
) -> Dataset:
    keys = set(archive.files)
    if {"images", "labels"} <= keys:
        split, images_key, labels_key = "file", "images", "labels"
    elif keys & {"x_train", "x_test"}:
        if split not in _SPLITS:
            raise ValueError(f"{path} has the splits train and test, got split={split!r}.")
        images_key, labels_key = f"x_{split}", f"y_{split}"
    else:
        images_key, labels_key = "images", "labels"
    missing = [key for key in (images_key, labels_key) if key not in keys]
    if missing:
        raise ValueError(
            f"{path}: expected the arrays {_LAYOUTS}; {' and '.join(missing)} missing, found "
            f"{', '.join(sorted(keys)) or 'nothing'}; save them under these names."
        )
    if classes is None and "classes" in keys:
        classes = _class_names(_array(archive, "classes", path), path)
    return from_arrays(
        _array(archive, images_key, path),
        _array(archive, labels_key, path),
        source=f"{path} ({images_key}, {labels_key})",
        name=str(path) if name is None else name,
        split=split,
        classes=classes,
    )


def _array(archive: "np.lib.npyio.NpzFile", key: str, path: Path) -> NDArray[np.generic]:
    try:
        _require_honest(archive, key, path)
        array = archive[key]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError):
        raise  # `read` says that the archive is damaged
    except Exception as error:  # headers are parsed as Python literals, which fail in many ways
        raise ValueError(
            f"{path}: {key} cannot be read without pickle ({str(error)[:200]}); save it as a plain array of uint8, "
            "integers or strings, not of objects or of lists of different lengths."
        ) from error
    if not isinstance(array, np.ndarray):  # numpy hands out a member that is no .npy file as bytes
        raise ValueError(f"{path}: {key} is not a NumPy array; write the file with np.savez_compressed.")
    return array


def _require_honest(archive: "np.lib.npyio.NpzFile", key: str, path: Path) -> None:
    """Refuse a member that unpacks to far more than the file, or claims more than it has: numpy would make room."""
    zipped = archive.zip
    assert zipped is not None, "the archive is closed"
    member = zipped.getinfo(key if key in zipped.namelist() else f"{key}.npy")
    if member.file_size > (most := most_unpacked(path.stat().st_size)):
        raise ValueError(f"it unpacks to {member.file_size:,} bytes, more than the {most:,} that this file may hold")
    with zipped.open(member) as stream:
        if stream.read(6) != b"\x93NUMPY":
            return  # no array, which `_array` says
    with zipped.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
        left = member.file_size - stream.tell()
    if not dtype.hasobject and (min(shape, default=0) < 0 or math.prod(shape) * max(1, dtype.itemsize) > left):
        raise ValueError(f"its header claims the shape {str(shape)[:100]}, more than is there")


def _class_names(names: NDArray[np.generic], path: Path) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError(
            f"{path}: classes must be strings of shape (K,), got {names.dtype} of shape {names.shape}; "
            "save np.array(['cat', 'dog'])."
        )
    return tuple(str(name) for name in names)
