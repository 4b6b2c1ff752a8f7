"""The networks that are examined: checkpoints and other models that ``certify`` takes, and small random toys."""

# Shapes: I images; dimension 0 is the example.

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from maxup_smoothing.analysis.theory.derivatives import frozen
from maxup_smoothing.certify.models import loading
from maxup_smoothing.data import registry

TOY = "toy:"


@dataclass(frozen=True, kw_only=True)
class Network:
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

    def moved(self, nudge: float, seed: int) -> "Network":
        """The same at images to which N(0, nudge^2) noise was added once: off every corner that lies in an image."""
        generator = torch.Generator().manual_seed(seed)
        noise_I = torch.empty_like(self.x_I).normal_(generator=generator)
        return replace(self, name=f"{self.name}, moved", x_I=self.x_I + nudge * noise_I, nudge=nudge)


def load(name: str, *, data: str | None, data_root: Path | None, images: int, seed: int) -> Network:
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
        model = toy(activation, seed=seed)
        x_I, y_I = toy_inputs(images, seed=seed)
        return Network(
            name=f"toy {activation}",
            model=frozen(model),
            x_I=x_I,
            y_I=y_I,
            images=f"{images} standard normal inputs of 200 coordinates",
            smooth=ACTIVATIONS[activation][1],
        )
    dataset = registry.load(data or loading.trained_on(name), "test", data_root)
    if not dataset.labelled:
        raise ValueError(f"{dataset.name} has no labels, and the loss takes them; give images with labels.")
    if images > len(dataset.images):
        raise ValueError(f"{dataset.name} has {len(dataset.images)} images, fewer than {images}.")
    loaded = loading.load(name, dataset.images.shape[1:], dataset.num_classes)
    index_I = np.arange(images) * len(dataset.images) // images
    return Network(
        name=Path(name).name.removesuffix(".safetensors") if Path(name).exists() else name,
        model=frozen(loaded.model),
        x_I=torch.from_numpy(dataset.images[index_I]).double() / 255,
        y_I=torch.from_numpy(dataset.labels[index_I]),
        images=f"{images} evenly spaced {dataset.name} {dataset.split} images",
        sigma=loaded.sigma,
    )


#: Activations by name, and whether each is smooth.
ACTIVATIONS: dict[str, tuple[type[nn.Module], bool]] = {
    "tanh": (nn.Tanh, True),
    "softplus": (nn.Softplus, True),
    "relu": (nn.ReLU, False),
}


def toy(activation: str, *, inputs: int = 200, width: int = 256, classes: int = 10, seed: int = 0) -> nn.Module:
    """A toy network of two hidden layers with random weights, float64.

    Weights are N(0, 2 / inputs of the layer), so that logits and losses are of order 1 and nonlinear.

    Raises:
        ValueError: If there is no such activation.
    """
    if activation not in ACTIVATIONS:
        raise ValueError(f"toy networks have one of {', '.join(ACTIVATIONS)}, got {activation!r}.")
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    sizes = (inputs, width, width, classes)
    for fan_in, fan_out in pairwise(sizes):
        layer = nn.Linear(fan_in, fan_out, dtype=torch.float64)
        with torch.no_grad():
            layer.weight.normal_(0, (2 / fan_in) ** 0.5, generator=generator)
            layer.bias.normal_(0, 0.1, generator=generator)
        layers += [layer, ACTIVATIONS[activation][0]()]
    return nn.Sequential(*layers[:-1]).eval()


def toy_inputs(images: int, *, size: int = 200, classes: int = 10, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Standard normal inputs, (images, size) float64, and labels by chance."""
    generator = torch.Generator().manual_seed(seed + 1)
    x_ID = torch.randn(images, size, dtype=torch.float64, generator=generator)
    return x_ID, torch.randint(classes, (images,), generator=generator)
