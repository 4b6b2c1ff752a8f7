"""What is served: a smoothed classifier, its class names, and the sentence that its answers come with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from maxup_smoothing.certify.engine.answering import Answer
from maxup_smoothing.certify.models import loading
from maxup_smoothing.certify.serving.desk import N0
from maxup_smoothing.certify.smoothing import SmoothedClassifier
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.statistics.rounding import floor_text
from maxup_smoothing.data.preprocessing import Preprocessing
from maxup_smoothing.data.runtime.untrusted import read_bytes

#: Rows of a forward pass where nothing else is asked for: what one image needs for its first look.
ROWS = 128
_LONGEST_LIST = 10_000_000  # bytes of a file of class names


@dataclass(frozen=True, kw_only=True)
class Served:
    """A smoothed classifier and what is known of it.

    Attributes:
        name: As the user called the model.
        smoothed: Who answers.
        shape: (C, H, W) of its images.
        classes: Their names; their numbers where nobody told names.
        preprocessing: What is done with image files first; None for nothing.
        notes: What a user should know of how the model was read.
        source: Of the model, as in a manifest.
    """

    name: str
    smoothed: SmoothedClassifier
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    preprocessing: Preprocessing | None
    notes: tuple[str, ...]
    source: dict[str, Any]

    def describe(self) -> dict[str, Any]:
        """What a client may want to know of the model."""
        return {
            "model": self.name,
            "sigma": self.smoothed.sigma,
            "image_shape": list(self.shape),
            "classes": list(self.classes),
            "preprocessing": None if self.preprocessing is None else str(self.preprocessing),
            "weights_sha256": self.smoothed.base.sha256 or self.source.get("sha256"),
        }

    def answer(self, found: Answer, asked: dict[str, Any], *, prepared: bool) -> dict[str, Any]:
        """An answer as it is sent.

        Args:
            found: The answer.
            asked: With which settings.
            prepared: Whether the image was resized before.
        """
        abstains = found.predict == ABSTAIN
        return {
            "class": None if abstains else found.predict,
            "name": None if abstains else self.classes[found.predict],
            "abstains": abstains,
            "radius": found.radius,
            "alpha": found.alpha,
            "samples": found.samples,
            "seconds": found.seconds,
            "reason": found.reason,
            "seed": found.seed,
            "input_id": found.input_id,
            "guarantee": self._guarantee(found, prepared),
            "sigma": self.smoothed.sigma,
            "weights_sha256": self.smoothed.base.sha256 or self.source.get("sha256"),
            "asked": {**asked, "n0": N0},
        }

    def _guarantee(self, found: Answer, prepared: bool) -> str:
        if found.predict == ABSTAIN:
            return "The smoothed classifier abstains: nothing is claimed of this image."
        which = " after it was resized and cropped" if prepared else ""
        ball = f"every image within l2 distance {floor_text(found.radius, 6)} of it, in [0, 1] pixel units"
        return (
            f"The smoothed classifier (sigma {self.smoothed.sigma:g}) gives class {found.predict} "
            f"({self.classes[found.predict]}) to this image{which} and to {ball}; by the noise of this answer, this is "
            f"wrong with probability at most {found.alpha:g}."
        )


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What ``certify serve`` is asked to serve; see there for the meaning."""

    model: str
    device: torch.device
    sigma: float | None = None
    image_shape: tuple[int, int, int] | None = None
    num_classes: int | None = None
    classes: Path | None = None
    resize: int | None = None
    batch_size: int | None = None
    dtype: str | None = None
    randomized: bool = False
    arch: str | None = None
    normalize: str | None = None
    weights: str | None = None


def opened(wanted: Wanted) -> Served:
    """Load a model, check that its samples are independent, and let it answer once.

    Raises:
        ValueError: If it cannot be loaded, something that it does not say is missing, or a setting does not fit.
        OSError: If a file cannot be read.
    """
    known = loading.trained_for(wanted.model)
    shape = wanted.image_shape or (None if known is None else known.image_shape)
    if shape is None:
        raise ValueError(f"{wanted.model} does not say what images it takes; pass --image-shape C,H,W.")
    loaded = loading.load(
        wanted.model,
        shape,
        wanted.num_classes or (0 if known is None else known.num_classes),
        arch=wanted.arch,
        normalize=wanted.normalize,
        weights=wanted.weights,
        batch_size=wanted.batch_size,
        device=wanted.device,
    )
    silent = wanted.normalize is None and "normalize_from" not in loaded.source and ":" not in (wanted.arch or "")
    if loaded.source["kind"] == "weights" and silent:
        raise ValueError(
            f"{wanted.model} does not say how images are normalised; pass --normalize: none, cifar10, imagenet, or "
            "MEAN/STD, as it was certified."
        )
    sigma = wanted.sigma if wanted.sigma is not None else loaded.sigma
    if sigma is None:
        raise ValueError(f"{wanted.model} does not say what noise it was trained with; pass --sigma.")
    few, many = loaded.batch_sizes
    rows = wanted.batch_size or min(max(ROWS, few), many)
    if not few <= rows <= many:
        raise ValueError(f"{wanted.model} takes batches of {few} to {many} images; pass --batch-size {few}.")
    smoothed = SmoothedClassifier(
        loaded.model,
        loaded.num_classes,
        sigma,
        device=wanted.device,
        dtype=wanted.dtype,
        batch_size=rows,
        smallest_batch=few,
        randomized=wanted.randomized,
    )
    generator = torch.Generator().manual_seed(0)
    shown_NCHW = torch.randint(256, (16, *shape), dtype=torch.uint8, generator=generator)
    smoothed.answers(shown_NCHW, n=100, radius=0.0)
    return Served(
        name=wanted.model,
        smoothed=smoothed,
        shape=shape,
        classes=_names(wanted.classes, loaded.classes, loaded.num_classes),
        preprocessing=_preprocessing(wanted.model, wanted.resize, shape),
        notes=tuple(loaded.notes),
        source=dict(loaded.source),
    )


def _preprocessing(model: str, resize: int | None, shape: tuple[int, int, int]) -> Preprocessing | None:
    channels, height, width = shape
    if resize is None:
        return loading.trained_with(model)
    if height != width or channels not in (1, 3):
        raise ValueError(
            f"--resize is for square images of 1 or 3 channels, the network takes {channels, height, width}."
        )
    if resize < height:
        raise ValueError(f"--resize must be at least the network's {height} pixels, got {resize}.")
    return Preprocessing(resize=resize, crop=height, grayscale=channels == 1)


def _names(file: Path | None, told: Sequence[str], num_classes: int) -> tuple[str, ...]:
    if file is None:
        return tuple(told) or tuple(map(str, range(num_classes)))
    try:
        text = read_bytes(file, _LONGEST_LIST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not text in UTF-8 ({error.reason} at byte {error.start}).") from None
    names = tuple(line.strip() for line in text.rstrip("\n").splitlines())
    if len(names) != num_classes or not all(names):
        raise ValueError(
            f"{file} must have a line with a name for each of {num_classes} classes, in the order of their numbers; it "
            f"has {len(names)} lines, {sum(not name for name in names)} of them empty."
        )
    return names
