"""Counting votes: a queue of (input, sample range) items fills batches of one fixed size from many inputs."""

# Shapes: B rows of a batch, K classes, V = K + 1 kinds of vote, S items, G of them in a batch.

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise import NoiseSource

_AHEAD = 8  # batches that the CPU may be ahead of the device: beyond, `advance` would tell of what is not done


@dataclass(frozen=True)
class Item:
    """Samples ``start`` to ``stop`` of one input and stage.

    Attributes:
        image_CHW: (C, H, W), uint8 or float32 in [0, 1].
        input_id: Index of the input in its data set.
        stage: See ``certify.noise``.
        start: First sample.
        stop: One past the last.
    """

    image_CHW: Tensor
    input_id: int
    stage: int
    start: int
    stop: int


def count_votes(
    classifier: BaseClassifier,
    noise: NoiseSource,
    items: Sequence[Item],
    advance: Callable[[int], None] = lambda samples: None,
) -> NDArray[np.int64]:
    """Votes of f on noisy copies.

    Args:
        classifier: The base classifier f.
        noise: Where the copies come from.
        items: Of equal image shape; the items of an input and stage in the order of their samples.
        advance: Called with the number of samples of each batch; it may raise, to leave.

    Returns:
        int64, (S, K + 1): votes for each class by item, and in the last column the rows whose logits were not finite.
    """
    votes = classifier.num_classes + 1
    counts_SV = torch.zeros((len(items), votes), dtype=torch.int64, device=classifier.device)
    one_B = torch.ones(classifier.batch_size, dtype=torch.int64, device=classifier.device)
    images = [_to(classifier.device, item.image_CHW) for item in items]
    # Rows beyond the queue's end keep old contents; they are classified, since f has one batch size, and not counted.
    batch_BCHW = classifier.empty_batch(images[0].shape).zero_() if items else torch.empty(0)
    queued: deque[torch.cuda.Event] = deque()
    for segments in _batches(items, classifier.batch_size):
        filled = 0
        for number, start, rows in segments:
            item, part_BCHW = items[number], batch_BCHW[filled : filled + rows]
            noise.fill(part_BCHW, images[number], input_id=item.input_id, stage=item.stage, start=start)
            filled += rows
        vote_B = classifier.classify(batch_BCHW)[:filled]
        number_G, rows_G = torch.tensor([(number, rows) for number, _, rows in segments]).T
        slot_B = _to(classifier.device, torch.repeat_interleave(number_G * votes, rows_G))
        # Not bincount: on CUDA that waits for the device in every batch.
        counts_SV.view(-1).index_add_(0, slot_B + vote_B, one_B[:filled])
        if classifier.device.type == "cuda":
            queued.append(torch.cuda.Event(blocking=True))
            queued[-1].record(torch.cuda.current_stream(classifier.device))
            if len(queued) > _AHEAD:
                queued.popleft().synchronize()
        advance(filled)
    return counts_SV.cpu().numpy()


def _to(device: torch.device, tensor: Tensor) -> Tensor:
    """A tensor on the device, by a transfer that the CPU does not wait for."""
    pinned = tensor.pin_memory() if device.type == "cuda" and not tensor.is_cuda else tensor
    return pinned.to(device, non_blocking=True)


def _batches(items: Iterable[Item], size: int) -> Iterable[list[tuple[int, int, int]]]:
    """Batches of at most ``size`` rows as (item, first sample, rows) segments."""
    batch: deque[tuple[int, int, int]] = deque()
    free = size
    for number, item in enumerate(items):
        start = item.start
        while start < item.stop:
            rows = min(free, item.stop - start)
            batch.append((number, start, rows))
            start, free = start + rows, free - rows
            if free == 0:
                yield list(batch)
                batch.clear()
                free = size
    if batch:
        yield list(batch)
