"""Which images a run was trained on: a hash of each, beside its checkpoint, so that a test on them is noticed.

The hashes are 64 bits of BLAKE2b of shape and pixels: 8 bytes an image, 400 kB for CIFAR-10. They are kept in a file
and not made again from the training data, since that may have moved, changed or never been here. Among a million
training images another image has the hash of one with probability 5e-14.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.data.lazy import Files, LazyImages
from maxup_smoothing.data.runtime.atomic import file_sha256, write_atomically
from maxup_smoothing.data.runtime.untrusted import read_bytes

FILE = "train_images.hashes"
_LARGEST = 8 * 10**9


def hashes(images: NDArray[np.uint8] | LazyImages, indices: Sequence[int] | None = None) -> NDArray[np.uint64]:
    """One hash for each image of (N, C, H, W), or for those at ``indices``, in their order."""
    shape = np.asarray(images.shape[1:], dtype="<i8").tobytes()
    chosen = images if indices is None else (images[index] for index in indices)  # one at a time: there may be many
    found = [hashlib.blake2b(shape + image.tobytes(), digest_size=8).digest() for image in chosen]
    return np.frombuffer(b"".join(found), dtype="<u8").astype(np.uint64)


def same_files(files: Files, trained: Files, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which files are copies, byte for byte, of files that are trained on; nothing is decoded.

    Only files that have the size of one on the other side are read.

    Args:
        files: Of N images.
        trained: Other files.
        numbers: Of those among them that are trained on.

    Returns:
        bool, (N,).

    Raises:
        OSError: If a file that was there can no longer be read.
    """
    sizes_N, others_T = np.asarray(files.sizes), np.asarray(trained.sizes)[numbers]
    alike_N, alike_T = np.isin(sizes_N, others_T) & (sizes_N > 0), np.isin(others_T, sizes_N) & (others_T > 0)
    known = {file_sha256(trained.root / trained.names[number]) for number in numbers[alike_T].tolist()}
    for number in np.flatnonzero(alike_N).tolist():
        alike_N[number] = file_sha256(files.root / files.names[number]) in known
    return alike_N


def write(folder: Path, trained: NDArray[np.uint64]) -> None:
    """Record in a run folder that the images of these hashes are trained on.

    Raises:
        OSError: If the file cannot be written.
    """
    write_atomically(folder / FILE, np.unique(trained).astype("<u8").tobytes())


def read(folder: Path) -> NDArray[np.uint64] | None:
    """The hashes that were written in a run folder; None if none were, as by older versions.

    Raises:
        ValueError: If the file is damaged.
    """
    path = folder / FILE
    if not path.exists():
        return None
    content = read_bytes(path, _LARGEST)
    if len(content) % 8:
        raise ValueError(f"{path} is damaged: it is cut off; delete it, and training images are no longer noticed.")
    return np.frombuffer(content, dtype="<u8").astype(np.uint64)
