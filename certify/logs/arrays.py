"""Logs of arrays: MACER's ``.mat``, the ``.npy`` files of rs4a, and the adaptive ensembles' array of text."""

import io
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.certify.logs.log import NO_ROWS, UNLABELLED, Given, Log, frame
from maxup_smoothing.certify.logs.mat import read_arrays
from maxup_smoothing.certify.logs.settings import radius_notes
from maxup_smoothing.certify.logs.source import Source
from maxup_smoothing.certify.logs.tabular import ADAPTIVE
from maxup_smoothing.certify.statistics.radius import ABSTAIN

_MAGIC = b"\x93NUMPY"
_LARGEST_MAT = 2_000_000  # a compressed one may be a thousand times as large in memory
_LARGEST_NPY = 100_000_000
_PARTS = ("preds", "labels", "prob_lb")  # and radii in one norm or several: radius_l2, radius_l1, radius_linf
_RADII = "radius_"
_ADAPTIVE = ("idx", "label", "predict", "radius proved", "correct", "levels_needed", "estimated_pr", "time")


@dataclass(frozen=True)
class MacerRadii:
    """``hard`` and ``soft`` radii, -1 where wrong or abstained."""

    name: str = "macer"
    project: str = "RuntianZ/macer"

    def matches(self, source: Source) -> bool:
        """Whether the file begins as MATLAB's do."""
        return source.data.startswith(b"MATLAB ")

    def read(self, source: Source, given: Given) -> Log:
        """The hard radii, or the soft ones where there are no others.

        Raises:
            ValueError: If the file is damaged, too large, or has no such array.
        """
        if len(source.data) > _LARGEST_MAT:
            raise ValueError(f"{source.path} has {len(source.data)} bytes, more than the {_LARGEST_MAT} of any log.")
        try:
            found = read_arrays(source.data, ("hard", "soft"))
        except ValueError as error:
            raise ValueError(f"{source.path} cannot be read as a .mat file: {error}.") from None
        mode = "hard" if "hard" in found else "soft"
        if mode not in found:
            raise ValueError(f"{source.path} must have an array `hard` or `soft`, as MACER writes.")
        radius = _numbers(source.path, mode, found[mode]).ravel()
        if not np.all((radius >= 0) | (radius == -1)):
            first = int(np.argmin((radius >= 0) | (radius == -1)))
            raise ValueError(f"{source.path}, {mode}[{first}]: must be a radius >= 0, or -1, got {radius[first]}.")
        if len(radius) == 0:
            raise ValueError(f"{source.path}: {NO_ROWS}")
        right = (radius >= 0).astype(int)
        columns = {"idx": list(range(len(radius))), "label": [0] * len(radius), "predict": (right - 1).tolist()}
        table = frame({**columns, "radius": np.maximum(radius, 0.0).tolist(), "correct": right.tolist()})
        notes = [UNLABELLED, "idx is the position in the file: which images these are, it does not tell."]
        if mode == "soft":
            notes.append("radii are soft: of mean probabilities by an empirical Bernstein bound, not of votes.")
        elif "soft" in found:
            notes.append("`soft`, radii of another smoothed classifier, was left out.")
        audited = radius_notes([repr(value) for value in radius.tolist() if value > 0], given.sigma, True)
        return Log(
            table=given.added_to(table),
            dialect=self.name,
            kind="radii",
            notes=tuple(notes),
            audited=tuple(audited),
        )


@dataclass(frozen=True)
class Rs4a:
    """preds, labels, prob_lb and radius_l2 in a folder, perhaps radii in other norms; it or one array is given."""

    name: str = "rs4a"
    project: str = "tonyduan/rs4a"

    @staticmethod
    def is_in(folder: Path) -> bool:
        """Whether a folder holds one of the arrays."""
        return any((folder / f"{part}.npy").is_file() for part in _PARTS) or bool(_norms(folder))

    @staticmethod
    def require_complete(folder: Path) -> None:
        """Raise ``ValueError`` if a folder holds some of the arrays, with those that are missing."""
        missing = [part for part in (*_PARTS, "radius_l2") if not (folder / f"{part}.npy").is_file()]
        if Rs4a.is_in(folder):
            raise ValueError(
                f"{folder} holds some arrays of a log, but no {', '.join(f'{part}.npy' for part in missing)}; expected "
                f"{', '.join(_PARTS)} and radius_l2 in one folder, as rs4a writes them."
            )

    def matches(self, source: Source) -> bool:
        """Whether all four are there."""
        folder = _folder(source)
        if folder is None or not all((folder / f"{part}.npy").is_file() for part in _PARTS):
            return False
        return bool(_norms(folder))

    def read(self, source: Source, given: Given) -> Log:
        """The l2 radii, or those of the norm that is given.

        Raises:
            ValueError: If a file is damaged, shapes differ, a number is impossible, or there are no such radii.
            OSError: If one cannot be read.
        """
        folder = _folder(source) or source.path
        norm, others = given.norm or "l2", _norms(folder)
        if norm not in others:
            raise ValueError(
                f"{folder} has no {_RADII}{norm}.npy, but radii in {', '.join(others)}; give one of them: `analysis "
                "import --norm NORM`."
            )
        names = (*_PARTS, f"{_RADII}{norm}")
        parts = {part: _numbers(folder / part, part, _load(folder / f"{part}.npy")) for part in names}
        preds, labels, lower, radius = parts.values()
        rows = labels.size
        if preds.ndim != 2 or len(preds) != rows or not labels.shape == lower.shape == radius.shape == (rows,):
            shapes = ", ".join(f"{part} {array.shape}" for part, array in parts.items())
            raise ValueError(f"{folder} must have preds (N, K) and the others (N,), got {shapes}.")
        if rows == 0 or preds.shape[1] == 0:
            raise ValueError(f"{folder}: {NO_ROWS}")
        certified = lower > 0.5
        whole = (labels >= 0) & (labels < 2**31) & (labels == np.floor(labels))
        if not np.all(whole & (lower >= 0) & (lower < 1) & (~certified | ((radius >= 0) & (radius < np.inf)))):
            raise ValueError(f"{folder}: labels must be classes, prob_lb in [0, 1), radii finite and not negative.")
        predict = np.where(certified, preds.argmax(axis=1), ABSTAIN)
        below = np.nextafter(lower.astype(np.float32), np.float32(0)).astype(np.float64)  # it was rounded to nearest
        table = frame(
            {
                "idx": list(range(rows)),
                "label": labels.astype(np.int64).tolist(),
                "predict": predict.tolist(),
                "radius": np.where(certified, radius, 0.0).tolist(),
                "correct": (predict == labels).astype(int).tolist(),
                "p_a_lower": np.maximum(below, 0.0).tolist(),
            }
        )
        left = [f"{_RADII}{other}" for other in others if other != norm]
        notes = (
            *(
                [f"{', '.join(left)} left out: radii in other norms, read with `analysis import --norm`."]
                if left
                else []
            ),
            "idx is the position in the file: which images these are, it does not tell.",
            "its alpha is two-sided: one side has half of it (.0005 of its .001).",
            "radii hold for the noise that was chosen, which the files do not tell; they are float32, rounded to the "
            "nearest.",
            "abstained where prob_lb <= 1/2.",
        )
        return Log(table=given.added_to(table), dialect=self.name, kind="radii", notes=notes)


@dataclass(frozen=True)
class AdaptiveArray:
    """The rows of adaptive ensembles as an array of text."""

    name: str = "ensembles-adaptive-npy"
    project: str = "eth-sri/smoothing-ensembles, adaptive sampling"

    def matches(self, source: Source) -> bool:
        """Whether it is an array; which one, `read` tells."""
        return source.data.startswith(_MAGIC)

    def read(self, source: Source, given: Given) -> Log:
        """The rows, as those of the text log.

        Raises:
            ValueError: If it is another array, or a pickle.
        """
        array = _load(source.path)
        if array.dtype.kind != "U" or array.ndim != 2 or array.shape[1] != len(_ADAPTIVE):
            raise ValueError(
                f"{source.path} is an array {array.shape} of {array.dtype}; expected rs4a's {', '.join(_PARTS)}, "
                f"radius_l2 in one folder, or text (N, {len(_ADAPTIVE)}) as adaptive ensembles write."
            )
        lines = ["\t".join(_ADAPTIVE), *("\t".join(row) for row in array.tolist()), ""]
        return ADAPTIVE.read(Source(source.path, "\n".join(lines).encode(errors="replace")), given)


def _folder(source: Source) -> Path | None:
    if source.path.is_dir():
        return source.path
    known = source.path.stem in _PARTS or source.path.stem.startswith(_RADII)
    return source.path.parent if source.data.startswith(_MAGIC) and known else None


def _norms(folder: Path) -> list[str]:
    """The norms of the radii in a folder."""
    return sorted(path.stem.removeprefix(_RADII) for path in folder.glob(f"{_RADII}*.npy") if path.is_file())


def _load(path: Path) -> NDArray[Any]:
    if path.stat().st_size > _LARGEST_NPY:
        raise ValueError(f"{path} has more than the {_LARGEST_NPY} bytes of any log.")
    data = path.read_bytes()
    try:
        stream = io.BytesIO(data)
        version = np.lib.format.read_magic(stream)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = header(stream)
        if min(shape, default=0) < 0 or math.prod(shape) * max(1, dtype.itemsize) > len(data):
            raise ValueError(f"its header claims the shape {shape}")
        array = np.asarray(np.load(io.BytesIO(data), allow_pickle=False))
        if array.dtype.kind == "U" and (array.ravel().view(f"{array.dtype.str[0]}u4") > sys.maxunicode).any():
            raise ValueError("its text has characters that there are not")  # Python fails on them with SystemError
        return array
    except Exception as error:  # headers are parsed as Python literals, which fail in many ways
        raise ValueError(f"{path} cannot be read as an array without pickles: {str(error)[:200]}") from None


def _numbers(path: Path, name: str, array: Any) -> NDArray[np.float64]:
    """An array of finite numbers as float64."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise ValueError(f"{path}: {name} must be an array of numbers.")
    numbers = array.astype(np.float64)
    if name != "prob_lb" and not name.startswith(_RADII) and not np.isfinite(numbers).all():
        raise ValueError(f"{path}: {name} must be finite, got nan or inf.")
    return numbers
