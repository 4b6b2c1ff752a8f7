"""Perturbations by name, put together as a configuration says."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.names import unknown
from maxup_smoothing.train.perturbations.geometry import Cutout, RandomCrop, RandomFlip
from maxup_smoothing.train.perturbations.mixing import CutMix, MixUp
from maxup_smoothing.train.perturbations.perturbation import Compose, GaussianNoise, Perturbation
from maxup_smoothing.train.perturbations.randaugment import RandAugment


@dataclass(frozen=True)
class Part:
    """One name of the key ``perturbation``.

    Attributes:
        build: From the configuration to the perturbation.
        reads: Keys that it alone reads.
        mixes: Whether it mixes examples: it needs the whole batch, and targets as probabilities.
    """

    build: Callable[[TrainConfig], Perturbation]
    reads: tuple[str, ...] = ()
    mixes: bool = False


PARTS: Mapping[str, Part] = {
    "noise": Part(lambda config: GaussianNoise(config.sigma), ("sigma",)),
    "crop": Part(lambda config: RandomCrop()),
    "flip": Part(lambda config: RandomFlip()),
    "cutout": Part(lambda config: Cutout(config.cutout_size, config.mean), ("cutout_size",)),
    "mixup": Part(lambda config: MixUp(config.mixup_alpha), ("mixup_alpha",), mixes=True),
    "cutmix": Part(lambda config: CutMix(config.cutmix_alpha), ("cutmix_alpha",), mixes=True),
    "randaugment": Part(
        lambda config: RandAugment(config.randaugment_n, config.randaugment_magnitude),
        ("randaugment_n", "randaugment_magnitude"),
    ),
}


def configured(config: TrainConfig) -> tuple[Perturbation, bool]:
    """What the key ``perturbation`` says, in its order, and whether it mixes examples.

    Raises:
        ValueError: If a name is unknown, noise is not last, sigma is set without noise, or all copies would be one.
    """
    names = config.perturbation
    if not names:
        raise ValueError(f"perturbation is empty; give any of {', '.join(PARTS)}.")
    for name in names:
        if name not in PARTS:
            raise ValueError(unknown("perturbation", name, PARTS))
    if "noise" in names[:-1]:
        raise ValueError(
            f"perturbation = {list(names)}: noise comes last and once, on the image as the classifier is to see it."
        )
    if config.sigma and "noise" not in names:
        raise ValueError(
            f"sigma = {config.sigma:g} has no effect: perturbation = {list(names)} has no 'noise'; add it at the end, "
            "or set sigma = 0."
        )
    if config.m > 1 and not config.sigma and names == ("noise",):
        raise ValueError(f"without noise (sigma = 0) all m = {config.m} copies are one; set m = 1, or a perturbation.")
    parts = [PARTS[name].build(config) for name in names]
    return parts[0] if len(parts) == 1 else Compose(parts), any(PARTS[name].mixes for name in names)
