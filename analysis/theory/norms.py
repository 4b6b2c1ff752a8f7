"""Gradient norms of the loss on the same images, of networks that were trained in different ways."""

# Shapes: I images.

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from maxup_smoothing.analysis.theory.derivatives import cross_entropy, gradient_norms
from maxup_smoothing.analysis.theory.networks import Network
from maxup_smoothing.analysis.theory.regression import Interval, mean_interval
from maxup_smoothing.train.perturbations import GaussianNoise
from maxup_smoothing.train.seeds import generator

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Norms:
    """|grad_x L| of one network: ``clean_I`` at the images, ``noisy_I`` at one noisy copy of each, None without sigma.

    ``loss`` is the mean loss at the images.
    """

    name: str
    images: str
    sigma: float | None
    loss: float
    clean_I: Array
    noisy_I: Array | None


def measure(subject: Network, seed: int) -> Norms:
    """Gradient norms at the images of a subject, and at N(0, sigma^2) noise around them, sigma that of training.

    The noise is a function of the seed: two networks with one sigma meet the same.
    """
    model, x_I, y_I, sigma = subject.model, subject.x_I, subject.y_I, subject.sigma
    noisy_I = None
    if sigma:
        moved_I, _ = GaussianNoise(sigma)(x_I, y_I, generator(x_I.device, seed, 0))
        noisy_I = gradient_norms(model, cross_entropy, moved_I, y_I).numpy()
    with torch.no_grad():
        losses = [cross_entropy(model(x_E), y_E) for x_E, y_E in zip(x_I.split(256), y_I.split(256), strict=True)]
    return Norms(
        name=subject.name,
        images=subject.images,
        sigma=sigma,
        loss=float(torch.cat(losses).mean()),
        clean_I=gradient_norms(model, cross_entropy, x_I, y_I).numpy(),
        noisy_I=noisy_I,
    )


@dataclass(frozen=True, kw_only=True)
class Change:
    """Gradient norms of one network over those of another, image by image.

    ``typical`` is the geometric mean of the ratios, ``mean`` the difference of the means, ``smaller`` the share of
    images at which it is smaller.
    """

    typical: Interval
    mean: Interval
    smaller: float


def change(of_I: Array, over_I: Array) -> Change:
    """Compare norms at the same images, paired; the geometric mean leaves out images where either is 0."""
    both = (of_I > 0) & (over_I > 0)
    log = mean_interval(np.log(of_I[both] / over_I[both]))
    return Change(
        typical=Interval(value=math.exp(log.value), low=math.exp(log.low), high=math.exp(log.high)),
        mean=mean_interval(of_I - over_I),
        smaller=float((of_I < over_I).mean()),
    )
