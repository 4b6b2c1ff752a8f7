"""Finds the logits in a model's output, and the number of classes."""

# Shapes: B rows of a batch, K classes; C channels, H height, W width.

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from maxup_smoothing.certify.models.contents import fractional_dtypes
from maxup_smoothing.certify.models.user_code import ModelError, user_code


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


def logits_of(output: object, rows: int, num_classes: int | None = None) -> Tensor:
    """Find the logits in the output of a model.

    A tensor is taken as it is. In a mapping or an object, as transformers return, it is the entry ``logits``. In a
    tuple or list, or a mapping without that entry, it is the only tensor with the shape of logits.

    Args:
        output: The output of the model.
        rows: Number of images B that the model got.
        num_classes: Number of classes K; None if not known yet.

    Raises:
        ValueError: If the output holds no real tensor of shape (B, K), or several; with the fix.
    """
    found: object = output
    if not isinstance(output, Tensor):
        named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
        parts = output.values() if isinstance(output, Mapping) else output if isinstance(output, tuple | list) else ()
        fitting = [part for part in parts if _is_logits(part, rows, num_classes)]
        found = named if named is not None else fitting[0] if len(fitting) == 1 else None
    if isinstance(found, Tensor) and (num_classes is not None or _is_logits(found, rows, None)):
        return found  # `BaseClassifier.classify` checks its shape
    shown = (
        f"{tuple(found.shape)}, {str(found.dtype).removeprefix('torch.')}"
        if isinstance(found, Tensor)
        else type(output).__name__
    )
    fix = "" if isinstance(found, Tensor) else "; return the logits alone, or under the name logits"
    raise ValueError(f"the model must return logits of shape (batch, classes), got {shown} for {rows} images{fix}.")


def _is_logits(part: object, rows: int, num_classes: int | None) -> bool:
    if not isinstance(part, Tensor) or part.dim() != 2 or len(part) != rows or part.is_complex():
        return False
    return num_classes is None or part.shape[1] == num_classes
