"""Short measurements that make f fast on this machine: its batch size, its workers, and whether to compile it."""

# Shapes: B rows; C channels, H height, W width.

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.data.runtime.memory import OutOfMemory

#: Shortest run, in seconds, that is worth compiling for. Compiling takes 5 to 60 seconds and saves some tenths of the
#: rest of the run.
WORTH_COMPILING = 600.0
#: Shortest run, in seconds, in which the number of workers matters.
WORTH_MEASURING = 5.0
#: Largest number of workers: each needs the memory of a forward pass.
MOST_WORKERS = 8
#: Seconds for an image above which the command says that it is measuring; seconds for a batch above which it stops.
SLOW, LONG = 0.02, 0.5


def fastest_batch_size(
    classifier: BaseClassifier, image_shape: Sequence[int], limits: tuple[int, int] = (1, 2**31)
) -> int:
    """Measure the power of two that, as batch size, gives the most images per second; it takes about two seconds.

    If one image takes long, smaller batches are tried as well, and stderr says what is being measured.

    Args:
        classifier: f, uncompiled and prepared.
        image_shape: Shape (C, H, W) of one image.
        limits: Smallest and largest batch that the model accepts.

    Raises:
        ValueError: If the device has not enough memory for the smallest batch tried.
    """
    low, high = limits
    usual = (512, 1024, 2048, 4096) if classifier.device.type == "cuda" else (32, 64, 128, 256, 512)
    one = classifier.resized(low)
    a_row = seconds_a_batch(one, image_shape, 1) / low
    if SLOW < a_row < LONG / 10:
        a_row = seconds_a_batch(one, image_shape) / low  # again, in case only the machine was busy
    if a_row > SLOW:
        print(f"f takes about {a_row:.2g} s an image; measuring its batch size, and checking it …", file=sys.stderr)
        usual = (1, 2, 4, 8, 16, *usual)
    sizes = sorted({min(max(size, low), high) for size in usual})
    rates: dict[int, float] = {}
    for size in sizes if len(sizes) > 1 else ():
        if rates and a_row > SLOW and size * a_row > 4 * LONG:
            break
        sized = classifier.resized(size)
        sized.smallest_batch = size
        try:
            seconds = seconds_a_batch(sized, image_shape, 1 if a_row > SLOW else 3)
        except (OutOfMemory, torch.OutOfMemoryError):
            break
        rates[size] = size / seconds
        if seconds > LONG:
            break
    if not rates and len(sizes) > 1:
        raise ValueError(f"the device runs out of memory at a batch of {sizes[0]}; pass a smaller --batch-size.")
    return max(rates, key=lambda size: rates[size], default=sizes[0])


def seconds_a_batch(classifier: BaseClassifier, image_shape: Sequence[int], repetitions: int = 3) -> float:
    """The shortest time of one batch, in seconds, among a few repetitions. A first pass only prepares the kernels."""
    x_BCHW = classifier.empty_batch(image_shape).normal_(0.5)
    times = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        classifier.classify(x_BCHW).sum().item()  # waits for the device
        times.append(time.perf_counter() - start)
    return min(times[1:])


def compiled_if_faster(plain: BaseClassifier, image_shape: Sequence[int], samples: int) -> BaseClassifier:
    """The classifier, compiled if the run is long enough to gain from it and the compiled form is faster.

    Args:
        plain: f, uncompiled and prepared, with all its workers. A compiled f has one worker, which uses all threads.
        image_shape: Shape (C, H, W) of one image.
        samples: Number of samples that the run will draw.
    """
    before, own = _seconds_a_batch_of_all(plain.workers, image_shape), torch.get_num_threads()
    if samples / plain.batch_size * before < WORTH_COMPILING:
        return plain
    torch.set_num_threads(own * len(plain.workers))
    candidate = plain.resized(plain.batch_size)
    candidate.compile(image_shape)
    if candidate.compiled is None and seconds_a_batch(candidate, image_shape) <= 0.95 * before:
        return candidate
    torch.set_num_threads(own)
    return plain


def employ_workers(
    classifier: BaseClassifier, image_shape: Sequence[int], samples: int, threads: int | None = None
) -> None:
    """Divide torch's threads among workers that classify one batch each, if that is faster than one batch at a time.

    Small networks gain, because threads that share a forward pass wait for each other in every layer. The function sets
    torch's number of threads to that of one worker. This number may change how a sum is rounded.

    Args:
        classifier: f, prepared.
        image_shape: Shape (C, H, W) of one image.
        samples: Number of samples that the run will draw.
        threads: Number of threads of a forward pass that an earlier part of the run used; None to measure.
    """
    total = torch.get_num_threads()
    own = total // min(total, MOST_WORKERS) if threads is None else threads
    if not 1 <= own < total:
        return
    if threads is not None:
        torch.set_num_threads(own)
        classifier.employ(total // own)
        return
    alone = seconds_a_batch(classifier, image_shape)
    if samples / classifier.batch_size * alone < WORTH_MEASURING or not classifier.employ(total // own):
        return
    torch.set_num_threads(own)
    shared = _seconds_a_batch_of_all(classifier.workers, image_shape)
    if shared > 0.95 * alone:
        classifier.employ(1)
        torch.set_num_threads(total)


def _seconds_a_batch_of_all(workers: Sequence[BaseClassifier], image_shape: Sequence[int]) -> float:
    """Seconds for one batch while all workers classify at the same time, each in its own thread."""
    threads = (torch.get_num_threads(),)
    with ThreadPoolExecutor(len(workers), initializer=torch.set_num_threads, initargs=threads) as pool:
        return max(pool.map(lambda worker: seconds_a_batch(worker, image_shape), workers)) / len(workers)
