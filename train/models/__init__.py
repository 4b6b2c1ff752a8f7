"""Architectures by name, each with normalisation as its first layer."""

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence

from torch import nn

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


def build(
    arch: str,
    image_shape: Sequence[int],
    num_classes: int,
    *,
    mean: Sequence[float] = (0.0,),
    std: Sequence[float] = (1.0,),
    **options: object,
) -> nn.Module:
    """A freshly initialised classifier from images in [0, 1] to logits.

    Args:
        arch: A name in ``ARCHITECTURES``.
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
    if arch not in ARCHITECTURES:
        raise ValueError(unknown("architecture", arch, ARCHITECTURES))
    channels = image_shape[0]
    try:
        backbone = ARCHITECTURES[arch](tuple(image_shape), num_classes, **options)
    except TypeError as error:
        raise ValueError(f"{arch} does not take the options {sorted(options)}: {error}") from error
    return nn.Sequential(OrderedDict(normalize=Normalize(mean, std, channels), backbone=backbone))
