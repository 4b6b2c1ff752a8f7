"""The subject of a check: f, some of the images that will be certified, and noise from streams that no run uses."""

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

# Changes a run's seed for the checks, so that they look at no noise whose votes the run counts.
_KEY = 0x636865636B
_INPUT = 2**31  # input number of the noise stream that all images share; each image gets another sample of it


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Everything that is checked.

    Attributes:
        classifier: The base classifier f.
        images_ICHW: Some of the images that will be certified, uint8.
        labels_I: Labels of these images, int64.
        sigma: Standard deviation of the noise, in [0, 1] pixel units.
        make_noise: Makes the noise source of this sigma for a seed.
        seed: Seed of the run.
        model: The given network, neither folded nor compiled nor cast; None if it is not known.
        about: What is known about the model's source: ``kind``, ``normalize``; for a checkpoint of this package also
            ``sigma``, ``epoch``, ``epochs``, ``best``.
        data: What is known about the images: ``name``, ``split``; and ``trained_on``, the name of the training data.
        sample: All images that will be certified; None if not known.
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
        """Shape, device, memory layout and sigma of f's input."""
        channels, height, width = self.images_ICHW.shape[1:]
        return Place((channels, height, width), self.classifier.device, self.classifier.layout, self.sigma)

    @property
    def noise_seed(self) -> int:
        """Seed of the noise that checks draw."""
        return self.seed ^ _KEY

    @cached_property
    def clean(self) -> list[Tensor]:
        """The images in batches of f's batch size, (B, C, H, W) each; the last is filled up with its first image."""
        return [batch_BCHW.float() / 255 for batch_BCHW in self._batches()]

    @cached_property
    def noisy(self) -> list[Tensor]:
        """The same batches with noise, one sample for each row."""
        noise, found, start = self.make_noise(self.noise_seed), [], 0
        for images_BCHW in self._batches():
            batch_BCHW = self.classifier.empty_batch(images_BCHW.shape[1:])
            for row, image_CHW in enumerate(images_BCHW):
                noise.fill(batch_BCHW[row : row + 1], image_CHW, input_id=_INPUT, stage=PREDICTION, start=start + row)
            found.append(batch_BCHW)
            start += len(batch_BCHW)
        return found

    def classes(self, batches: list[Tensor], f: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """The class of each image, int64, (I,), on the CPU; K if its logits are not finite."""
        f = self.classifier.classify if f is None else f
        return torch.cat([f(batch_BCHW).cpu() for batch_BCHW in batches])[: len(self.images_ICHW)]

    def _batches(self) -> Iterator[Tensor]:
        """The images in batches, uint8, on f's device."""
        size = self.classifier.batch_size
        for images_BCHW in self.images_ICHW.split(size):
            padding_BCHW = images_BCHW[:1].expand(size - len(images_BCHW), -1, -1, -1)
            whole_BCHW = torch.cat([images_BCHW, padding_BCHW]).to(self.classifier.device)
            yield whole_BCHW.contiguous(memory_format=self.classifier.layout)
