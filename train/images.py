"""The images of a run, looked at as a whole before it begins: both halves, all classes, and which are held out."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.data import official, registry, seen
from maxup_smoothing.data.dataset import Dataset
from maxup_smoothing.data.formats import parquet
from maxup_smoothing.data.lazy import Files, LazyImages
from maxup_smoothing.data.preprocessing import Preprocessing
from maxup_smoothing.data.subset import representative, spread

CHOICE = "choice"  # in the state of a run: how its held-out and probe images were chosen
_MOST_DECODED = 20_000  # images on disk whose pixels are looked at before a run; of more, files are compared
_NAMED = 5  # classes in a message


def load(
    name: str, data_root: Path | None, preprocessing: Preprocessing | None = None, *, from_disk: bool = False
) -> Dataset:
    """The images to train on.

    Args:
        name: See ``data.registry``.
        data_root: Where data sets lie.
        preprocessing: Brings images of any size to one.
        from_disk: Whether they may be decoded when they are asked for, and not all of them now.

    Raises:
        ValueError: If there is no such data set, it is damaged, or has no labels or one class.
        OSError: If files cannot be read.
    """
    dataset = registry.load(name, "train", data_root, preprocessing=preprocessing, lazy=from_disk)
    if not from_disk and not isinstance(dataset.images, np.ndarray):
        dataset = replace(dataset, images=np.asarray(dataset.images))
    if not dataset.labelled:
        raise ValueError(
            f"{name} has images without labels, and training needs labels; give one folder of images per class, or an "
            ".npz with labels."
        )
    if dataset.num_classes < 2:
        raise ValueError(f"{name} has one class, so there is nothing to tell apart; give at least two.")
    return dataset


def check(
    dataset: Dataset, holdout: int, preprocessing: Preprocessing | None = None, *, skip_unreadable: bool = False
) -> None:
    """Say on stderr what is strange about a data set, before a run begins.

    That both halves have images of one shape and the same classes was seen when it was read.

    Args:
        dataset: The training half, or all images of a data set without halves.
        holdout: How many images will be withheld from training.
        preprocessing: With which they were loaded.
        skip_unreadable: Whether files that cannot be read are passed over.

    Raises:
        ValueError: If the test half is damaged.
    """
    test = _test_half(dataset, preprocessing)
    held = measured(dataset.labels, min(holdout, len(dataset.labels)), even=False, held_out=True)
    for warning in _warnings(dataset, held, test, skip_unreadable):
        print(f"warning: {warning}", file=sys.stderr)


def measured(labels: NDArray[np.int64], count: int, *, even: bool, held_out: bool) -> NDArray[np.int64]:
    """Numbers of ``count`` images to measure on, in which classes have their shares.

    Args:
        labels: Of all images, (N,).
        count: In [0, N].
        even: Evenly spread in any case, as in runs that older versions have begun.
        held_out: Whether they are withheld from training, which then needs images of all classes, too.

    Returns:
        int64, (count,), ascending.
    """
    return spread(len(labels), count) if even else representative(labels, count, leave=held_out)


def readable(images: NDArray[np.uint8] | LazyImages, numbers: NDArray[np.int64], *, skip: bool) -> NDArray[np.int64]:
    """Those of some numbers whose images can be read; all of them where none may be skipped, or all are in memory."""
    if not skip or not isinstance(images, LazyImages):
        return numbers
    found = []
    for number in numbers.tolist():
        try:
            images[number]
        except ValueError:  # what cannot be read; it is counted where it is trained on
            continue
        found.append(number)
    return np.array(found, dtype=np.int64)


def record(folder: Path, trained: NDArray[np.uint8] | LazyImages, numbers: NDArray[np.int64], init: str) -> None:
    """Leave the hashes of the images that are trained on in a run folder, with those of the run that it begins with.

    Args:
        folder: Of the run.
        trained: Images, uint8, (N, C, H, W).
        numbers: Of those that are trained on.
        init: The key of the configuration.

    Raises:
        OSError: If they cannot be written.
    """
    before = seen.read(Path(init) if Path(init).is_dir() else Path(init).parent) if init else None
    if not _hashed(trained):
        return
    own = seen.hashes(trained, numbers.tolist())
    seen.write(folder, own if before is None else np.concatenate([own, before]))


def _hashed(images: NDArray[np.uint8] | LazyImages) -> bool:
    """Whether images are hashed: all that are in memory, and of others as many as are decoded in a few minutes."""
    return isinstance(images, np.ndarray) or len(images) <= _MOST_DECODED


def _test_half(dataset: Dataset, preprocessing: Preprocessing | None) -> Dataset | None:
    """The test half; None if there is none, or both halves are official ones, which are known to go together."""
    if dataset.name in official.CLASSES or dataset.split != "train":
        return None
    path = Path(dataset.name)
    if path.is_dir() and not parquet.find(path):
        there = any(part.is_dir() and part.name[0] != "." for part in path.glob("test/*"))
    elif path.suffix.lower() != ".npz":
        return None
    else:
        with np.load(path, allow_pickle=False) as archive:
            there = bool({"x_test", "y_test"} & set(archive.files))
    if not there:
        return None
    return registry.load(
        dataset.name, "test", preprocessing=preprocessing, lazy=not isinstance(dataset.images, np.ndarray)
    )


def _warnings(train: Dataset, held: NDArray[np.int64], test: Dataset | None, skip: bool) -> list[str]:
    trained = np.delete(train.labels, held)
    sizes = np.bincount(train.labels, minlength=train.num_classes)
    found = []
    if (empty := np.flatnonzero(sizes == 0)).size:
        tested = 0 if test is None else int(np.isin(test.labels, empty).sum())
        of_test = f", of which there are {tested} test images" if tested else ""
        fix = ""
        if empty.tolist() == [0] and train.classes == tuple(map(str, range(train.num_classes))):
            fix = "; if labels are counted from 1, save labels - 1"
        found.append(
            f"{train.name}: no training image is of {_classes(train, empty)}{of_test}; the network will have "
            f"{train.num_classes} classes all the same{fix}."
        )
    if (lost := np.flatnonzero((np.bincount(trained, minlength=train.num_classes) == 0) & (sizes > 0))).size:
        found.append(f"holdout = {len(held)} leaves no training image of {_classes(train, lost)}; lower it.")
    if test is not None:
        both = _in_both(train, np.setdiff1d(np.arange(len(train.labels)), held), test, skip)
        if both.any():
            found.append(
                f"{train.name}: {both.sum()} of {both.size} test images are trained on, the first is number "
                f"{both.argmax()}; accuracy on them says nothing about others, so take them out of one half."
            )
    return found


def _in_both(train: Dataset, numbers: NDArray[np.int64], test: Dataset, skip: bool) -> NDArray[np.bool_]:
    """Which test images are among the training images of these numbers: by their pixels, or by their files if many.

    Of those that can be read, if others are skipped.
    """
    if _hashed(train.images) and _hashed(test.images):
        known = seen.hashes(train.images, readable(train.images, numbers, skip=skip).tolist())
        tested = readable(test.images, np.arange(len(test.labels)), skip=skip)
        return np.isin(seen.hashes(test.images, tested.tolist()), known)
    sources = [half.images.source for half in (test, train) if isinstance(half.images, LazyImages)]
    if len(sources) == 2 and isinstance(sources[0], Files) and isinstance(sources[1], Files):
        return seen.same_files(sources[0], sources[1], numbers)
    return np.zeros(len(test.labels), dtype=bool)


def _classes(dataset: Dataset, numbers: NDArray[np.int64]) -> str:
    names = [f"{k}" if dataset.classes[k] == str(k) else f"{k} ({dataset.classes[k]})" for k in numbers[:_NAMED]]
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    return f"{'class' if len(numbers) == 1 else 'classes'} {', '.join(names)}{more} of {dataset.num_classes}"
