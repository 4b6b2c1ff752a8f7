"""Normalisations in front of a model: by name, as numbers, or from a file of weights."""

import math
from collections.abc import Mapping, Sequence

import torch

from maxup_smoothing.certify.models.weight_files import WeightFile

#: Means and standard deviations, one number a channel, or one for all channels.
Normalization = tuple[tuple[float, ...], tuple[float, ...]]

#: Common normalisations of other projects' models, by the name that `--normalize` takes.
NORMALIZATIONS: Mapping[str, Normalization] = {
    "none": ((0.0,), (1.0,)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}


def normalization(text: str) -> Normalization:
    """Parse a normalisation: a name in `NORMALIZATIONS`, or MEAN/STD with one number a channel, or one for all.

    Raises:
        ValueError: If it is neither, or the numbers are not finite with positive standard deviations.
    """
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
    """Decide which normalisation to put in front of a network.

    Args:
        file: The file with the network's weights.
        stored: The normalisation that the file stores in front of the network; None if it stores none.
        place: The names under which the file stores it.
        given: The normalisation that the user asked for; None if there is none.
        default: The normalisation to use if neither the file nor the user states one.
        channels: Number of channels of the images.
        option: The user's option for it; empty if the user asked for ``default`` by other means.

    Raises:
        ValueError: If the file and the user state different ones. Also if the file holds one beside the weights and the
            user has not said whether it belongs to the images.
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
    """A normalisation in the form that ``--normalize`` takes."""
    return "/".join(",".join(f"{number:.9g}" for number in part) for part in normalization)
