"""Finds the logits in a model's output, and the number of classes."""

# Shapes: B rows of a batch, K classes; C channels, H height, W width.

from collections.abc import Sequence

import torch
from torch import nn

from maxup_smoothing.certify.models.contents import fractional_dtypes
from maxup_smoothing.data.runtime.user_code import ModelError, logits_of, user_code


def input_dtypes(model: nn.Module) -> list[torch.dtype]:
    """The input dtypes to try on a model, in order: float32, the dtype of images, then those of its weights."""
    others = fractional_dtypes(model) - {torch.float32}
    return [torch.float32, *sorted((kind for kind in others if kind.is_floating_point), key=str)]


def probe(model: nn.Module, image_shape: Sequence[int], batch_sizes: tuple[int, int] = (1, 2**31)) -> int:
    """Find the number of classes of a model by running it on grey images.

    It gets two images, or the number nearest to two that ``batch_sizes`` (smallest, largest) allows.

    Raises:
        ValueError: If it does not take such images, or does not return one row of logits for each.
    """
    first = next((tensor for tensor in model.parameters()), torch.zeros(()))
    rows = min(max(2, batch_sizes[0]), batch_sizes[1])
    shape = "x".join(map(str, image_shape))
    kinds = input_dtypes(model)
    for kind in kinds:
        x_BCHW = torch.full((rows, *image_shape), 0.5, device=first.device, dtype=kind)
        try:
            with user_code(f"the model does not take {shape} (CxHxW) images", fewer=False), torch.inference_mode():
                output = model(x_BCHW)
        except ModelError:
            if kind is kinds[-1]:
                raise
        else:
            break
    return logits_of(output, rows).shape[1]
