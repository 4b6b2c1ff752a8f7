"""Parquet files as Hugging Face's ``datasets`` writes them: encoded images and labels in columns, read with pyarrow.

Row groups are read when an image of theirs is asked for. Names of classes come from the metadata of the schema.
"""

import importlib
import io
import os
import re
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maxup_smoothing.data.dataset import SPELLINGS, Dataset, choose_half, from_images, listed
from maxup_smoothing.data.formats.picture import opened
from maxup_smoothing.data.lazy import images_of
from maxup_smoothing.data.preprocessing import Preprocessing
from maxup_smoothing.data.runtime import strict_json
from maxup_smoothing.data.runtime.untrusted import most_unpacked

_IMAGES, _LABELS = ("image", "img", "images"), ("label", "labels", "fine_label")
_PART = re.compile(r"-(\d{5})-of-(\d{5})")
_PLACES = ("", "data", *SPELLINGS, *(f"default/{half}" for half in SPELLINGS))  # of files below a folder
_FORM = "a column `image` of encoded images ({bytes, path}) and a column `label` of whole numbers"


def find(path: Path) -> list[Path]:
    """The Parquet files that a path means, sorted; none if it means something else."""
    if path.suffix.lower() == ".parquet" and not path.is_dir():
        return [path]
    if not path.is_dir():
        return []
    return sorted(file for place in _PLACES if (path / place).is_dir() for file in (path / place).glob("*.parquet"))


def read(
    path: Path, split: str, *, name: str | None = None, preprocessing: Preprocessing | None = None, lazy: bool = False
) -> Dataset:
    """Read one split of a data set in Parquet files.

    Args:
        path: A file, which is used whole; or a folder of files, in it, in its ``data``, or in folders of the splits.
            Their names begin with that of the split, unless there are no splits.
        split: ``train``, ``test`` or ``val``.
        name: Goes into ``Dataset.name``; None for the path.
        preprocessing: See ``data.lazy.images_of``.
        lazy: Likewise.

    Returns:
        The dataset. Labels are numbers with the names of the schema, or names of classes, which are sorted.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If pyarrow is missing, the files are damaged or lack a part or a column, or an image cannot be read.
    """
    files, recorded, notes = _of_split(path, split)
    source = Rows(path if path.is_dir() else path.parent, files)
    labels, classes = source.labels()
    return from_images(
        images_of(source, preprocessing, lazy=lazy),
        labels,
        source=str(path),
        name=str(path) if name is None else name,
        split=recorded,
        classes=classes,
        notes=notes,
    )


def _of_split(path: Path, split: str) -> tuple[list[Path], str, tuple[str, ...]]:
    files = find(path)
    if path in files:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file; give the path of a .parquet file.")
        return files, "file", ()
    halves: dict[str, list[Path]] = {}
    for file in files:
        first = re.split(r"[-_.]", file.name.lower())[0]
        half = next((word for word in (first, file.parent.name.lower()) if word in SPELLINGS), None)
        if half is not None:
            halves.setdefault(half, []).append(file)
    notes: tuple[str, ...] = ()
    recorded = "folder"
    if halves:
        if strange := [file.name for file in files if all(file not in own for own in halves.values())]:
            notes = (f"{path}: files of no split are passed over: {listed(strange)}.",)
        spelled, recorded, told = choose_half(list(halves), split, str(path))
        files, notes = halves[spelled], (*notes, *told)
    _require_all_parts(files)
    return files, recorded, notes


def _require_all_parts(files: Sequence[Path]) -> None:
    """Refuse files whose names say that there are others."""
    matches = [match for file in files if (match := _PART.search(file.name))]
    for total in {int(match[2]) for match in matches}:
        there = {int(match[1]) for match in matches if int(match[2]) == total}
        if missing := sorted(set(range(total)) - there):
            raise ValueError(
                f"{files[0].parent}: the names say that there are {total} files of this split, but part {missing[0]} "
                f"is missing ({len(missing)} of them are); download it, or give the path of one file."
            )


class Rows:
    """Encoded images in rows of Parquet files, at least one; see ``data.lazy.Source``.

    Args:
        root: The folder to which names in a fingerprint are relative.
        files: Their paths.

    Raises:
        ValueError: If one is damaged, lacks a column, or pyarrow is missing.
    """

    def __init__(self, root: Path, files: Sequence[Path]) -> None:
        self._root, self._files = root, list(files)
        self._groups: list[tuple[int, int]] = []  # number of the file, and of the row group in it
        self._open: tuple[int, int, Any] | None = None  # process, number of the file, the file
        self._read: tuple[int, int, Any] | None = None  # process, number of the row group, its images
        self._firsts: list[int] = []  # number of the first row of each file
        sizes: list[int] = []
        for number, path in enumerate(self._files):
            with _errors(path):
                metadata = self._file(number).metadata
                groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
                rows = [group.num_rows for group in groups]
                most = most_unpacked(path.stat().st_size)
                if max((group.total_byte_size for group in groups), default=0) > most or min(rows, default=0) < 0:
                    raise ValueError(f"a row group claims more than the {most:,} bytes that this file may hold")
            self._firsts.append(sum(sizes))
            self._groups += [(number, group) for group in range(len(rows))]
            sizes += rows
        self._ends = list(accumulate(sizes))
        if not self._ends or not self._ends[-1]:
            raise ValueError(f"{self._files[0]}: expected at least one image, got no rows.")
        self._columns  # noqa: B018  # refused now rather than later

    def __len__(self) -> int:
        """How many rows there are."""
        return self._ends[-1]

    @property
    def packed(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self._files)

    def name(self, index: int) -> str:
        """The file and the row."""
        number, _ = self._groups[self._group_of(index)]
        return f"{self._files[number]}, row {index - self._firsts[number]}"

    @contextmanager
    def opened(self, index: int) -> Iterator[Image.Image]:
        """See ``Source``."""
        content, name = self._bytes(index), self.name(index)
        if not content:
            raise ValueError(f"{name}: the image is not in the file, only its path; save the data set with its images.")
        with opened(io.BytesIO(content), name) as image:
            yield image

    def described(self) -> Iterator[bytes]:
        """Size and relative name of each file; rows are counted by the shape."""
        for path in self._files:
            yield f"{path.stat().st_size} {os.path.relpath(path, self._root)}\n".encode("utf-8", "surrogateescape")

    def labels(self) -> tuple[NDArray[np.generic] | None, Sequence[str] | None]:
        """The label of each row, and the names of classes; None for what the files do not say.

        Raises:
            ValueError: If labels are missing in some rows, or are neither numbers nor names.
        """
        column, found = self._columns[1], []
        if column is None:
            return None, None
        for number, path in enumerate(self._files):
            with _errors(path):
                values = self._file(number).read(columns=[column], use_threads=False).column(column).to_pylist()
                if None in values:
                    raise ValueError(f"row {values.index(None)} has no label")
                if any(type(value) is not type(values[0]) or type(value) not in (int, str) for value in values):
                    raise ValueError(f"labels must be whole numbers or names, got {str(values[0])[:50]!r}")
            found += values
        if found and isinstance(found[0], str):
            classes, numbers = np.unique(np.array(found), return_inverse=True)
            return numbers.astype(np.int64), classes.tolist()
        return np.array(found, dtype=np.int64), self._class_names(column)

    def _class_names(self, column: str) -> list[str] | None:
        names = self._features.get(column, {}).get("names")
        return names if isinstance(names, list) and all(isinstance(name, str) for name in names) else None

    @cached_property
    def _features(self) -> Mapping[str, Any]:
        """What Hugging Face's metadata tell of each column."""
        with _errors(self._files[0]):
            told = (self._file(0).schema_arrow.metadata or {}).get(b"huggingface")
        try:
            found = strict_json.parse(told)["info"]["features"] if told else {}
        except (ValueError, KeyError, TypeError):
            return {}
        return {k: v for k, v in found.items() if isinstance(v, dict)} if isinstance(found, dict) else {}

    @cached_property
    def _columns(self) -> tuple[str, str | None]:
        """The columns of images and of labels."""
        with _errors(self._files[0]):
            schema = self._file(0).schema_arrow
            kinds = {field.name: str(field.type) for field in schema}
        images = [name for name, kind in kinds.items() if "binary" in kind]
        image = next((name for name in _IMAGES if name in images), images[0] if len(images) == 1 else None)
        if image is None:
            raise ValueError(f"{self._files[0]}: expected {_FORM}, got the columns {listed(list(kinds))}.")
        others = [name for name, kind in kinds.items() if re.fullmatch(r"u?int\d+|string|large_string", kind)]
        named = [name for name in others if self._class_names(name) is not None]
        label = next((name for name in _LABELS if name in others), None)
        if label is None and len(named) > 1:
            raise ValueError(f"{self._files[0]}: {listed(named)} are labels; call one of these columns label.")
        return image, label or (named[0] if named else None)

    def _group_of(self, index: int) -> int:
        return bisect_right(self._ends, index)

    def _bytes(self, index: int) -> bytes | None:
        group = self._group_of(index)
        if self._read is None or self._read[:2] != (os.getpid(), group):
            number, inside = self._groups[group]
            self._read = None  # two of them need not be in memory at once
            with _errors(self._files[number]):
                table = self._file(number).read_row_group(inside, columns=[self._columns[0]], use_threads=False)
                self._read = os.getpid(), group, table.column(0)
        start = self._ends[group - 1] if group else 0
        value = self._read[2][index - start].as_py()
        return value.get("bytes") if isinstance(value, dict) else value

    def _file(self, number: int) -> Any:
        """An open file; a process of its own opens its own, since positions in a file are shared."""
        if self._open is None or self._open[:2] != (os.getpid(), number):
            self._open = os.getpid(), number, _pyarrow().ParquetFile(self._files[number])
        return self._open[2]

    def __getstate__(self) -> dict[str, Any]:
        """All but what is open."""
        return {**self.__dict__, "_open": None, "_read": None}


@contextmanager
def _errors(path: Path) -> Iterator[None]:
    """Say which file is damaged: Arrow raises errors of many kinds."""
    try:
        yield
    except _MissingError:
        raise
    except Exception as error:
        told = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a Parquet file that can be read ({told}); expected {_FORM}.") from error


class _MissingError(ValueError):
    """There is no pyarrow."""


def _pyarrow() -> Any:
    try:
        return importlib.import_module("pyarrow.parquet")
    except ImportError as error:
        raise _MissingError(
            f"Parquet files need pyarrow ({error}); install it with pip install 'maxup-smoothing[parquet]'."
        ) from error
