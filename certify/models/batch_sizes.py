"""Finds out which batch sizes a model accepts: some models work at one size only, without declaring it."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from maxup_smoothing.certify.models.outputs import probe


@dataclass(frozen=True)
class Accepted:
    """The result of trying a model.

    Attributes:
        classes: Number of the model's logits.
        sizes: Smallest and largest batch that it accepts.
        narrowed: Whether it accepts only one image at a time, although it claimed more.
    """

    classes: int
    sizes: tuple[int, int]
    narrowed: bool = False


def accepted(
    model: nn.Module, image_shape: Sequence[int], claimed: tuple[int, int], batch_size: int | None, option: str
) -> Accepted:
    """Try a model on a batch of grey images of the run's size, and if that fails, on one image.

    Args:
        model: The network, in evaluation mode, from (B, C, H, W) images to (B, K) logits.
        image_shape: Shape (C, H, W) of one image.
        claimed: Smallest and largest batch that the model declares.
        batch_size: Batch size of the run; None if not known yet.
        option: The user's option for the batch size, such as ``--batch-size``, for messages.

    Raises:
        ValueError: If the model does not take such images, or does not return one row of logits for each.
    """
    rows = min(max(batch_size or 2, claimed[0]), claimed[1])
    try:
        classes = probe(model, image_shape, (rows, rows))
    except ValueError as error:
        single = _classes(model, image_shape, 1) if claimed[0] == 1 < rows else None
        if single is not None:
            return Accepted(single, (1, 1), narrowed=True)
        about_rows = isinstance(error.__cause__, RuntimeError | ValueError | AssertionError)
        if batch_size is not None or claimed[0] == claimed[1] or not about_rows:
            raise
        fix = f"if it only takes batches of one size, pass that size with {option}"
        raise ValueError(f"{str(error).rstrip('.')}; {fix}.") from error.__cause__
    if batch_size is not None and rows > 2 and claimed[0] <= 2 and _classes(model, image_shape, 2) is None:
        return Accepted(classes, (rows, rows))
    return Accepted(classes, claimed)


def _classes(model: nn.Module, image_shape: Sequence[int], rows: int) -> int | None:
    """Number of logits at a batch of ``rows`` grey images; None if the model fails."""
    try:
        return probe(model, image_shape, (rows, rows))
    except ValueError:
        return None
