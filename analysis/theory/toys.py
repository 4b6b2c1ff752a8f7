"""Small random networks of which it is known whether they are smooth: the check's own test objects."""

from itertools import pairwise

import torch
from torch import Tensor, nn

#: Activations by name, and whether each is smooth.
ACTIVATIONS: dict[str, tuple[type[nn.Module], bool]] = {
    "tanh": (nn.Tanh, True),
    "softplus": (nn.Softplus, True),
    "relu": (nn.ReLU, False),
}


def network(activation: str, *, inputs: int = 200, width: int = 256, classes: int = 10, seed: int = 0) -> nn.Module:
    """A network of two hidden layers with random weights, float64.

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


def inputs(images: int, *, size: int = 200, classes: int = 10, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Standard normal inputs, (images, size) float64, and labels by chance."""
    generator = torch.Generator().manual_seed(seed + 1)
    x_ID = torch.randn(images, size, dtype=torch.float64, generator=generator)
    return x_ID, torch.randint(classes, (images,), generator=generator)
