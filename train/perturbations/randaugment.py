"""RandAugment: a few operations of colour and geometry, drawn for each image, all of one strength.

The operations are kornia's, which need no torchvision and take a strength for each image. Its own RandAugment is not
used: it applies the same operations to the whole batch, and draws them from torch's global generator.
"""

# Shapes: B images, C channels, H height, W width; D of them have the operation in question.

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maxup_smoothing.train.perturbations.perturbation import require_floating

LARGEST = 30.0  # the magnitude at which operations have their full strength

#: kornia, images in [0, 1] (D, C, H, W) and levels in [-1, 1] (D,) to images.
Operation = Callable[[Any, Tensor, Tensor], Tensor]


def _blended(name: str) -> Operation:
    """An operation of kornia.enhance by a factor: 0 gives the image without what it is about, 1 the image itself."""
    return lambda kornia, x, level: getattr(kornia.enhance, name)(x, 1 + 0.9 * level)


def _colour(kornia: Any, x: Tensor, level: Tensor) -> Tensor:
    return kornia.enhance.adjust_saturation_with_gray_subtraction(x, 1 + 0.9 * level) if x.shape[1] == 3 else x


def _posterize(kornia: Any, x: Tensor, level: Tensor) -> Tensor:
    return kornia.enhance.posterize(x, 8 - (4 * level.abs()).round().long())


def _sheared(axis: int) -> Operation:
    return lambda kornia, x, level: kornia.geometry.transform.shear(x, _along(axis, 0.3 * level))


def _shifted(axis: int) -> Operation:
    # As many pixels of 32 as AutoAugment moves of 331.
    return lambda kornia, x, level: kornia.geometry.transform.translate(
        x, _along(axis, 150 / 331 * x.shape[3 - axis] * level)
    )


def _along(axis: int, amount: Tensor) -> Tensor:
    """(D, 2): the amounts in x (0) or y (1), and zeros."""
    parts = [amount, torch.zeros_like(amount)]
    return torch.stack(parts if axis == 0 else parts[::-1], dim=1)


OPERATIONS: dict[str, Operation] = {
    "identity": lambda kornia, x, level: x,
    "autocontrast": lambda kornia, x, level: kornia.enhance.normalize_min_max(x),
    "equalize": lambda kornia, x, level: kornia.enhance.equalize(x),
    "rotate": lambda kornia, x, level: kornia.geometry.transform.rotate(x, 30 * level),
    "solarize": lambda kornia, x, level: kornia.enhance.solarize(x, 1 - level.abs()),
    "colour": _colour,
    "posterize": _posterize,
    "contrast": _blended("adjust_contrast_with_mean_subtraction"),
    "brightness": _blended("adjust_contrast"),  # which multiplies: what PIL calls brightness
    "sharpness": _blended("sharpness"),
    "shear_x": _sheared(0),
    "shear_y": _sheared(1),
    "translate_x": _shifted(0),
    "translate_y": _shifted(1),
}


@dataclass(frozen=True)
class RandAugment:
    """Apply ``n`` operations to each image, each drawn uniformly from ``OPERATIONS``, with a random sign.

    Ranges are those of AutoAugment; what leaves the image leaves black behind. Images must lie in [0, 1].

    Args:
        n: Operations an image, at least 1.
        magnitude: Their strength, in [0, 30].

    Raises:
        ValueError: If kornia is not installed.

    References:
        Cubuk, Zoph, Shlens, Le (2020), "RandAugment: practical automated data augmentation with a reduced search
        space", arXiv:1909.13719.
    """

    n: int = 2
    magnitude: float = 9.0

    def __post_init__(self) -> None:
        """Look for kornia now, not after the data has been read."""
        _kornia()

    def __call__(self, x_BCHW: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The images, (B, C, H, W) in [0, 1] and in the dtype of ``x_BCHW``; the targets as they are."""
        require_floating(x_BCHW, "randaugment")
        # Autocast would place pixels and blend colours in half precision.
        with torch.autocast(x_BCHW.device.type, enabled=False):
            return self._changed(x_BCHW, generator), y

    def _changed(self, x_BCHW: Tensor, generator: torch.Generator) -> Tensor:
        kornia, B, device = _kornia(), len(x_BCHW), x_BCHW.device
        for _ in range(self.n):
            choice_B = torch.randint(len(OPERATIONS), (B,), generator=generator, device=device)
            sign_B = 2 * torch.randint(2, (B,), generator=generator, device=device) - 1
            level_B = (sign_B * (self.magnitude / LARGEST)).to(x_BCHW.dtype)
            x_BCHW = x_BCHW.clone()
            for number, operation in enumerate(OPERATIONS.values()):
                here_D = (choice_B == number).nonzero().squeeze(1)
                if len(here_D):
                    x_BCHW[here_D] = operation(kornia, x_BCHW[here_D], level_B[here_D]).clamp(0, 1)
        return x_BCHW


def _kornia() -> Any:
    try:
        return importlib.import_module("kornia")
    except ImportError as error:
        raise ValueError(
            f"the perturbation 'randaugment' needs kornia ({error}); install it with "
            "pip install 'maxup-smoothing[kornia]'."
        ) from error
