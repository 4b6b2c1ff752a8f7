"""Which batch sizes a model accepts: some are built for one, whatever their signature says."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from maxup_smoothing.certify.models.outputs import probe


@dataclass(frozen=True)
class Accepted:
    """What a model accepts.

    Attributes:
        classes: Number of its logits.
        sizes: Smallest and largest batch.
        narrowed: Whether it takes one image alone, although it did not say so.
    """

    classes: int
    sizes: tuple[int, int]
    narrowed: bool = False


def accepted(
    model: nn.Module, image_shape: Sequence[int], claimed: tuple[int, int], batch_size: int | None, option: str
) -> Accepted:
    """Show a model a few grey images: as many as a run will, and where that fails, one.

    Args:
        model: In evaluation mode, from (B, C, H, W) images to (B, K) logits.
        image_shape: (C, H, W).
        claimed: Smallest and largest batch, as far as is known without trying.
        batch_size: With which it will run; None if that is not known yet.
        option: With which a user says that, such as ``--batch-size``.

    Raises:
        ValueError: If the model takes no such images, or does not return one row of logits for each.
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
        fix = f"if it takes batches of one size alone, pass that with {option}"
        raise ValueError(f"{str(error).rstrip('.')}; {fix}.") from error.__cause__
    if batch_size is not None and rows > 2 and claimed[0] <= 2 and _classes(model, image_shape, 2) is None:
        return Accepted(classes, (rows, rows))
    return Accepted(classes, claimed)


def _classes(model: nn.Module, image_shape: Sequence[int], rows: int) -> int | None:
    try:
        return probe(model, image_shape, (rows, rows))
    except ValueError:
        return None
