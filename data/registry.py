"""From a name to a dataset: what is under the user's data root, else the official files, downloaded once."""

import dataclasses
import difflib
from pathlib import Path

import numpy as np

from maxup_smoothing.data import download, official
from maxup_smoothing.data.dataset import Dataset
from maxup_smoothing.data.formats import cifar, folder, idx, npz, parquet
from maxup_smoothing.data.formats.picture import is_image
from maxup_smoothing.data.lazy import LazyImages, Stored
from maxup_smoothing.data.preprocessing import Preprocessing

__all__ = ["Dataset", "load", "names"]

_SPLITS = ("train", "test")
_SAMPLE = Path(__file__).parent / "samples" / "fashion_sample.npz"
_IDX = ("mnist", "fashion-mnist")


def names() -> tuple[str, ...]:
    """The registered names. The first needs neither files nor a network."""
    return tuple(official.CLASSES)


def load(
    name: str,
    split: str,
    root: Path | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    labels: Path | None = None,
    lazy: bool = False,
) -> Dataset:
    """Load one split of a dataset.

    A registered dataset is sought under ``root``, as ``<name>.npz`` or in its official files, and downloaded into the
    user's cache if it is not there; wherever it came from, it is compared with the official content.

    Args:
        name: A registered name (``names()``) or a path. The path may be of an ``.npz`` file (see ``formats.npz``), of a
            folder of class folders or of images (see ``formats.folder``), or of one image. It may also be of Parquet
            files of Hugging Face (see ``formats.parquet``). A folder that is called like a registered dataset is
            ``./name``.
        split: ``train``, ``test`` or ``val``. Files and folders without splits are used whole, whatever it is, and
            record ``file`` or ``folder`` instead.
        root: Where the user keeps registered datasets; None for nowhere. Paths are not taken relative to it.
        preprocessing: Brings images to one size, each when it is asked for; None for pixels as they are stored. Images
            of arrays that are gray stay gray.
        labels: A file with the labels of a folder of images that are not in class folders; see ``data.labels``.
        lazy: Whether the images of a large folder may be such that each is decoded when it is asked for.

    Returns:
        The dataset, images uint8 of shape (N, C, H, W).

    Raises:
        ValueError: If ``name`` or ``split`` is unknown, or the data is damaged or not what its name says.
        FileNotFoundError: If ``root`` or the file does not exist.
        OSError: If the download fails.
    """
    path = Path(name)
    registered = name in official.CLASSES
    if labels is not None and (registered or not path.is_dir() or parquet.find(path)):
        raise ValueError(f"{name} is not a folder of images, and says its labels itself; leave --labels out.")
    if registered:
        return _prepared(_load_registered(name, split, root), preprocessing)
    if parquet.find(path):
        return parquet.read(path, split, name=name, preprocessing=preprocessing, lazy=lazy)
    if path.is_dir():
        return folder.read(path, split, name=name, preprocessing=preprocessing, labels=labels, lazy=lazy)
    if path.suffix.lower() == ".npz":
        return _prepared(npz.read(path, split, name=name), preprocessing)
    if is_image(path):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file; give the path of an image.")
        return folder.read_file(path, name=name, preprocessing=preprocessing)
    nearest = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise ValueError(
        f"unknown dataset {name!r}; {hint}Valid: {', '.join(names())}, the path of an image, of a .parquet or of an "
        ".npz file, or the path of a folder with one folder of images per class, or with images alone."
    )


def _load_registered(name: str, split: str, root: Path | None) -> Dataset:
    if split not in _SPLITS:
        raise ValueError(f"{name} has the splits {' and '.join(_SPLITS)}, got split={split!r}.")
    source = _SAMPLE if name == "fashion-sample" else (_find(name, root) or _fetch(name))
    if source.suffix == ".npz":
        dataset = npz.read(source, split, name=name, classes=official.CLASSES[name])
    elif name in _IDX:
        dataset = idx.read(source, split, name=name, classes=official.CLASSES[name])
    else:
        dataset = cifar.read(source, split, name=name)
    official.check(dataset, str(source))
    return dataset


def _prepared(dataset: Dataset, preprocessing: Preprocessing | None) -> Dataset:
    """Images of an array as preprocessing makes them, each when it is asked for."""
    if preprocessing is None:
        return dataset
    stored = np.asarray(dataset.images)
    how = dataclasses.replace(preprocessing, grayscale=preprocessing.grayscale or stored.shape[1] == 1)
    images = LazyImages(Stored(stored, dataset.name, dataset.fingerprint), how)
    return dataclasses.replace(dataset, images=images)


def _find(name: str, root: Path | None) -> Path | None:
    if root is None:
        return None
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; the data root must be an existing folder.")
    return npz.find(root, name) or (idx.find(root, name) if name in _IDX else cifar.find(root, name))


def _fetch(name: str) -> Path:
    files = download.fetch(name)
    return files[0].parent if name in _IDX else files[0]
