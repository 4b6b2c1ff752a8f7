"""Exact Gaussian noise for 8-bit images: its law is that of the theorem, up to a probability that is stated.

Image and noise are whole numbers, and so is their clipped sum; only the sum is converted to floating point. The network
sees a function of that sum, so no trailing bit can reveal the image. `certify.noise.grid` has the argument.
"""

# Shapes: B rows, C channels, H height, W width.

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maxup_smoothing.certify.noise.grid import BITS, LEVELS, NoiseTable, noise_table

_WORDS = 2**32


@dataclass(frozen=True)
class ExactNoise:
    """Discretised N(0, sigma^2) on the grid of 8-bit images, a function of (seed, input, stage, sample, coordinate).

    Every device, batch size and memory layout gives the same bits.

    Args:
        sigma: Standard deviation in [0, 1] pixel units, from 0.001 to 4. The shortest decimal of the float is meant.
        seed: Seed of the noise, in [0, 2^64).

    Raises:
        ValueError: If ``sigma`` or ``seed`` is out of range.
    """

    sigma: float
    seed: int

    def __post_init__(self) -> None:
        """Check the seed, and check sigma by making its table."""
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed must be in [0, 2^64), got {self.seed}.")
        _ = self.table

    @cached_property
    def table(self) -> NoiseTable:
        """The table of sigma: thresholds of the noise, and values of the sums."""
        return noise_table(self.sigma)

    def fill(self, out_BCHW: Tensor, image_CHW: Tensor, *, input_id: int, stage: int, start: int) -> None:
        """Write clip(image + N) / 255 with N of samples ``start`` to ``start + B``; see ``NoiseSource``.

        Args:
            out_BCHW: Rows to fill, float32, in any memory layout, on the CPU or a CUDA device.
            image_CHW: The image, uint8, on the same device.
            input_id: Index of the input, in [0, 2^32).
            stage: Number of the stage, in [0, 2^31).
            start: Number of the first sample, in [0, 2^32 - B].

        Raises:
            ValueError: If the image is not uint8, or anything else is not as above.
        """
        if image_CHW.dtype != torch.uint8:
            raise ValueError(
                f"exact noise needs a uint8 image, got {image_CHW.dtype}; pass the 8-bit original, or "
                "(255 * image).round().to(torch.uint8), which is another input, or use float noise."
            )
        if out_BCHW.dtype != torch.float32 or out_BCHW.shape[1:] != image_CHW.shape or out_BCHW.ndim != 4:
            raise ValueError(
                f"exact noise needs float32 rows (B, C, H, W) of the image's shape {tuple(image_CHW.shape)}, "
                f"got {out_BCHW.dtype} {tuple(out_BCHW.shape)}."
            )
        if not (0 <= input_id < _WORDS and 0 <= start <= _WORDS - len(out_BCHW) and 0 <= stage < _WORDS // 2):
            raise ValueError(
                "input_id and sample numbers must be in [0, 2^32) and stage in [0, 2^31), the range of the counter; "
                f"got input_id={input_id}, stage={stage}, start={start} for {len(out_BCHW)} rows."
            )
        fill = _filler(out_BCHW.device.type)
        fill(out_BCHW, image_CHW, self.table, seed=self.seed, input_id=input_id, stage=stage, start=start)

    def describe(self) -> dict[str, Any]:
        """The source's name, seed, grid, clip and generator."""
        return {
            "source": "exact",
            "seed": self.seed,
            "grid": f"1/{LEVELS}",
            "clip": self.table.clip,
            "generator": "philox4x32-10",
            "table_bits": BITS,
        }

    def probability_error(self, dimension: int) -> float:
        """The number to subtract from a lower bound on p_A (and to add to an upper one) for C * H * W coordinates.

        Those bounds hold for the class's probability under the sampled law. Its probability under the exact law differs
        from that by at most the total variation distance, which this number bounds.
        """
        return self.table.total_variation(dimension)


def fill_rows(
    out_BCHW: Tensor, image_CHW: Tensor, table: NoiseTable, *, seed: int, input_id: int, stage: int, start: int
) -> None:
    """Write the noise as it is defined, in NumPy; the versions in ``cpu`` and ``cuda`` must equal it bit for bit."""
    counts = table.integers(seed, input_id, stage, start, start + len(out_BCHW), image_CHW.numel()) - table.lowest
    values = table.values[counts + image_CHW.cpu().flatten().numpy()]
    out_BCHW.copy_(torch.from_numpy(np.ascontiguousarray(values)).view(out_BCHW.shape))


@cache
def _filler(device: str) -> Callable[..., None]:
    """The version of ``fill_rows`` for a kind of device, imported at first use because it has a large dependency."""
    if device == "cuda":
        from maxup_smoothing.certify.noise.cuda import fill_rows as on_cuda

        return on_cuda
    if device != "cpu":
        raise ValueError(f"exact noise runs on cpu and cuda, got a tensor on {device}; use float noise there.")
    try:
        from maxup_smoothing.certify.noise.cpu import fill_rows as on_cpu

        # This first call compiles the kernel, or shows that it cannot be compiled.
        on_cpu(torch.empty(1, 1, 1, 1), torch.zeros(1, 1, 1, dtype=torch.uint8), noise_table(0.5), **_FIRST)
    except Exception as error:  # Numba is not needed: the NumPy version writes the same noise
        warnings.warn(
            f"exact noise is slow, made by NumPy, since Numba cannot be used ({type(error).__name__}: {error}).",
            stacklevel=3,
        )
        return fill_rows
    return on_cpu


_FIRST = {"seed": 0, "input_id": 0, "stage": 0, "start": 0}
