"""What a check looks at: f, images spread over those that will be certified, and the noise, on streams of its own."""

# Shapes: I images, B rows of a batch, K classes; C channels, H height, W width.

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise import PREDICTION, NoiseSource
from maxup_smoothing.certify.preflight.noise import Place
from maxup_smoothing.certify.preflight.sample import Sample

# Noise of a check is another stream than that of a run with the same seed: what is counted was not looked at before.
_KEY = 0x636865636B
_INPUT = 2**31  # one noise stream for all images: each sample falls on another image


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Everything that is checked.

    Attributes:
        classifier: f.
        images_ICHW: uint8, some of those that will be certified.
        labels_I: Their classes, int64.
        sigma: Of the noise, in [0, 1] pixel units.
        make_noise: From a seed to the source of noisy copies of this sigma.
        seed: Of the run.
        model: The network as it was given, neither folded nor compiled nor cast; None if it is not known.
        about: What is known of where the model is from: ``kind``, ``normalize``; of a checkpoint of ours also
            ``sigma``, ``epoch``, ``epochs``, ``best``.
        data: Of the images: ``name``, ``split``; and ``trained_on``, the name of the training data, if it is known.
        sample: All images that will be certified, if they are known.
    """

    classifier: BaseClassifier
    images_ICHW: Tensor
    labels_I: Tensor
    sigma: float
    make_noise: Callable[[int], NoiseSource]
    seed: int
    model: nn.Module | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    sample: Sample | None = None

    @property
    def place(self) -> Place:
        """Where f's input lies."""
        channels, height, width = self.images_ICHW.shape[1:]
        return Place((channels, height, width), self.classifier.device, self.classifier.layout, self.sigma)

    @property
    def noise_seed(self) -> int:
        """Of the noise that checks draw."""
        return self.seed ^ _KEY

    @cached_property
    def clean(self) -> list[Tensor]:
        """The images as batches of f's size, the last one filled up with its first image; (B, C, H, W) each."""
        return [batch_BCHW.float() / 255 for batch_BCHW in self._batches()]

    @cached_property
    def noisy(self) -> list[Tensor]:
        """The same with noise, one sample for each row."""
        noise, found, start = self.make_noise(self.noise_seed), [], 0
        for images_BCHW in self._batches():
            batch_BCHW = self.classifier.empty_batch(images_BCHW.shape[1:])
            for row, image_CHW in enumerate(images_BCHW):
                noise.fill(batch_BCHW[row : row + 1], image_CHW, input_id=_INPUT, stage=PREDICTION, start=start + row)
            found.append(batch_BCHW)
            start += len(batch_BCHW)
        return found

    def classes(self, batches: list[Tensor], f: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The class of each image, int64, (I,), on the CPU; K where logits are not finite."""
        f = self.classifier.classify if f is None else f
        return torch.cat([f(batch_BCHW).cpu() for batch_BCHW in batches])[: len(self.images_ICHW)]

    def _batches(self) -> Iterator[Tensor]:
        """uint8, on f's device."""
        size = self.classifier.batch_size
        for images_BCHW in self.images_ICHW.split(size):
            padding_BCHW = images_BCHW[:1].expand(size - len(images_BCHW), -1, -1, -1)
            whole_BCHW = torch.cat([images_BCHW, padding_BCHW]).to(self.classifier.device)
            yield whole_BCHW.contiguous(memory_format=self.classifier.layout)
