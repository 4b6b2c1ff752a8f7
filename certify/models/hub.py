"""Loads networks of torchvision and timm by name, with the normalisation that their weights expect."""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

LIBRARIES = ("timm", "torchvision")


@dataclass(frozen=True)
class Network:
    """A network in evaluation mode, and the mean and standard deviation by which each input channel is normalised."""

    model: nn.Module
    mean: Sequence[float]
    std: Sequence[float]


def is_name(name: str) -> bool:
    """Whether the name has the form ``timm:NAME`` or ``torchvision:NAME``."""
    library, colon, network = name.partition(":")
    return library in LIBRARIES and bool(colon and network)


def pretrained(name: str) -> Network:
    """A network with its library's own weights; the library downloads them once.

    Args:
        name: ``timm:NAME`` (``timm.list_pretrained()``) or ``torchvision:NAME`` (``torchvision.models.list_models()``).

    Raises:
        ValueError: If the library is not installed or does not know the name.
        OSError: If the weights cannot be downloaded.
    """
    return _timm(name, pretrained=True) if name.startswith("timm:") else _torchvision(name, num_classes=None)


def untrained(name: str, num_classes: int) -> Network:
    """A network with random weights and ``num_classes`` classes, whose weights are then read from a file.

    Raises:
        ValueError: If the library is not installed or does not know the name.
    """
    if name.startswith("timm:"):
        return _timm(name, pretrained=False, num_classes=num_classes)
    return _torchvision(name, num_classes=num_classes)


def _timm(name: str, **options: Any) -> Network:
    timm = _library("timm")
    try:
        model = timm.create_model(name.partition(":")[2], **options)
    except RuntimeError as error:
        raise ValueError(f"timm cannot make {name}: {error}") from error
    config = timm.data.resolve_model_data_config(model)
    return Network(model.eval(), config["mean"], config["std"])


def _torchvision(name: str, num_classes: int | None) -> Network:
    models = _library("torchvision").models
    network = name.partition(":")[2]
    try:
        weights = models.get_model_weights(network).DEFAULT
    except ValueError as error:
        raise ValueError(f"torchvision has no network {network!r}; see torchvision.models.list_models().") from error
    transforms = weights.transforms()
    if num_classes is None:
        model = models.get_model(network, weights=weights)
    else:
        model = models.get_model(network, weights=None, num_classes=num_classes)
    return Network(model.eval(), transforms.mean, transforms.std)


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{name} networks need {name} ({error}); install it with pip install 'maxup-smoothing[{name}]'."
        ) from error
    except RuntimeError as error:  # its operators were compiled for another version of torch
        raise ValueError(f"{name} does not fit this torch ({error}); install versions of the same release.") from error
