"""Arrays of numbers out of MATLAB's files of version 5, read by bounds that damage cannot leave.

scipy's reader follows what a damaged file says into memory that is not its own, and brings the process down.
"""

import math
import struct
import zlib
from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray

MOST_NUMBERS = 1_000_000
_MATRIX, _COMPRESSED = 14, 15
_NUMERIC_CLASSES = range(6, 16)  # double, single, and integers of 8 to 64 bits
_COMPLEX = 0x0800
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_HEADER, _VERSION, _LONGEST_NAMES = 128, 0x0100, 4096


def read_arrays(data: bytes, names: Collection[str]) -> dict[str, NDArray[np.float64]]:
    """The real arrays of these names, as float64 in their shapes; those that are not there are left out.

    Args:
        data: A file of version 5, compressed or not.
        names: Of the arrays that are wanted; others are not read.

    Raises:
        ValueError: If the file is damaged, or such a variable is not an array of at most `MOST_NUMBERS` numbers.
    """
    order = {b"IM": "<", b"MI": ">"}.get(data[126:_HEADER])
    if order is None or struct.unpack(f"{order}H", data[124:126]) != (_VERSION,):
        raise ValueError("it is not of version 5 to 7; save it with -v7, since 7.3 is HDF5")
    found = dict[str, NDArray[np.float64]]()
    try:
        for kind, content in _elements(data[_HEADER:], order):
            if kind == _COMPRESSED:
                unpacked = zlib.decompressobj().decompress(content, 8 * MOST_NUMBERS + _LONGEST_NAMES)
                kind, content = next(_elements(unpacked, order, cut=True), (0, b""))
            if kind == _MATRIX:
                name, array = _matrix(content, order, names)
                if array is not None:
                    found[name] = array
    except (struct.error, zlib.error, StopIteration) as error:
        raise ValueError(f"it is damaged ({error or 'cut off'})") from None
    return found


def _matrix(content: bytes, order: str, names: Collection[str]) -> tuple[str, NDArray[np.float64] | None]:
    """A variable's name and numbers; None for one that is not wanted."""
    parts = _elements(content, order, cut=True)
    (_, flags), (_, sizes), (_, text) = next(parts), next(parts), next(parts)
    name = text.decode("ascii", errors="replace")
    if name not in names:
        return name, None
    word = struct.unpack_from(f"{order}I", flags)[0]
    shape = struct.unpack(f"{order}{len(sizes) // 4}i", sizes[: len(sizes) // 4 * 4])
    known = (word & 0xFF) in _NUMERIC_CLASSES and not word & _COMPLEX and len(shape) >= 2 and min(shape) >= 0
    if not known or math.prod(shape) > MOST_NUMBERS:
        raise ValueError(f"{name} must be an array of numbers, at most {MOST_NUMBERS} of them")
    kind, numbers = next(parts)
    if kind not in _TYPES:
        raise ValueError(f"{name} is damaged: its numbers are of a type {kind} that there is not")
    dtype = np.dtype(f"{order}{_TYPES[kind]}")
    if len(numbers) < math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name} is damaged: it is cut off")
    return name, np.frombuffer(numbers, dtype, math.prod(shape)).astype(np.float64).reshape(shape, order="F")


def _elements(data: bytes, order: str, *, cut: bool = False) -> Iterator[tuple[int, bytes]]:
    """Kind and content of each element; the last one may be ``cut`` short."""
    at = 0
    while at < len(data):
        word = struct.unpack_from(f"{order}I", data, at)[0]
        if word >> 16:  # a small element, its content within its tag
            kind, size, start, end = word & 0xFFFF, word >> 16, at + 4, at + 8
        else:
            kind, size, start = word, struct.unpack_from(f"{order}I", data, at + 4)[0], at + 8
            end = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if start + size > len(data) and not cut:
            raise ValueError("it is damaged (cut off)")
        yield kind, data[start : start + size]
        at = end
