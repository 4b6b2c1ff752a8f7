"""The attacked images of successes, as an ``.npz`` file beside the table."""

import io
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.certify.attack.table import AttackRow, key
from maxup_smoothing.data.runtime.atomic import write_atomically

_FIELDS = ("idx", "goal", "label", "predict", "radius", "epsilon", "distance", "attacked_predict")


class Evidence:
    """Images of successes, in a file that is whole after every `add`.

    The file has ``images`` (uint8, (N, C, H, W)) and, for each of them, the columns ``idx``, ``goal``, ``label``,
    ``predict``, ``radius``, ``epsilon``, ``distance`` and ``attacked_predict`` of the table.

    Args:
        path: The file; one that exists is continued.
        overwrite: Begin it again instead.

    Raises:
        ValueError: If the file is there, and is none of these.
        OSError: If it cannot be read.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        if path.suffix != ".npz":
            raise ValueError(f"--save-images writes an .npz file, got {path}.")
        self._path = path
        self._found: dict[int, tuple[dict[str, float], NDArray[np.uint8]]] = {}
        if path.exists() and not overwrite:
            self._read()

    def add(self, successes: Sequence[tuple[AttackRow, NDArray[np.uint8]]]) -> None:
        """Put images (C, H, W) into the file, in place of those that it had for the same rows.

        Raises:
            OSError: If it cannot be written.
        """
        if not successes:
            return
        for row, pixels_CHW in successes:
            fields = {name: getattr(row, "image" if name == "idx" else name) for name in _FIELDS}
            self._found[row.idx] = (fields, pixels_CHW)
        ordered = [self._found[number] for number in sorted(self._found)]
        columns = {name: np.array([fields[name] for fields, _ in ordered]) for name in _FIELDS}
        stream = io.BytesIO()
        columns["images"] = np.stack([pixels_CHW for _, pixels_CHW in ordered])
        np.savez_compressed(stream, allow_pickle=False, **columns)
        write_atomically(self._path, stream.getvalue())

    def require(self, rows: Iterable[AttackRow]) -> None:
        """Refuse to go on with a table whose successes are not all here.

        Raises:
            ValueError: With the fix.
        """
        lost = sum(row.success and row.idx not in self._found for row in rows)
        if lost:
            raise ValueError(
                f"{self._path} lacks the images of {lost} successes that the table has already; leave "
                "--save-images away, or begin again with --overwrite."
            )

    def _read(self) -> None:
        try:
            with np.load(self._path, allow_pickle=False) as file:
                columns = {name: file[name] for name in (*_FIELDS, "images")}
            for place, pixels_CHW in enumerate(columns["images"]):
                fields = {name: columns[name][place].item() for name in _FIELDS}
                self._found[key(int(fields["idx"]), int(fields["goal"]))] = (fields, pixels_CHW)
        except (ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())[:120]
            raise ValueError(f"{self._path} was not written by --save-images ({reason}); name another file.") from error
