"""Whom the law is tried on: checkpoints and models of others by the names that ``certify`` takes, and toy networks."""

# Shapes: I images; dimension 0 is the example.

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from maxup_smoothing.analysis.theory import toys
from maxup_smoothing.analysis.theory.derivatives import frozen
from maxup_smoothing.certify.models import loading
from maxup_smoothing.data import registry

TOY = "toy:"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network and images.

    Attributes:
        name: In the report.
        model: In float64 and evaluation mode, without gradients of its weights.
        x_I: Images in [0, 1], float64.
        y_I: Labels.
        images: Where they are from, in words.
        sigma: The noise that it was trained with; None if unknown.
        nudge: Standard deviation of the noise by which the images were moved; 0 for as they are.
        smooth: For a toy what is known; None to find out.
    """

    name: str
    model: nn.Module
    x_I: Tensor
    y_I: Tensor
    images: str
    sigma: float | None = None
    nudge: float = 0.0
    smooth: bool | None = None

    def moved(self, nudge: float, seed: int) -> "Subject":
        """The same at images to which N(0, nudge^2) noise was added once: off every corner that lies in an image."""
        generator = torch.Generator().manual_seed(seed)
        noise_I = torch.empty_like(self.x_I).normal_(generator=generator)
        return replace(self, name=f"{self.name}, moved", x_I=self.x_I + nudge * noise_I, nudge=nudge)


def load(name: str, *, data: str | None, data_root: Path | None, images: int, seed: int) -> Subject:
    """A subject by name.

    Args:
        name: ``toy:tanh``, ``toy:softplus``, ``toy:relu``; or what ``certify run`` takes: a run folder, a checkpoint,
            ``package.module:factory``, ….
        data: A data set's name; by default what a checkpoint was trained on. Its test images are used.
        data_root: Where data sets lie.
        images: How many, evenly spaced over the data set; at least 2.
        seed: Of a toy's weights and inputs.

    Raises:
        ValueError: If there is no such network or data set, or fewer images.
        OSError: If a file is missing.
    """
    if images < 2:
        raise ValueError(f"the check needs at least 2 images, got {images}.")
    if name.startswith(TOY):
        activation = name.removeprefix(TOY)
        model = toys.network(activation, seed=seed)
        x_I, y_I = toys.inputs(images, seed=seed)
        return Subject(
            name=f"toy {activation}",
            model=frozen(model),
            x_I=x_I,
            y_I=y_I,
            images=f"{images} standard normal inputs of 200 coordinates",
            smooth=toys.ACTIVATIONS[activation][1],
        )
    dataset = registry.load(data or loading.trained_on(name), "test", data_root)
    if not dataset.labelled:
        raise ValueError(f"{dataset.name} has no labels, and the loss takes them; give images with labels.")
    if images > len(dataset.images):
        raise ValueError(f"{dataset.name} has {len(dataset.images)} images, fewer than {images}.")
    loaded = loading.load(name, dataset.images.shape[1:], dataset.num_classes)
    index_I = np.arange(images) * len(dataset.images) // images
    return Subject(
        name=Path(name).name.removesuffix(".safetensors") if Path(name).exists() else name,
        model=frozen(loaded.model),
        x_I=torch.from_numpy(dataset.images[index_I]).double() / 255,
        y_I=torch.from_numpy(dataset.labels[index_I]),
        images=f"{images} evenly spaced {dataset.name} {dataset.split} images",
        sigma=loaded.sigma,
    )
