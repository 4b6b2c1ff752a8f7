"""Sources of noisy copies.

A source writes samples ``start`` to ``start + B`` of one input and stage into rows of the network's input batch. What
it writes is a function of (seed, input, stage, sample number), whatever the batch size and whichever inputs are done.
"""

from typing import Any, Protocol

from torch import Tensor

#: Sources by the names that users give.
SOURCES = ("exact", "float")

#: Stages draw from different streams: selecting and estimating on the same samples would void the bound.
SELECTION, ESTIMATION, PREDICTION = range(3)
#: Of copies that two classifiers are compared on; see ``certify.transfer.run``.
PAIRS = 16
#: Of attacked images: choosing an attack, judging it, confirming a success, and the copies whose gradients it
#: climbs; see ``certify.attack``.
ATTACK_CHOICE, ATTACK_JUDGE, ATTACK_CONFIRM, ATTACK_GRADIENT = range(32, 36)


class NoiseSource(Protocol):
    """What the engine needs of a source."""

    def fill(self, out_BCHW: Tensor, image_CHW: Tensor, *, input_id: int, stage: int, start: int) -> None:
        """Write noisy copies of an image.

        Args:
            out_BCHW: Rows to fill, float32, (B, C, H, W).
            image_CHW: The input, (C, H, W), uint8 or float32 in [0, 1], on the same device.
            input_id: Index of the input in its data set.
            stage: ``SELECTION``, ``ESTIMATION``, ``PREDICTION`` or another one's number.
            start: Number of the first sample; a stage's samples are asked for in order, from 0.
        """

    def probability_error(self, dimension: int) -> float:
        """By how much the probability of an event may differ from that under exact N(0, sigma^2) noise.

        Args:
            dimension: Number of coordinates, C * H * W.

        Returns:
            A bound on the total variation, to be subtracted from every lower bound on a probability.
        """

    def describe(self) -> dict[str, Any]:
        """Its name and all that fixes the stream, for the manifest."""
