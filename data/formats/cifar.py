"""CIFAR-10 and CIFAR-100 in their binary version: the official archive, read in place, or its unpacked folder.

A record is one label byte (CIFAR-10) or a coarse and a fine one (CIFAR-100, of which the fine one is used), then the
32x32 red, green and blue planes. The binary version is the one without pickles.
"""

import gzip
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from maxup_smoothing.data.dataset import Dataset, from_arrays
from maxup_smoothing.data.runtime.untrusted import Unpacked, read_bytes

_PIXELS = 3 * 32 * 32
_LARGEST_ARCHIVE = 300_000_000  # unpacked; the official ones have 185 MB
_LARGEST_FILE = 50_000 * (2 + _PIXELS)
_LARGEST_NAMES = 100_000
_MOST_MEMBERS = 1000


@dataclass(frozen=True, kw_only=True)
class _Layout:
    archive: str
    folder: str
    labels: str  # the file that names the classes
    batches: dict[str, tuple[str, ...]]
    label_bytes: int


_LAYOUTS = {
    "cifar10": _Layout(
        archive="cifar-10-binary.tar.gz",
        folder="cifar-10-batches-bin",
        labels="batches.meta.txt",
        batches={"train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)), "test": ("test_batch.bin",)},
        label_bytes=1,
    ),
    "cifar100": _Layout(
        archive="cifar-100-binary.tar.gz",
        folder="cifar-100-binary",
        labels="fine_label_names.txt",
        batches={"train": ("train.bin",), "test": ("test.bin",)},
        label_bytes=2,
    ),
}


def find(root: Path, name: str) -> Path | None:
    """The archive or folder of ``name`` (cifar10 or cifar100) in ``root`` or ``root/<name>``; None if there is none."""
    layout = _LAYOUTS[name]
    for parent in (root, root / name):
        if (parent / layout.folder).is_dir():
            return parent / layout.folder
        if (parent / layout.archive).is_file():
            return parent / layout.archive
    return root if all((root / file).is_file() for file in layout.batches["test"]) else None


def read(source: Path, split: str, *, name: str) -> Dataset:
    """Read one split.

    Args:
        source: The ``.tar.gz`` archive, of which only the split's files are read, or the unpacked folder.
        split: ``train`` or ``test``.
        name: ``cifar10`` or ``cifar100``.

    Returns:
        The dataset, images of shape (N, 3, 32, 32), the batches one after the other.

    Raises:
        FileNotFoundError: If ``source`` is neither a file nor a folder, or the folder lacks a file.
        ValueError: If the archive is damaged or lacks a file, or a file is no whole number of records.
    """
    layout = _LAYOUTS[name]
    batches = layout.batches[split]
    wanted = (*batches, layout.labels)
    files = _from_folder(source, wanted) if source.is_dir() else _from_archive(source, layout.folder, wanted)
    record = layout.label_bytes + _PIXELS
    for batch in batches:
        if not files[batch] or len(files[batch]) % record:
            raise ValueError(
                f"{source}: {batch} must be a whole number of records of {record} bytes, got {len(files[batch])} "
                "bytes; get it again."
            )
    rows = np.concatenate([np.frombuffer(files[batch], dtype=np.uint8).reshape(-1, record) for batch in batches])
    planes_NCHW = rows[:, layout.label_bytes :].reshape(-1, 3, 32, 32)
    return from_arrays(
        planes_NCHW.transpose(0, 2, 3, 1),
        rows[:, layout.label_bytes - 1],
        source=str(source),
        name=name,
        split=split,
        classes=files[layout.labels].decode("ascii", "replace").split(),
    )


def _from_folder(folder: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{folder}: {', '.join(missing)} missing; unpack the archive again.")
    return {name: read_bytes(folder / name, _most(name)) for name in wanted}


def _most(name: str) -> int:
    return _LARGEST_NAMES if name.endswith(".txt") else _LARGEST_FILE


def _from_archive(archive: Path, folder: str, wanted: tuple[str, ...]) -> dict[str, bytes]:
    if not archive.is_file():
        raise FileNotFoundError(f"{archive}: no such file or folder.")
    files: dict[str, bytes] = {}
    names = {f"{folder}/{name}": name for name in wanted}
    try:
        with gzip.open(archive) as unzipped:
            stream = Unpacked(unzipped, _LARGEST_ARCHIVE)
            # "r:" is plain tar: otherwise another compression inside is looked for, and unpacked without a limit.
            with tarfile.open(fileobj=cast(BinaryIO, stream), mode="r:") as tar:
                # In the archive's own order, because going back in a compressed file means decompressing it again.
                for number, member in enumerate(tar):
                    if member.size < 0 or member.issparse() or number >= _MOST_MEMBERS:  # it would never end
                        raise ValueError(f"its member number {number} is none that the official archive has")
                    name = names.get(member.name.removeprefix("./"))
                    if name and member.isfile():
                        files[name] = _member(tar, member, _most(name))
            while stream.read(1 << 20):  # to the end, where gzip checks its checksum
                pass
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        raise ValueError(f"{archive}: the archive is damaged or cut off ({error}); download it again.") from error
    missing = [path for path, name in names.items() if name not in files]
    if missing:
        raise ValueError(f"{archive}: {', '.join(missing)} missing; download the official archive again.")
    return files


def _member(tar: tarfile.TarFile, member: tarfile.TarInfo, largest: int) -> bytes:
    if member.size > largest:
        raise ValueError(f"{member.name} claims {member.size:,} bytes, more than the {largest:,} that it may have")
    stream = tar.extractfile(member)
    return b"" if stream is None else stream.read()
