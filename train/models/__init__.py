"""Architectures by name, of this project, of libraries and of users, each with normalisation as its first layer."""

import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from maxup_smoothing.data.runtime.user_code import logits_of, user_code
from maxup_smoothing.train.models import factories, hub
from maxup_smoothing.train.models.lenet import LeNet
from maxup_smoothing.train.models.normalize import Normalize
from maxup_smoothing.train.models.resnet_cifar import resnet
from maxup_smoothing.train.models.resnet_imagenet import ResNet50
from maxup_smoothing.train.models.small import Small
from maxup_smoothing.train.models.wide_resnet import wrn
from maxup_smoothing.train.names import unknown

Backbone = Callable[..., nn.Module]

ARCHITECTURES: Mapping[str, Backbone] = {
    "small": Small,
    "lenet": LeNet,
    "resnet20": resnet(20),
    "resnet50": ResNet50,
    "resnet56": resnet(56),
    "resnet110": resnet(110),
    "wrn-16-4": wrn(16, 4),
    "wrn-28-10": wrn(28, 10),
}


class Classifier(nn.Sequential):
    """Normalisation and a network of others, whose answer is the logits, whatever the network wraps them in.

    Args:
        normalize: The first layer.
        backbone: From normalised images (B, C, H, W) to logits (B, K), or what ``logits_of`` finds them in.
        num_classes: Number of logits K.
    """

    def __init__(self, normalize: Normalize, backbone: nn.Module, num_classes: int) -> None:
        super().__init__(OrderedDict(normalize=normalize, backbone=backbone))
        self.normalize, self.backbone, self.num_classes = normalize, backbone, num_classes

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits, (B, K).

        Raises:
            ValueError: If the network returns anything without logits.
        """
        return logits_of(self.backbone(self.normalize(x_BCHW)), len(x_BCHW), self.num_classes)


def is_foreign(arch: str) -> bool:
    """Whether this names a network of a library or of a user: ``timm:NAME``, ``package.module:factory`` and so on."""
    return factories.is_name(arch)


def is_residual(arch: str) -> bool:
    """Whether this is one of this project's residual networks, which have the option ``shortcut``."""
    return arch in ARCHITECTURES and arch.startswith("resnet")


def network(
    arch: str, image_shape: Sequence[int], num_classes: int, options: Mapping[str, Any] | None = None
) -> hub.Network:
    """A network of a library or of a user, with random weights, in evaluation mode.

    Args:
        arch: ``timm:NAME``, ``torchvision:NAME``, ``hf:FOLDER``, or a factory, ``package.module:factory`` or
            ``file.py:factory``, which is called with ``image_shape`` and ``num_classes``.
        image_shape: (C, H, W) of one image.
        num_classes: Number of logits K.
        options: Passed to the library or factory by their names.

    Raises:
        ValueError: If the package or the factory is missing, or it does not take the options; with the fix.
    """
    if hub.is_name(arch):
        return hub.untrained(arch, num_classes, image_shape[0], options)
    made, notes = factories.made(arch, tuple(image_shape), num_classes, **(options or {}))
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    if not isinstance(made, nn.Module):
        raise ValueError(f"{arch}() must return an nn.Module, got {type(made).__name__}; name a factory of networks.")
    if any(is_lazy(tensor) for tensor in (*made.parameters(), *made.buffers())):
        with user_code(f"{arch} does not take images of shape {tuple(image_shape)}"), torch.no_grad():
            made.eval()(torch.zeros(2, *image_shape))  # its layers get their shapes now
    return hub.Network(made.eval(), (0.0,), (1.0,))


def build(
    arch: str,
    image_shape: Sequence[int],
    num_classes: int,
    *,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    **options: Any,
) -> nn.Module:
    """A freshly initialised classifier from images in [0, 1] to logits.

    Args:
        arch: A name in ``ARCHITECTURES``, or what ``network`` takes.
        image_shape: (C, H, W) of one image.
        num_classes: Number of logits K.
        mean: Per channel, subtracted first; one number serves every channel.
        std: Per channel, divided by afterwards.
        options: Passed to the architecture, such as ``shortcut`` of the residual networks.

    Returns:
        A module from (B, C, H, W) float to (B, K) logits, whose layers are ``normalize`` and ``backbone``.

    Raises:
        ValueError: If ``arch`` is unknown or does not take such images.
    """
    if is_foreign(arch):
        found = network(arch, image_shape, num_classes, options)
        return Classifier(Normalize(mean, std, image_shape[0]), found.model, num_classes)
    if arch not in ARCHITECTURES:
        raise ValueError(unknown("architecture", arch, ARCHITECTURES))
    channels = image_shape[0]
    try:
        backbone = ARCHITECTURES[arch](tuple(image_shape), num_classes, **options)
    except TypeError as error:
        raise ValueError(f"{arch} does not take the options {sorted(options)}: {error}") from error
    return nn.Sequential(OrderedDict(normalize=Normalize(mean, std, channels), backbone=backbone))


def declared(found: hub.Network, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation that a network declares, for images of so many channels.

    One that declares others, such as those of colours for grey images, gets their means for every channel.
    """
    mean, std = tuple(map(float, found.mean)), tuple(map(float, found.std))
    if len(mean) in (1, channels) and len(std) in (1, channels):
        return mean, std
    return (sum(mean) / len(mean),), (sum(std) / len(std),)


def try_out(model: nn.Module, arch: str, image_shape: Sequence[int], size: tuple[int, int] | None) -> None:
    """Show a network of others two grey images of the data set's shape; its weights and statistics stay.

    Args:
        model: The classifier.
        arch: Its name, for the message.
        image_shape: (C, H, W).
        size: Height and width that it declares, if it takes no others.

    Raises:
        ValueError: If it does not take such images or does not return a row of logits for each; with the fix.
    """
    training = model.training
    shape = "x".join(map(str, image_shape))
    try:
        with user_code(f"{arch} does not take {shape} (CxHxW) images", fewer=False), torch.no_grad():
            logits_BK = model.eval()(torch.full((2, *image_shape), 0.5))
    except ValueError as error:
        if size is not None and size != tuple(image_shape[1:]):
            raise ValueError(
                f"{arch} takes images of {size[0]}x{size[1]} pixels, the data set has {image_shape[1]}x{image_shape[2]}"
                f"; set crop = {size[0]} and resize to at least as much, or give the network its option for the size."
            ) from error
        raise
    finally:
        model.train(training)
    num_classes = getattr(model, "num_classes", None)
    if logits_BK.shape != (2, num_classes):
        raise ValueError(
            f"{arch} must return logits of shape (2, {num_classes}) for 2 images, got {tuple(logits_BK.shape)}; build "
            "it with num_classes outputs."
        )
