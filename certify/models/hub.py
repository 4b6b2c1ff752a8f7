"""Networks of torchvision and timm by name, with the normalisation that their weights expect."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from maxup_smoothing.data.preprocessing import INTERPOLATIONS, Preprocessing

LIBRARIES = ("timm", "torchvision")


@dataclass(frozen=True)
class Network:
    """A network in evaluation mode, and the mean and standard deviation of each channel that its inputs need."""

    model: nn.Module
    mean: Sequence[float]
    std: Sequence[float]


def is_name(name: str) -> bool:
    """Whether this is ``timm:NAME`` or ``torchvision:NAME``."""
    library, colon, network = name.partition(":")
    return library in LIBRARIES and bool(colon and network)


def pretrained(name: str) -> Network:
    """A network with its library's own weights, downloaded once by that library.

    Args:
        name: ``timm:NAME`` (``timm.list_pretrained()``) or ``torchvision:NAME`` (``torchvision.models.list_models()``).

    Raises:
        ValueError: If the library is not installed or does not know the name.
        OSError: If the weights cannot be downloaded.
    """
    return _timm(name, pretrained=True) if name.startswith("timm:") else _torchvision(name, num_classes=None)


def untrained(name: str, num_classes: int) -> Network:
    """The same network with random weights and that many classes, to be filled from a file.

    Raises:
        ValueError: As ``pretrained``.
    """
    if name.startswith("timm:"):
        return _timm(name, pretrained=False, num_classes=num_classes)
    return _torchvision(name, num_classes=num_classes)


def declared(name: str) -> Preprocessing:
    """How a network's library prepares images for it; nothing is downloaded.

    Args:
        name: ``timm:NAME`` or ``torchvision:NAME``.

    Raises:
        ValueError: As ``pretrained``, or if the images are not squares out of the centre.
    """
    if name.startswith("timm:"):
        config = _timm_config(_timm_model(name, pretrained=False))
        size, mode = tuple(config["input_size"]), str(config.get("crop_mode", "center"))
        resize, interpolation = int(size[-1] / config.get("crop_pct", 1.0)), config.get("interpolation", "bilinear")
    else:
        transforms = _weights_of(name).transforms()
        crops, resizes = _flat(transforms.crop_size), _flat(transforms.resize_size)
        size, mode, resize = (3, crops[0], crops[-1]), "center" if len(resizes) == 1 else "another", resizes[0]
        interpolation = getattr(transforms.interpolation, "value", transforms.interpolation)
    if len(set(size[1:])) > 1 or mode != "center" or interpolation not in INTERPOLATIONS:
        raise ValueError(
            f"{name} declares images of {'x'.join(map(str, size[1:]))} pixels, crop mode {mode}, interpolation "
            f"{interpolation}; only squares out of the centre are made here: pass --resize and --crop."
        )
    return Preprocessing(resize=resize, crop=size[-1], interpolation=interpolation, grayscale=size[0] == 1)


def _flat(number: Any) -> list[int]:
    return [number] if isinstance(number, int) else [int(value) for value in number]


def _timm(name: str, **options: Any) -> Network:
    model = _timm_model(name, **options)
    config = _timm_config(model)
    return Network(model.eval(), config["mean"], config["std"])


def _timm_model(name: str, **options: Any) -> nn.Module:
    try:
        model: nn.Module = _library("timm").create_model(name.partition(":")[2], **options)
    except RuntimeError as error:
        raise ValueError(f"timm cannot make {name}: {error}") from error
    return model


def _timm_config(model: nn.Module) -> Mapping[str, Any]:
    config: Mapping[str, Any] = _library("timm").data.resolve_model_data_config(model)
    return config


def _torchvision(name: str, num_classes: int | None) -> Network:
    models = _library("torchvision").models
    network, weights = name.partition(":")[2], _weights_of(name)
    transforms = weights.transforms()
    if num_classes is None:
        model = models.get_model(network, weights=weights)
    else:
        model = models.get_model(network, weights=None, num_classes=num_classes)
    return Network(model.eval(), transforms.mean, transforms.std)


def _weights_of(name: str) -> Any:
    """What torchvision tells of a network's own weights."""
    network = name.partition(":")[2]
    try:
        return _library("torchvision").models.get_model_weights(network).DEFAULT
    except ValueError as error:
        raise ValueError(f"torchvision has no network {network!r}; see torchvision.models.list_models().") from error


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{name} networks need {name} ({error}); install it with pip install 'maxup-smoothing[{name}]'."
        ) from error
    except RuntimeError as error:  # operators compiled for another torch
        raise ValueError(f"{name} does not fit this torch ({error}); install versions of the same release.") from error
