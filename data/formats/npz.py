"""Datasets in one NumPy archive, read without pickles.

Three layouts, each with or without ``classes``:

- with splits: ``x_train, y_train, x_test, y_test``; also ``x_val, y_val`` (or ``valid``, ``validation``);
- without: ``images, labels``;
- ``images`` alone, or a split without its labels, whose classes are not known.

Images are uint8 of shape (N, H, W) or (N, H, W, C), labels integers of shape (N,), classes strings of shape (K,).
Other keys are left alone.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.data.dataset import SPELLINGS, Dataset, choose_half, from_arrays
from maxup_smoothing.data.runtime.untrusted import most_unpacked

_LAYOUTS = "images, labels (no splits) or x_train, y_train, x_test, y_test"
_HALF_KEYS = {f"x_{half}": half for half in SPELLINGS}


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
        split: ``train``, ``test`` or ``val``; ignored by a file without splits, whose split is then recorded as
            ``file``.
        name: Goes into ``Dataset.name``; None for the path.
        classes: Class names that win over those in the file; None for the file's own, or "0" .. "K-1".

    Returns:
        The dataset, images of shape (N, C, H, W).

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no archive, is damaged, holds pickled objects, lacks a key, or its arrays are not images
            and labels; or if ``split`` is not one of the file's, or its splits have images of different shapes.
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
    halves = [half for key, half in _HALF_KEYS.items() if key in keys]
    images_key, labels_key, notes = "images", "labels", tuple[str, ...]()
    if {"images", "labels"} <= keys or not halves:
        split, halves = "file", []
    elif split in ("train", "test") and split not in halves and set(halves) <= {"train", "test"}:
        images_key, labels_key = f"x_{split}", f"y_{split}"  # missing, as is said below
    else:
        spelled, split, notes = choose_half(halves, split, str(path))
        images_key, labels_key = f"x_{spelled}", f"y_{spelled}"
    known = {"images", "classes", *_HALF_KEYS, *(f"y_{half}" for half in SPELLINGS)}
    alone = images_key in keys and labels_key not in keys and keys <= known
    missing = [key for key in (images_key, *(() if alone else (labels_key,))) if key not in keys]
    if missing:
        raise ValueError(
            f"{path}: expected the arrays {_LAYOUTS}; {' and '.join(missing)} missing, found "
            f"{', '.join(sorted(keys)) or 'nothing'}; save them under these names."
        )
    if classes is None and "classes" in keys:
        classes = _class_names(_array(archive, "classes", path), path)
    if split == "train":
        _require_alike(archive, path, images_key, [f"x_{half}" for half in halves])
    others = [f"y_{half}" for half in halves if f"y_{half}" in keys and f"y_{half}" != labels_key]
    return from_arrays(
        _array(archive, images_key, path),
        None if alone else _array(archive, labels_key, path),
        source=f"{path} ({images_key})" if alone else f"{path} ({images_key}, {labels_key})",
        name=str(path) if name is None else name,
        split=split,
        classes=classes,
        at_least=0 if classes is not None else max((_classes_of(archive, key, path) for key in others), default=0),
        notes=notes,
    )


def _classes_of(archive: "np.lib.npyio.NpzFile", key: str, path: Path) -> int:
    """How many classes the labels of another part of the data set need; 0 for what `from_arrays` would refuse."""
    labels = _array(archive, key, path)
    return int(labels.max()) + 1 if labels.size and np.issubdtype(labels.dtype, np.integer) else 0


def _require_alike(archive: "np.lib.npyio.NpzFile", path: Path, own: str, keys: Sequence[str]) -> None:
    """Refuse another part of the data set whose images a classifier of these could not take."""
    shapes = dict[str, tuple[int, ...]]()
    for key in keys:
        with _reading(key, path):
            shapes |= {} if (shape := _honest_shape(archive, key, path)) is None else {key: shape[1:]}
    alike = {key: (*shape, 1) if len(shape) == 2 else shape for key, shape in shapes.items()}
    for key, shape in shapes.items():
        if own in shapes and alike[key] != alike[own]:
            raise ValueError(
                f"{path}: {own} has images of shape {shapes[own]}, but {key} of {shape}; bring them to one size and "
                "number of channels."
            )


def _array(archive: "np.lib.npyio.NpzFile", key: str, path: Path) -> NDArray[np.generic]:
    with _reading(key, path):
        _honest_shape(archive, key, path)
        array = archive[key]
    if not isinstance(array, np.ndarray):  # numpy hands out a member that is no .npy file as bytes
        raise ValueError(f"{path}: {key} is not a NumPy array; write the file with np.savez_compressed.")
    return array


@contextmanager
def _reading(key: str, path: Path) -> Iterator[None]:
    """Say what cannot be read."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError):
        raise  # `read` says that the archive is damaged
    except Exception as error:  # headers are parsed as Python literals, which fail in many ways
        raise ValueError(
            f"{path}: {key} cannot be read without pickle ({str(error)[:200]}); save it as a plain array of uint8, "
            "integers or strings (array.astype(str)), not of objects or of lists of different lengths."
        ) from error


def _honest_shape(archive: "np.lib.npyio.NpzFile", key: str, path: Path) -> tuple[int, ...] | None:
    """The shape that a member claims, None if it is no array.

    Refuse a member that unpacks to far more than the file, or claims more than it has: numpy would make room.
    """
    zipped = archive.zip
    assert zipped is not None, "the archive is closed"
    member = zipped.getinfo(key if key in zipped.namelist() else f"{key}.npy")
    if member.file_size > (most := most_unpacked(path.stat().st_size)):
        raise ValueError(f"it unpacks to {member.file_size:,} bytes, more than the {most:,} that this file may hold")
    with zipped.open(member) as stream:
        if stream.read(6) != b"\x93NUMPY":
            return None  # no array, which `_array` says
    with zipped.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
        left = member.file_size - stream.tell()
    if not dtype.hasobject and (min(shape, default=0) < 0 or math.prod(shape) * max(1, dtype.itemsize) > left):
        raise ValueError(f"its header claims the shape {str(shape)[:100]}, more than is there")
    return tuple(shape)


def _class_names(names: NDArray[np.generic], path: Path) -> tuple[str, ...]:
    if names.ndim == 1 and names.dtype.kind == "S":
        names = np.char.decode(names.astype(np.bytes_), "utf-8", "replace")
    if names.ndim != 1 or names.dtype.kind != "U":
        raise ValueError(
            f"{path}: classes must be strings of shape (K,), got {names.dtype} of shape {names.shape}; "
            "save np.array(['cat', 'dog'])."
        )
    return tuple(str(name) for name in names)
