"""Exact noise on the CPU: a Numba kernel that goes from the counter to the network input in one pass.

The first 32 bits of u find N. They select one of 2^13 bins, which holds the number of thresholds below it; then a
comparison or two with the thresholds inside the bin follow. The other 31 bits are computed only if the first 32 equal
those of a threshold.

Python threads share the rows, not Numba's OpenMP: with a second OpenMP beside torch's, each would busily wait while the
other works.
"""

# mypy: disable-error-code="call-arg, untyped-decorator"
# Shapes: B rows, C channels, H height, W width.

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from maxup_smoothing.certify.noise.grid import NoiseTable
from maxup_smoothing.certify.noise.philox import MASK, MULTIPLIERS, ROUNDS, WEYL, key_words

GUIDE_BITS = 13
_TILE = 256  # Philox blocks that are computed together, so that their words stay in the first-level cache
_SERIAL = 1 << 14  # up to this number of coordinates, waking other threads costs more than it saves
_M0, _M1 = (np.uint64(word) for word in MULTIPLIERS)
_W0, _W1 = (np.uint64(word) for word in WEYL)
_MASK, _HALF, _ONE, _LANES, _LANE = (np.uint64(word) for word in (MASK, 32, 1, 4, 3))
_GUIDE_SHIFT, _LOW_BITS = np.uint32(32 - GUIDE_BITS), 31


def fill_rows(
    out_BCHW: Tensor, image_CHW: Tensor, table: NoiseTable, *, seed: int, input_id: int, stage: int, start: int
) -> None:
    """Write samples ``start`` to ``start + B`` of an input and stage; see ``certify.noise.NoiseSource.fill``.

    Args:
        out_BCHW: Rows to fill, float32 on the CPU, in any memory layout.
        image_CHW: The image, uint8 on the CPU.
        table: The table of the noise.
        seed: Seed of the noise, in [0, 2^64).
        input_id: Index of the input, in [0, 2^32).
        stage: Number of the stage, in [0, 2^31).
        start: Number of the first sample; ``start`` and ``start + B`` lie in [0, 2^32].
    """
    rows, _, height, width = out_BCHW.shape
    if out_BCHW.numel() == 0:
        return
    row_step, channel_step, line_step, pixel_step = out_BCHW.stride()
    if line_step != width * pixel_step and height > 1:  # a view into a wider tensor; the kernel needs one step a pixel
        whole_BCHW = torch.empty(out_BCHW.shape)
        fill_rows(whole_BCHW, image_CHW, table, seed=seed, input_id=input_id, stage=stage, start=start)
        out_BCHW.copy_(whole_BCHW)
        return
    extent = 1 + sum((size - 1) * step for size, step in zip(out_BCHW.shape, out_BCHW.stride(), strict=True))
    flat = out_BCHW.as_strided((extent,), (1,), out_BCHW.storage_offset()).numpy()
    pixels = image_CHW.contiguous().view(-1).numpy()
    steps = (row_step, channel_step, pixel_step, height * width)
    counters = tuple(np.uint64(word) for word in (start, input_id, 2 * stage, *key_words(seed)))

    def work(first: int, last: int) -> None:
        _rows(flat, *steps, pixels, first, last, *counters, *_search_tables(table), table.values)

    _share_out(work, rows, 1 if rows * pixels.size <= _SERIAL else torch.get_num_threads())


@lru_cache(maxsize=32)
def _search_tables(table: NoiseTable) -> tuple[NDArray[np.uint16], NDArray[np.uint32], NDArray[np.uint32]]:
    """The number of thresholds below each bin of the high word, and the thresholds' high words and low bits."""
    high = (table.thresholds >> np.uint64(_LOW_BITS)).astype(np.uint32)
    low = (table.thresholds & np.uint64((1 << _LOW_BITS) - 1)).astype(np.uint32)
    bins = (np.arange(1 << GUIDE_BITS, dtype=np.uint32) << _GUIDE_SHIFT).astype(np.uint32)
    # A last entry that no u reaches ends every search, because low bits are below 2^31.
    ends = np.append(high, np.uint32(MASK)), np.append(low, np.uint32(1 << _LOW_BITS))
    return np.searchsorted(high, bins, side="left").astype(np.uint16), *ends


def _share_out(work: Callable[[int, int], None], rows: int, threads: int) -> None:
    """Call ``work`` on ranges of rows in several threads; the calling thread is one of them."""
    if threads == 1:
        work(0, rows)
        return
    # Several ranges for each thread, so that a thread on a busy core takes fewer of them.
    step = -(-rows // (4 * threads))
    ranges = iter(range(0, rows, step))

    def take() -> None:
        for first in ranges:
            work(first, min(first + step, rows))

    others = [_pool(threads).submit(take) for _ in range(threads - 1)]
    take()
    for other in others:
        other.result()


@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads - 1, thread_name_prefix="noise")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a forked child has none of the parent's threads


@njit(nogil=True, inline="always")
def _philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    for _ in range(ROUNDS):
        p0, p1 = _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ k0, p1 & _MASK, (p0 >> _HALF) ^ c3 ^ k1, p0 & _MASK
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1, c2, c3


@njit(nogil=True, cache=True)
def _rows(
    flat: Any, row_step: int, channel_step: int, pixel_step: int, plane: int,
    pixels: Any, first_row: int, last_row: int,
    start: Any, input_id: Any, stage: Any, k0: Any, k1: Any,
    guide: Any, high: Any, low: Any, values: Any,
) -> None:  # fmt: skip
    # All indices are unsigned: for a signed index Numba checks at each access whether it is negative.
    words = np.empty(4 * _TILE, np.uint32)
    blocks = (pixels.size + 3) // 4
    for row in range(first_row, last_row):
        sample = start + np.uint64(row)
        for first_block in range(0, blocks, _TILE):
            count = min(_TILE, blocks - first_block)
            for b in range(count):
                w0, w1, w2, w3 = _philox(np.uint64(first_block + b), sample, input_id, stage, k0, k1)
                words[4 * b], words[4 * b + 1], words[4 * b + 2], words[4 * b + 3] = w0, w1, w2, w3
            c, stop = 4 * first_block, min(4 * (first_block + count), pixels.size)
            tile = c
            while c < stop:  # up to the end of the tile or of the channel
                channel = c // plane
                place = np.uint64(row * row_step + channel * channel_step + (c - channel * plane) * pixel_step)
                for i in range(np.uint64(c), np.uint64(min(stop, (channel + 1) * plane))):
                    word = words[i - np.uint64(tile)]
                    below = np.uint64(guide[word >> _GUIDE_SHIFT])
                    below += np.uint64(high[below] < word)
                    if high[below] <= word:
                        while high[below] < word:
                            below += _ONE
                        if high[below] == word:
                            bits = _philox(i // _LANES, sample, input_id, stage | _ONE, k0, k1)[i & _LANE] >> _ONE
                            while high[below] == word and low[below] <= bits:
                                below += _ONE
                    flat[place + (i - np.uint64(c)) * np.uint64(pixel_step)] = values[below + np.uint64(pixels[i])]
                c = min(stop, (channel + 1) * plane)
