"""Make ``fashion_sample.npz`` again: ``python -m data.samples.make --fashion-mnist DIR_OR_NPZ``.

The rule is fixed: of each class the first 800 training and the first 200 test images of Fashion-MNIST, in official
order. No image was chosen by looking at it or at a model's answer.
"""

import argparse
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.data import official
from maxup_smoothing.data.dataset import Dataset
from maxup_smoothing.data.formats import idx, npz
from maxup_smoothing.data.runtime import atomic, console

PER_CLASS: Mapping[str, int] = {"train": 800, "test": 200}
_DESTINATION = Path(__file__).with_name("fashion_sample.npz")


def first_of_each_class(labels: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Indices of the first ``count`` examples of every class, ascending.

    Args:
        labels: Integers >= 0, shape (N,).
        count: Examples per class, 1 or more.

    Returns:
        int64, shape (K * count,), strictly increasing.

    Raises:
        ValueError: If a class has fewer than ``count`` examples.
    """
    chosen = []
    for k in np.unique(labels):
        of_class = np.flatnonzero(labels == k)
        if len(of_class) < count:
            raise ValueError(f"expected {count} examples of class {k}, got {len(of_class)}; give the full set.")
        chosen.append(of_class[:count])
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def archive(full: Mapping[str, Dataset], per_class: Mapping[str, int] = PER_CLASS) -> bytes:
    """The sample as the bytes of an ``.npz`` file without pickles.

    Args:
        full: ``train`` and ``test`` of Fashion-MNIST; only grayscale images.
        per_class: Images of each class to take from each of them.

    Returns:
        The same bytes for the same content, as long as zlib and NumPy compress alike.

    Raises:
        ValueError: If a class has too few images.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    for split, count in per_class.items():
        index = first_of_each_class(full[split].labels, count)
        arrays[f"x_{split}"] = full[split].images[index, 0]
        arrays[f"y_{split}"] = full[split].labels[index].astype(np.uint8)
        arrays[f"{split}_index"] = index.astype(np.int32)
    arrays["classes"] = np.array(full["train"].classes)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def main() -> None:
    """Parse the command line and write the sample beside this file, or where ``--output`` says."""
    parser = argparse.ArgumentParser(prog="python -m data.samples.make", description="Make the embedded sample again.")
    parser.add_argument("--fashion-mnist", type=Path, required=True, metavar="DIR_OR_NPZ", help="the full dataset")
    parser.add_argument("--output", type=Path, default=_DESTINATION, metavar="FILE")
    arguments = parser.parse_args()
    source = arguments.fashion_mnist
    full = {split: _read(source, split) for split in PER_CLASS}
    for dataset in full.values():
        official.check(dataset, str(source))
    content = archive(full)
    atomic.write_atomically(arguments.output, content)
    print(f"{hashlib.sha256(content).hexdigest()}  {arguments.output}")


def _read(source: Path, split: str) -> Dataset:
    classes = official.CLASSES["fashion-mnist"]
    if source.is_dir():
        return idx.read(source, split, name="fashion-mnist", classes=classes)
    return npz.read(source, split, name="fashion-mnist", classes=classes)


if __name__ == "__main__":
    console.run(main)
