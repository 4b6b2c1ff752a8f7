"""Gaussian noise in floating point, the kind with which every published table was made.

In theory it is not sound: rounding x + noise can leave traces of x, which a classifier built for that purpose can read
(Voráček and Hein 2023). docs/pitfalls.md says what that means for honest networks.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

BLOCK = 64  # samples drawn at a time, always a whole block: torch's numbers depend on the size of the tensor
OPEN, OPEN_BYTES = 8, 2**28  # streams kept open: the larger of 8 and what fits; others are drawn again from the start


@dataclass
class _Stream:
    """The samples of one input and stage, in blocks."""

    generator: torch.Generator
    block: Tensor  # (BLOCK, C, H, W)
    next_sample: int = 0


@dataclass
class FloatNoise:
    """float32 N(0, sigma^2) noise from torch's generator of the device.

    The stream of an input and stage is seeded by (seed, input, stage). It does not depend on the batch size, the order
    or other inputs, but it depends on the kind of device.

    Args:
        sigma: Standard deviation of the noise, positive, in [0, 1] pixel units.
        seed: Seed of the noise, in [0, 2^64).
    """

    sigma: float
    seed: int
    _streams: dict[tuple[int, int], _Stream] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Round sigma up to a float32: rounding down would make the noise smaller than the radius assumes."""
        nearest = np.float32(self.sigma)
        self._factor = float(nearest if float(nearest) >= self.sigma else np.nextafter(nearest, np.float32(np.inf)))

    def fill(self, out_BCHW: Tensor, image_CHW: Tensor, *, input_id: int, stage: int, start: int) -> None:
        """Write ``image / 255 + sigma * noise``; see ``NoiseSource``.

        Samples in order cost one draw each. After a step back or a jump ahead, all earlier samples are drawn again.
        """
        stream = self._streams.pop((input_id, stage), None)
        if stream is None or stream.next_sample != start:
            stream = self._at(out_BCHW, input_id, stage, start)
        done = 0
        while done < len(out_BCHW):
            used = stream.next_sample % BLOCK
            if used == 0:
                stream.block.normal_(generator=stream.generator)
            take = min(BLOCK - used, len(out_BCHW) - done)
            torch.mul(stream.block[used : used + take], self._factor, out=out_BCHW[done : done + take])
            stream.next_sample += take
            done += take
        out_BCHW += image_CHW.to(torch.float32) / 255 if image_CHW.dtype == torch.uint8 else image_CHW
        self._streams[input_id, stage] = stream
        while len(self._streams) > max(OPEN, OPEN_BYTES // stream.block.nbytes):
            self._streams.pop(next(iter(self._streams)))

    def probability_error(self, dimension: int) -> float:
        """Always 0: nothing is subtracted, as in every published table. No proven bound below 1 is known."""
        return 0.0

    def describe(self) -> dict[str, Any]:
        """The source's name, seed and block size."""
        return {"source": "float", "seed": self.seed, "block": BLOCK}

    def _at(self, like_BCHW: Tensor, input_id: int, stage: int, start: int) -> _Stream:
        words = np.random.SeedSequence([self.seed & 0xFFFFFFFF, self.seed >> 32, input_id, stage]).generate_state(
            1, np.uint64
        )
        generator = torch.Generator(like_BCHW.device).manual_seed(int(words[0] >> np.uint64(1)))
        stream = _Stream(generator, torch.empty((BLOCK, *like_BCHW.shape[1:]), device=like_BCHW.device), start)
        # Draw all blocks before the start, and also the block that contains it, if it is not a block's first sample.
        for _ in range(-(-start // BLOCK)):
            stream.block.normal_(generator=generator)
        return stream
