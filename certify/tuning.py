"""What makes f fast on this machine, by short measurements: its batch size, and whether compiling pays."""

# Shapes: B rows; C channels, H height, W width.

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from certify.classifier import BaseClassifier
from certify.folding import fold_batch_norm
from certify.memory import OutOfMemory

#: A shorter run does not get back what compiling costs: 5 to 60 seconds, for some tenths of the time of the rest.
WORTH_COMPILING = 600.0


def fastest_batch_size(
    model: nn.Module,
    num_classes: int,
    image_shape: Sequence[int],
    device: torch.device,
    dtype: str,
    limits: tuple[int, int] = (1, 2**31),
) -> int:
    """The batch size with the most images per second among powers of two, by a measurement of about two seconds.

    Args:
        model: In evaluation mode, from (B, C, H, W) images to (B, K) logits.
        num_classes: K.
        image_shape: (C, H, W).
        device: Where it runs.
        dtype: Its arithmetic.
        limits: Smallest and largest batch that the model accepts.

    Raises:
        ValueError: If the device has not enough memory for the smallest batch tried.
    """
    low, high = limits
    usual = (512, 1024, 2048, 4096) if device.type == "cuda" else (32, 64, 128, 256, 512)
    sizes = sorted({min(max(size, low), high) for size in usual})
    if len(sizes) == 1:
        return sizes[0]
    model, _ = fold_batch_norm(model, image_shape)
    rates: dict[int, float] = {}
    for size in sizes:
        classifier = BaseClassifier(
            model, num_classes, device=device, dtype=dtype, batch_size=size, smallest_batch=size
        )
        try:
            seconds = seconds_a_batch(classifier, image_shape)
        except (OutOfMemory, torch.OutOfMemoryError):
            break
        rates[size] = size / seconds
        if seconds > 0.5:
            break
    if not rates:
        raise ValueError(f"the device runs out of memory at a batch of {sizes[0]}; pass a smaller --batch-size.")
    return max(rates, key=lambda size: rates[size])


def seconds_a_batch(classifier: BaseClassifier, image_shape: Sequence[int], repetitions: int = 3) -> float:
    """The shortest time of a batch in a few repetitions, after one that prepares the kernels."""
    x_BCHW = classifier.empty_batch(image_shape).normal_(0.5)
    times = []
    for _ in range(repetitions + 1):
        start = time.perf_counter()
        classifier.classify(x_BCHW).sum().item()  # waits for the device
        times.append(time.perf_counter() - start)
    return min(times[1:])


def compiled_if_faster(
    build: Callable[[bool], BaseClassifier], image_shape: Sequence[int], samples: int
) -> BaseClassifier:
    """The uncompiled classifier, or the compiled one where a run of so many samples is long enough to gain from it.

    Args:
        build: Makes the classifier, compiled or not.
        image_shape: (C, H, W).
        samples: That the run will draw.
    """
    plain = build(False)
    before = seconds_a_batch(plain, image_shape)
    if samples / plain.batch_size * before < WORTH_COMPILING:
        return plain
    candidate = build(True)
    if candidate.compiled is not None or seconds_a_batch(candidate, image_shape) > 0.95 * before:
        return plain
    return candidate
