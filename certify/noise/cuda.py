"""Exact noise on CUDA devices: a Triton kernel that goes from the counter to the network input in one pass.

Each program handles some Philox blocks of one row. It computes high and low words, finds the 63-bit uniform among the
thresholds by a binary search, and looks the value up. There are no branches, and nothing is read from the host.
"""

# mypy: disable-error-code="no-untyped-call, no-untyped-def, untyped-decorator"
# Shapes: B rows, C channels, H height, W width.

import contextlib
from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from maxup_smoothing.certify.noise.grid import NoiseTable
from maxup_smoothing.certify.noise.philox import key_words

_BLOCKS = 128  # Philox blocks, of four coordinates each, per program


def fill_rows(
    out_BCHW: Tensor, image_CHW: Tensor, table: NoiseTable, *, seed: int, input_id: int, stage: int, start: int
) -> None:
    """Write samples ``start`` to ``start + B`` on a CUDA device; the bits equal those of ``noise.cpu.fill_rows``."""
    rows, _, height, width = out_BCHW.shape
    dimension = image_CHW.numel()
    if rows * dimension == 0:
        return
    thresholds, values = _on_device(table, out_BCHW.device)
    words = (_signed(word) for word in (start, input_id, 2 * stage, *key_words(seed)))
    grid = (rows, triton.cdiv(dimension, 4 * _BLOCKS))
    on_device = torch.cuda.device(out_BCHW.device) if out_BCHW.is_cuda else contextlib.nullcontext()
    with on_device:
        _rows[grid](
            out_BCHW, *out_BCHW.stride(), image_CHW.contiguous(), dimension, height * width, width,
            *words, thresholds, values, len(table.thresholds),
            STEPS=len(table.thresholds).bit_length(), BLOCKS=_BLOCKS, enable_fp_fusion=False,
        )  # fmt: skip


@lru_cache(maxsize=32)
def _on_device(table: NoiseTable, device: torch.device) -> tuple[Tensor, Tensor]:
    thresholds = torch.from_numpy(table.thresholds.astype("int64"))  # all below 2^63
    return thresholds.to(device), torch.from_numpy(table.values.copy()).to(device)


def _signed(word: int) -> int:
    """The int32 with the same bits, so that Triton gets every word with the same type."""
    return word - 2**32 if word >= 2**31 else word


# The kernels' arguments have no type hints, because Triton evaluates hints as part of the kernel.
@triton.jit
def _philox(c0, c1, c2, c3, k0, k1):
    m0 = tl.full(c0.shape, 0xD2511F53, tl.uint32)
    m1 = tl.full(c0.shape, 0xCD9E8D57, tl.uint32)
    w0 = tl.full(c0.shape, 0x9E3779B9, tl.uint32)
    w1 = tl.full(c0.shape, 0xBB67AE85, tl.uint32)
    for _ in tl.static_range(10):
        high0, high1 = tl.umulhi(m0, c0), tl.umulhi(m1, c2)
        low0, low1 = m0 * c0, m1 * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + w0, k1 + w1
    return c0, c1, c2, c3


@triton.jit
def _write(
    high, low, coordinate, out, channel_step, line_step, pixel_step,
    image, dimension, plane, width, thresholds, values, length, STEPS: tl.constexpr,
):  # fmt: skip
    u = (high.to(tl.int64) << 31) | (low >> 1).to(tl.int64)
    below = tl.full(u.shape, 0, tl.int32)
    for step in tl.static_range(STEPS):
        probe = below + (1 << (STEPS - 1 - step))
        reached = probe <= length
        reached = reached & (tl.load(thresholds + probe - 1, mask=reached, other=0) <= u)
        below = tl.where(reached, probe, below)
    inside = coordinate < dimension
    pixel = tl.load(image + coordinate, mask=inside, other=0).to(tl.int32)
    value = tl.load(values + below + pixel)
    channel, rest = coordinate // plane, coordinate % plane
    place = channel.to(tl.int64) * channel_step + (rest // width) * line_step + (rest % width) * pixel_step
    tl.store(out + place, value, mask=inside)


@triton.jit(do_not_specialize=["start", "input_id", "stage", "k0", "k1"])
def _rows(
    out, row_step, channel_step, line_step, pixel_step, image, dimension, plane, width,
    start, input_id, stage, k0, k1, thresholds, values, length, STEPS: tl.constexpr, BLOCKS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    block = tl.program_id(1) * BLOCKS + tl.arange(0, BLOCKS)
    nothing = tl.full((BLOCKS,), 0, tl.uint32)
    sample = nothing + start.to(tl.uint32) + row.to(tl.uint32)
    c0, c2, c3 = block.to(tl.uint32), nothing + input_id.to(tl.uint32), nothing + stage.to(tl.uint32)
    key0, key1 = nothing + k0.to(tl.uint32), nothing + k1.to(tl.uint32)
    h0, h1, h2, h3 = _philox(c0, sample, c2, c3, key0, key1)
    l0, l1, l2, l3 = _philox(c0, sample, c2, c3 + 1, key0, key1)
    out += row.to(tl.int64) * row_step
    first = 4 * block
    _write(h0, l0, first, out, channel_step, line_step, pixel_step, image, dimension, plane, width,
           thresholds, values, length, STEPS)  # fmt: skip
    _write(h1, l1, first + 1, out, channel_step, line_step, pixel_step, image, dimension, plane, width,
           thresholds, values, length, STEPS)  # fmt: skip
    _write(h2, l2, first + 2, out, channel_step, line_step, pixel_step, image, dimension, plane, width,
           thresholds, values, length, STEPS)  # fmt: skip
    _write(h3, l3, first + 3, out, channel_step, line_step, pixel_step, image, dimension, plane, width,
           thresholds, values, length, STEPS)  # fmt: skip
