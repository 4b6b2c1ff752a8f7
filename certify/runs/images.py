"""The images of a run: which rule brings them to one size, and whether they are those that a table has recorded."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maxup_smoothing.certify.models import loading
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.data import preprocessing, registry
from maxup_smoothing.data.dataset import Dataset
from maxup_smoothing.data.lazy import LazyImages
from maxup_smoothing.data.preprocessing import Preprocessing
from maxup_smoothing.data.runtime import console

if TYPE_CHECKING:  # which imports this module
    from maxup_smoothing.certify.runs.session import Request

AUTO = "auto"
#: In a manifest's notes: 64 bits of the SHA-256 of each image's shape and pixels, in hex, by idx.
DIGESTS = "images_sha256"
_MOST_DIGESTS = 100_000  # they are to fit into a manifest


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How a user wants the images of a data set to be read.

    Attributes:
        resize: Pixels of the shorter side as the user typed it; ``auto`` for what the network declares.
        crop: Pixels of the square in the centre.
        interpolation: The filter; None for the usual one.
        grayscale: One channel instead of three.
        labels: A file with the labels of images that are not in class folders.
        recorded: What a manifest says instead of all these but ``labels``.
    """

    resize: str | None = None
    crop: int | None = None
    interpolation: str | None = None
    grayscale: bool = False
    labels: Path | None = None
    recorded: Preprocessing | None = None


def load(request: "Request", name: str, *, talks: bool) -> Dataset:
    """The data set of a request, its images of one size.

    Args:
        request: What to open.
        name: Of the data set.
        talks: Whether to say on stderr which rule is used.

    Raises:
        ValueError: If the options do not fit, or the images cannot be read.
        OSError: If files are missing.
    """
    how, why = _preprocessing(request)
    dataset = registry.load(
        name, request.split, request.data_root, preprocessing=how, labels=request.images.labels, lazy=True
    )
    if talks and isinstance(dataset.images, LazyImages) and dataset.images.preprocessing is not None:
        print(f"note: images: {dataset.images.preprocessing}{why}.", file=sys.stderr)
    return dataset


def _preprocessing(request: "Request") -> tuple[Preprocessing | None, str]:
    """The rule, if there is one, and where it comes from, as the end of a sentence."""
    asked = request.images
    if request.recorded:
        return asked.recorded, ""
    if asked.resize == AUTO:
        if asked.crop is not None or asked.interpolation is not None:
            raise ValueError("--resize auto takes all from the network; leave --crop and --interpolation out.")
        for found in (one for one in (request.model, request.arch) if one is not None):
            if (how := loading.declared(found)) is not None:
                break
        else:
            raise ValueError(
                "--resize auto is for networks of timm, torchvision and transformers, which declare it; pass numbers, "
                "such as --resize 256 --crop 224."
            )
        return dataclasses.replace(how, grayscale=asked.grayscale or how.grayscale), f", as {found} declares"
    if (asked.resize, asked.crop, asked.interpolation, asked.grayscale) == (None, None, None, False):
        trained = loading.trained_with(request.model)
        return trained, "" if trained is None else ", as the network was trained"
    if asked.resize is not None and not (asked.resize.isascii() and asked.resize.isdecimal() and len(asked.resize) < 6):
        raise ValueError(f"--resize must be a whole number of pixels, or auto, got {asked.resize[:50]!r}.")
    resize = None if asked.resize is None else int(asked.resize)
    chosen = {} if asked.interpolation is None else {"interpolation": asked.interpolation}
    return Preprocessing(resize=resize, crop=asked.crop, grayscale=asked.grayscale, **chosen), ""


def expecting(dataset: Dataset, stored: Mapping[str, Any]) -> Dataset:
    """The data set, in which images that are not those of a table are refused when they are used.

    Args:
        dataset: As it was loaded.
        stored: The table's manifest, {} if there is none.

    Raises:
        ValueError: If the table is of images that were resized or cropped otherwise.
    """
    images, before = dataset.images, manifests.told(stored, "data")
    how = images.preprocessing if isinstance(images, LazyImages) else None
    if before is not None and before.get("preprocessing") != (None if how is None else how.described()):
        was = preprocessing.recorded(before.get("preprocessing"), "the manifest of the table")
        raise ValueError(
            f"the table that is there is of images {_told(was)}, this run uses images {_told(how)}; pass the same "
            "options, or write to another file with --out."
        )
    told = manifests.told(stored, "notes", DIGESTS)
    if not isinstance(images, LazyImages) or not told:
        return dataset
    digests = {int(idx): value for idx, value in told.items() if idx.isdecimal()}
    return dataclasses.replace(dataset, images=images.expecting(digests))


def _told(how: Preprocessing | None) -> str:
    return "as they are stored" if how is None else f"with {how}"


def read_through(dataset: Dataset, indices: Sequence[int]) -> tuple[Dataset, dict[str, Any]]:
    """Read every image of a run once before it begins, so that none is found damaged in the middle of it.

    Args:
        dataset: The data set.
        indices: Of the images.

    Returns:
        The data set, which from now on refuses images that are replaced; and what notes record of these images. Arrays
        are read already, and have a fingerprint.

    Raises:
        ValueError: If one cannot be read, or is not the recorded one; the message names it.
    """
    images = dataset.images
    if not isinstance(images, LazyImages) or len(indices) > _MOST_DIGESTS:
        return dataset, {}
    digests: dict[int, str] = {}
    with console.Meter("reading", "images", len(indices), None, "images") as meter:
        for index in indices:
            digests |= images.digests([index])
            meter.advance(1, 1)
    found = dataclasses.replace(dataset, images=images.expecting(digests))
    return found, {DIGESTS: {str(index): digest for index, digest in digests.items()}}
