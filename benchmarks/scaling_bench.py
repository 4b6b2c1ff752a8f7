"""What does a certificate cost as n, or the number of inputs, grows: in time a sample, forward passes, and memory?

LeNet on 28x28 images, exact noise. Selection is n0 = 100 samples of each input. Peak memory is that of a fresh process
for each n.
"""

import multiprocessing
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from torch import Tensor

from benchmarks import report
from maxup_smoothing.certify.engine.votes import Item, count_votes
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise import ESTIMATION, SELECTION
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.train import models

SHAPE, CLASSES, BATCH, SIGMA, N0 = (1, 28, 28), 10, 256, 0.5, 100


class Counting(BaseClassifier):
    """f that counts the rows which went through the network, padding among them."""

    rows = 0

    def classify(self, x_BCHW: Tensor) -> Tensor:
        """As f."""
        self.rows += len(x_BCHW)
        return super().classify(x_BCHW)


def classifier() -> Counting:
    """LeNet as it is certified."""
    return Counting(models.build("lenet", SHAPE, CLASSES).eval(), CLASSES, batch_size=BATCH, image_shape=SHAPE)


def votes(f: Counting, inputs: int, stage: int, samples: int) -> float:
    """Seconds to count the votes."""
    images = torch.randint(256, (inputs, *SHAPE), dtype=torch.uint8)
    items = [Item(image, number, stage, 0, samples) for number, image in enumerate(images)]
    start = time.perf_counter()
    count_votes(f, ExactNoise(SIGMA, seed=0), items)
    return time.perf_counter() - start


def peak_memory(n: int) -> float:
    """Peak memory, in MiB, of a process that draws n samples of one input."""
    votes(classifier(), 1, ESTIMATION, n)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    options = report.arguments(__doc__)
    f = classifier()
    votes(f, 1, ESTIMATION, 4 * BATCH)
    results: dict[str, Any] = {}
    repetitions = 3 if options.quick else 7
    numbers = (1000, 10_000, 50_000) if options.quick else (1000, 10_000, 100_000)
    rates = report.interleaved({f"n = {n:,}": _timed_samples(f, 1, ESTIMATION, n) for n in numbers}, repetitions)
    print(report.table(rates, "samples/s of one input", f"n = {numbers[0]:,}"), end="\n\n")
    results["samples_per_second_by_n"] = rates
    ways = {f"{inputs} inputs": _timed_samples(f, inputs, SELECTION, N0) for inputs in (1, 10, 100, 500)}
    rates = report.interleaved(ways, repetitions)
    print(report.table(rates, f"samples/s of selection, n0 = {N0}", "500 inputs"))
    results["selection_samples_per_second_by_inputs"] = rates
    f.rows = 0
    votes(f, 500, SELECTION, N0)
    print(f"selection of 500 inputs: {f.rows:,} rows went through f, {f.rows / 500 / N0:.4f} of the samples\n")
    results["selection_rows_of_500_inputs"] = f.rows
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        peaks = {n: list(pool.map(peak_memory, [n] * 3)) for n in numbers}
    for n, values in peaks.items():
        print(f"peak memory at n = {n:,}: {min(values):,.0f} to {max(values):,.0f} MiB in three processes")
    results["peak_memory_mib_by_n"] = peaks
    report.finish(results, options.json)


def _timed_samples(f: Counting, inputs: int, stage: int, samples: int) -> Any:
    def way() -> int:
        votes(f, inputs, stage, samples)
        return inputs * samples

    return way


if __name__ == "__main__":
    main()
