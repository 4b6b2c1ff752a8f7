"""Normalisations in front of a model: by name, as numbers, and as a file of weights stores them."""

import math
from collections.abc import Mapping, Sequence

import torch

from maxup_smoothing.certify.models.weight_files import WeightFile

#: Mean and standard deviation a channel.
Normalization = tuple[tuple[float, ...], tuple[float, ...]]

#: Normalisations of other projects' models, mean and standard deviation a channel, by the name `--normalize` takes.
NORMALIZATIONS: Mapping[str, Normalization] = {
    "none": ((0.0,), (1.0,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def normalization(text: str) -> Normalization:
    """Mean and standard deviation a channel, of a name in `NORMALIZATIONS` or of MEAN/STD."""
    if text in NORMALIZATIONS:
        return NORMALIZATIONS[text]
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in text.split("/"))
        if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"--normalize must be one of {', '.join(NORMALIZATIONS)} or MEAN/STD such as 0.5/0.25, finite and STD "
            f"positive, got {text[:200]!r}."
        ) from None
    return mean, std


def settled(
    file: WeightFile,
    stored: Normalization | None,
    place: str,
    given: Normalization | None,
    default: Normalization,
    channels: int,
    *,
    option: str = "--normalize",
) -> Normalization:
    """The normalisation in front of a network.

    Args:
        file: Its weights.
        stored: The normalisation that lies in front of the network there.
        place: Under which names.
        given: What a user asked for.
        default: If nobody says anything.
        channels: Of the images.
        option: With which a user asks for one; empty if ``default`` is asked for by other means.

    Raises:
        ValueError: If the file stores another one than ``given``; or stores one beside the weights, of which nobody
            says whether it is that of the images.
    """
    if stored is not None and max(stored[0]) > 2:
        smaller = (tuple(number / 255 for number in stored[0]), tuple(number / 255 for number in stored[1]))
        if given is not None and same(given, smaller, channels):
            return given
        raise ValueError(
            f"{file.path} stores a normalisation for pixels from 0 to 255 ({place}), and here they lie in "
            f"[0, 1]; pass {option} {normalize_option(smaller)}."
        )
    if stored is not None:
        if given is not None and not same(given, stored, channels):
            raise ValueError(
                f"{file.path} stores the normalisation {normalize_option(stored)} ({place}), and {option} is "
                f"{normalize_option(given)}; leave {option} out."
            )
        return stored
    for names, beside in file.normalizations if given is None and option else ():
        if not same(beside, default, channels):
            raise ValueError(
                f"{file.path} holds a mean and a standard deviation beside its weights ({' and '.join(names)}); if "
                f"they normalise its images, pass {option} {normalize_option(beside)}, else {option} none."
            )
    return default if given is None else given


def same(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]], channels: int) -> bool:
    """Whether two normalisations are the same up to the rounding of float32."""
    if any(len(numbers) not in (1, channels) for numbers in (*one, *other)):
        return False
    pairs = [[torch.tensor(numbers).expand(channels) for numbers in pair] for pair in (one, other)]
    return all(torch.allclose(a, b, rtol=1e-6, atol=1e-7) for a, b in zip(*pairs, strict=True))


def normalize_option(normalization: Sequence[Sequence[float]]) -> str:
    """A normalisation as ``--normalize`` takes it."""
    return "/".join(",".join(f"{number:.9g}" for number in part) for part in normalization)
