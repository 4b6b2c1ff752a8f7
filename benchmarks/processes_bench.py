"""What do more processes of torchrun bring to `certify run`, against one process that is held to one thread?

LeNet on the embedded Fashion-MNIST images, fixed n, exact noise, one thread a process. Starting takes seconds, whatever
there is to do, so each way runs a short job and a long one, and its rate is that of the samples in between. The tables
must be the same. Whole commands are timed, too, for the long job.
"""

import itertools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import report
from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.checkpoint import Architecture

N0, SIGMA = 100, 0.5
ONE = "one process, one thread"


def model(folder: Path) -> Path:
    """A checkpoint; for its speed the weights do not matter."""
    torch.manual_seed(0)
    architecture = Architecture(arch="lenet", image_shape=(1, 28, 28), num_classes=10, options={})
    path = folder / "checkpoint.safetensors"
    config = {"config": {"sigma": SIGMA, "dataset": "fashion-sample"}, "epoch": 1}
    checkpoint.save(path, architecture.build(), architecture, config)
    return path


def seconds(command: list[str]) -> float:
    """That a command takes, all of it."""
    start = time.perf_counter()
    result = subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    if result.returncode:
        sys.exit(f"{' '.join(command)}\n{result.stderr}")
    return time.perf_counter() - start


def rows(table: Path) -> list[list[str]]:
    """A table's fields without the time."""
    lines = [line.split("\t") for line in table.read_text().splitlines()]
    time_at = lines[0].index("time")
    return [line[:time_at] + line[time_at + 1 :] for line in lines]


def main() -> None:
    """Measure and print."""
    options = report.arguments(__doc__)
    repetitions, n, images = (2, 5_000, (8, 40)) if options.quick else (3, 10_000, (8, 56))
    counts = sorted({2, os.cpu_count() or 1} - {1})
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = [
            "-m",
            "maxup_smoothing.certify",
            "run",
            str(model(folder)),
            "-n",
            str(n),
            "--n0",
            str(N0),
            "--seed",
            "0",
        ]
        arguments += ["--batch-size", "256", "--device", "cpu", "--compile", "off", "--no-check", "--overwrite"]
        ways = {ONE: [sys.executable, *arguments]}
        for count in counts:
            launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m", "--"]
            ways[f"{count} processes"] = [sys.executable, *launcher, *arguments[1:]]
        rates: dict[str, list[float]] = {way: [] for way in ways}
        whole: dict[str, list[float]] = {way: [] for way in ways}
        tables: list[list[list[str]]] = []
        for repetition, (way, command) in itertools.product(range(repetitions), ways.items()):
            out = folder / f"{repetition} {way}.tsv"
            short, long = (seconds([*command, "--limit", str(count), "--out", str(out)]) for count in images)
            rates[way].append((images[1] - images[0]) * (N0 + n) / (long - short))
            whole[way].append(images[1] * (N0 + n) / long)
            tables.append(rows(out))
    if any(table != tables[0] for table in tables):
        sys.exit("the tables differ")
    print(f"{images[1]} images, n = {n}: the tables of all {len(tables)} runs are the same\n")
    print(report.table(rates, "samples/s", ONE))
    print("\nwhole commands, starting included")
    print(report.table(whole, "samples/s", ONE))
    report.finish({"sampling": rates, "whole": whole, "images": images, "n": n}, options.json)


if __name__ == "__main__":
    main()
