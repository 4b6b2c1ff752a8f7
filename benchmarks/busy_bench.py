"""What does a machine with other work cost `certify run`, and what do threads that wait cost it?

LeNet on the embedded Fashion-MNIST images, fixed n, exact noise, two threads. Each way runs idle and beside processes
that are busy all the time: torch's threads waiting as the command sets it (OMP_WAIT_POLICY=passive unless the user has
another), as set by hand, and actively, as OpenMP does by itself. Whole commands are timed.

The second question: do two workers of one thread each, which share no barrier, count votes faster than two threads that
share each forward pass? Both count the same votes in one process, idle and beside the same busy processes.
"""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks import report
from benchmarks.processes_bench import SIGMA, model
from maxup_smoothing.certify.engine.votes import Item, count_votes
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise import ESTIMATION
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.train import models

WAYS = {"passive by hand": "PASSIVE", "as the command sets it": None, "active": "ACTIVE"}
BUSY = (0, 4)


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many other processes that never wait."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def seconds(command: list[str], policy: str | None) -> float:
    """That a command takes with this policy of waiting in its environment, None for none."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("OMP_")}
    environment |= {"OMP_NUM_THREADS": "2"} | ({} if policy is None else {"OMP_WAIT_POLICY": policy})
    start = time.perf_counter()
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stderr}")
    return time.perf_counter() - start


def counted(classifier: BaseClassifier, image_shape: tuple[int, int, int], threads: int, n: int) -> int:
    """Count the votes of n samples of each of eight images."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (8, *image_shape), dtype=torch.uint8, generator=generator)
    items = [Item(image_CHW, number, ESTIMATION, 0, n) for number, image_CHW in enumerate(images)]
    torch.set_num_threads(threads)
    return int(count_votes(classifier, ExactNoise(SIGMA, 0), items).sum())


def workers(repetitions: int, n: int) -> dict[str, list[float]]:
    """Samples a second of both ways, idle and beside busy processes, for LeNet and, with fewer samples, ResNet-20."""
    rates: dict[str, list[float]] = {}
    for arch, image_shape, samples in (("lenet", (1, 28, 28), n), ("resnet20", (3, 32, 32), n // 20)):
        torch.manual_seed(0)
        network = models.build(arch, image_shape, 10).eval()
        one = BaseClassifier(network, 10, batch_size=256, image_shape=image_shape)
        two = one.resized(256)
        two.employ(2)
        ways = {"two threads a pass": (one, 2), "two workers of one thread": (two, 1)}
        for repetition, count, (way, (f, threads)) in itertools.product(range(repetitions + 1), BUSY, ways.items()):
            with busy(count):
                start = time.perf_counter()
                drawn = counted(f, image_shape, threads, samples)
                if repetition:  # the first prepares the kernels
                    name = f"{arch}, {way}, {count} busy processes"
                    rates.setdefault(name, []).append(drawn / (time.perf_counter() - start))
    return rates


def main() -> None:
    """Measure and print."""
    options = report.arguments(__doc__)
    repetitions, n = (2, 2_000) if options.quick else (3, 20_000)
    rates: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [
            sys.executable,
            "-m",
            "maxup_smoothing.certify",
            "run",
            str(model(folder)),
            "-n",
            str(n),
            "--limit",
            "4",
            "--seed",
        ]
        command += ["0", "--device", "cpu", "--overwrite", "--out", str(folder / "radii.tsv")]
        for _, count, (way, policy) in itertools.product(range(repetitions), BUSY, WAYS.items()):
            with busy(count):
                rates.setdefault(f"{way}, {count} busy processes", []).append(60 / seconds(command, policy))
    print(f"4 images, n = {n}, whole commands\n")
    for count in BUSY:
        some = {way: rate for way, rate in rates.items() if f" {count} busy" in way}
        print(report.table(some, "commands a minute", f"passive by hand, {count} busy processes"))
    voting = workers(repetitions, n)
    print("\nvotes of 8 images in one process\n")
    for arch, count in itertools.product(("lenet", "resnet20"), BUSY):
        some = {way: rate for way, rate in voting.items() if way.startswith(arch) and f" {count} busy" in way}
        print(report.table(some, "samples/s", f"{arch}, two threads a pass, {count} busy processes"))
    report.finish({"commands_a_minute": rates, "samples_a_second": voting, "n": n}, options.json)


if __name__ == "__main__":
    main()
