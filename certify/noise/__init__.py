"""The interface of noise sources, ways to draw N(0, sigma^2), which write noisy copies of an image into a batch.

Noise of another law is no source: every radius is computed for the Gaussian, see ``certify.statistics.radius``.

A source writes samples ``start`` to ``start + B`` of one input and stage into B rows. Each sample is a function of
(seed, input, stage, sample number). It does not depend on the batch size, or on which other inputs are certified.
"""

from typing import Any, Protocol

from torch import Tensor

#: Numbers of the stages. Each draws from its own stream: selecting and estimating on the same samples would void the
#: bound.
SELECTION, ESTIMATION, PREDICTION = range(3)
#: Stage of the copies on which two classifiers are compared; see ``certify.transfer.run``.
PAIRS = 16
#: Stages of attacked images: to choose an attack, judge it, confirm a success, and compute the gradients that the
#: attack follows; see ``certify.attack``.
ATTACK_CHOICE, ATTACK_JUDGE, ATTACK_CONFIRM, ATTACK_GRADIENT = range(32, 36)


class NoiseSource(Protocol):
    """The methods of a noise source that the engine uses."""

    def fill(self, out_BCHW: Tensor, image_CHW: Tensor, *, input_id: int, stage: int, start: int) -> None:
        """Write noisy copies of an image.

        Args:
            out_BCHW: Rows to fill, float32, (B, C, H, W).
            image_CHW: The input, (C, H, W), uint8 or float32 in [0, 1], on the same device.
            input_id: Index of the input in its data set.
            stage: Number of the stage: ``SELECTION``, ``ESTIMATION``, ``PREDICTION`` or another one.
            start: Number of the first sample; the engine asks for a stage's samples in order, from 0.
        """

    def probability_error(self, dimension: int) -> float:
        """The largest difference of an event's probability between this noise and exact N(0, sigma^2) noise.

        Args:
            dimension: Number of coordinates, C * H * W.

        Returns:
            A bound on the total variation distance, to be subtracted from every lower bound on a probability.
        """

    def describe(self) -> dict[str, Any]:
        """The source's name and everything that fixes its stream, for the manifest."""
