"""Counting votes: a queue of (input, sample range) items fills batches of one fixed size from many inputs."""

# Shapes: B rows of a batch, K classes, V = K + 1 kinds of vote, S items, G of them in a batch.

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass
from queue import SimpleQueue

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
        classifier: The base classifier f. Each of its workers counts in a thread of its own.
        noise: Where the copies come from. Several workers ask for samples in any order and at the same time.
        items: Of equal image shape; the items of an input and stage in the order of their samples.
        advance: Called with the number of samples of each batch; it may raise, to leave.

    Returns:
        int64, (S, K + 1): votes for each class by item, and in the last column the rows whose logits were not finite.
    """
    if not items:
        return np.zeros((0, classifier.num_classes + 1), dtype=np.int64)
    images = [_to(classifier.device, item.image_CHW) for item in items]
    lanes = [_Lane(worker, noise, items, images) for worker in classifier.workers]
    batches = _batches(items, classifier.batch_size)
    for rows in map(lanes[0].count, batches) if len(lanes) == 1 else _counted_by_all(lanes, batches):
        advance(rows)
    classifier.agree_on_memory()
    counts_SV = torch.stack([lane.counts_SV for lane in lanes]).sum(0)
    return counts_SV.cpu().numpy()


class _Lane:
    """One worker's batch and counts.

    Args:
        worker: The base classifier f.
        noise: Where the copies come from.
        items: Whose votes are counted.
        images: Of each item, on the device.
    """

    def __init__(
        self, worker: BaseClassifier, noise: NoiseSource, items: Sequence[Item], images: Sequence[Tensor]
    ) -> None:
        self._f, self._noise, self._items, self._images = worker, noise, items, images
        self._votes = worker.num_classes + 1
        self.counts_SV = torch.zeros((len(items), self._votes), dtype=torch.int64, device=worker.device)
        self._one_B = torch.ones(worker.batch_size, dtype=torch.int64, device=worker.device)
        # Rows beyond the queue's end keep old contents; f has one batch size, so they are classified, and not counted.
        self._batch_BCHW = worker.empty_batch(images[0].shape).zero_()
        self._queued: deque[torch.cuda.Event] = deque()

    def count(self, segments: Sequence[tuple[int, int, int]]) -> int:
        """Classify a batch of (item, first sample, rows), and return its number of samples."""
        filled = 0
        for number, start, rows in segments:
            item, part_BCHW = self._items[number], self._batch_BCHW[filled : filled + rows]
            self._noise.fill(part_BCHW, self._images[number], input_id=item.input_id, stage=item.stage, start=start)
            filled += rows
        vote_B = self._f.classify(self._batch_BCHW)[:filled]
        number_G, rows_G = torch.tensor([(number, rows) for number, _, rows in segments]).T
        slot_B = _to(self._f.device, torch.repeat_interleave(number_G * self._votes, rows_G))
        # Not bincount: on CUDA that waits for the device in every batch.
        self.counts_SV.view(-1).index_add_(0, slot_B + vote_B, self._one_B[:filled])
        if self._f.device.type == "cuda":
            self._queued.append(torch.cuda.Event(blocking=True))
            self._queued[-1].record(torch.cuda.current_stream(self._f.device))
            if len(self._queued) > _AHEAD:
                self._queued.popleft().synchronize()
        return filled


def _counted_by_all(lanes: Sequence[_Lane], batches: Iterable[list[tuple[int, int, int]]]) -> Iterator[int]:
    """The number of samples of each batch, once a thread of its own has counted it in a lane that was free."""
    free: SimpleQueue[_Lane] = SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def count(segments: list[tuple[int, int, int]]) -> int:
        lane = free.get()
        try:
            return lane.count(segments)
        finally:
            free.put(lane)

    # A new thread takes torch's default, which is not the number that was set in this one.
    threads = (torch.get_num_threads(),)
    with ThreadPoolExecutor(len(lanes), initializer=torch.set_num_threads, initargs=threads) as pool:
        running: set[Future[int]] = set()
        try:
            for segments in batches:
                running.add(pool.submit(count, segments))
                if len(running) > len(lanes):
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            yield from (future.result() for future in as_completed(running))
        finally:
            for future in running:
                future.cancel()


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
