"""What the checks before a run look at: a model without a fault, which is right about two images of three."""

from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise.source import noise_source
from maxup_smoothing.certify.preflight.checks import QUICK, examine
from maxup_smoothing.certify.preflight.finding import Finding
from maxup_smoothing.certify.preflight.subject import Subject
from maxup_smoothing.data import registry

SIGMA, SHAPE = 0.25, (1, 28, 28)
MEAN, STD = 0.1307, 0.3081


@lru_cache(maxsize=1)
def images() -> tuple[Tensor, Tensor]:
    sample = registry.load("fashion-sample", "test")
    return torch.from_numpy(sample.images[:200].copy()), torch.from_numpy(sample.labels[:200].copy())


@lru_cache(maxsize=1)
def means() -> Tensor:
    """Of each class of the training images, (K, D)."""
    sample = registry.load("fashion-sample", "train")
    x_ND, labels_N = torch.from_numpy(sample.images).flatten(1) / 255, torch.from_numpy(sample.labels)
    return torch.stack([x_ND[labels_N == k].mean(0) for k in range(10)])


class Nearest(nn.Module):
    """The class of the nearest mean; right for two images of three, under noise, too.

    With ``raw`` False it expects images that somebody has normalised.
    """

    def __init__(self, raw: bool = True) -> None:
        super().__init__()
        mean, std = (0.0, 1.0) if raw else (MEAN, STD)
        means_KD = (means() - mean) / std
        self.linear = nn.Linear(784, 10)
        self.linear.weight.data.copy_(means_KD)
        self.linear.bias.data.copy_(-(means_KD**2).sum(1) / 2)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.linear(x_BCHW.flatten(1))
        return logits_BK


def subject(model: nn.Module, batch_size: int = 64, dtype: str = "float32", **changes: Any) -> Subject:
    images_ICHW, labels_I = images()
    f = BaseClassifier(model.eval(), 10, batch_size=batch_size, dtype=dtype, image_shape=SHAPE)
    given = Subject(
        classifier=f,
        images_ICHW=images_ICHW,
        labels_I=labels_I,
        sigma=SIGMA,
        make_noise=lambda seed: noise_source("exact", SIGMA, seed),
        seed=1,
        model=model,
    )
    return replace(given, **changes)


def found(one: Subject, level: str) -> dict[str, Finding]:
    return {finding.check: finding for finding in examine(one, replace(QUICK, rows=0.5)) if finding.level == level}
