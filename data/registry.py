"""From a name to a dataset: what is under the user's data root, else the official files, downloaded once."""

import difflib
from pathlib import Path

from maxup_smoothing.data import download, official
from maxup_smoothing.data.dataset import Dataset
from maxup_smoothing.data.formats import cifar, folder, idx, npz

__all__ = ["Dataset", "load", "names"]

_SPLITS = ("train", "test")
_SAMPLE = Path(__file__).parent / "samples" / "fashion_sample.npz"
_IDX = ("mnist", "fashion-mnist")


def names() -> tuple[str, ...]:
    """The registered names. The first needs neither files nor a network."""
    return tuple(official.CLASSES)


def load(name: str, split: str, root: Path | None = None) -> Dataset:
    """Load one split of a dataset.

    A registered dataset is sought under ``root``, as ``<name>.npz`` or in its official files, and downloaded into the
    user's cache if it is not there; wherever it came from, it is compared with the official content.

    Args:
        name: A registered name (``names()``), the path of an ``.npz`` file (see ``formats.npz``), of a folder of class
            folders or of images (see ``formats.folder``), or of one image. A folder that is called like a registered
            dataset is ``./name``.
        split: ``train``, ``test`` or ``val``. Files and folders without splits are used whole, whatever it is, and
            record ``file`` or ``folder`` instead.
        root: Where the user keeps registered datasets; None for nowhere. Paths are not taken relative to it.

    Returns:
        The dataset, images uint8 of shape (N, C, H, W).

    Raises:
        ValueError: If ``name`` or ``split`` is unknown, or the data is damaged or not what its name says.
        FileNotFoundError: If ``root`` or the file does not exist.
        OSError: If the download fails.
    """
    if name in official.CLASSES:
        return _load_registered(name, split, root)
    path = Path(name)
    if path.is_dir():
        return folder.read(path, split, name=name)
    if path.suffix.lower() == ".npz":
        return npz.read(path, split, name=name)
    if folder.is_image(path):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file; give the path of an image.")
        return folder.read_file(path, name=name)
    nearest = difflib.get_close_matches(name, names(), n=1)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise ValueError(
        f"unknown dataset {name!r}; {hint}Valid: {', '.join(names())}, the path of an image or of an .npz file, or the "
        "path of a folder with one folder of images per class, or with images alone."
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


def _find(name: str, root: Path | None) -> Path | None:
    if root is None:
        return None
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder; the data root must be an existing folder.")
    return npz.find(root, name) or (idx.find(root, name) if name in _IDX else cifar.find(root, name))


def _fetch(name: str) -> Path:
    files = download.fetch(name)
    return files[0].parent if name in _IDX else files[0]
