"""What does a machine with other work cost `certify run`, and what do threads that wait cost it?

LeNet on the embedded Fashion-MNIST images, fixed n, exact noise, two threads. Each way runs idle and beside processes
that are busy all the time: torch's threads waiting as the command sets it (OMP_WAIT_POLICY=passive unless the user has
another), as set by hand, and actively, as OpenMP does by itself. Whole commands are timed.
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

from benchmarks import report
from benchmarks.processes_bench import model

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
            "--max",
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
    report.finish({"commands_a_minute": rates, "n": n}, options.json)


if __name__ == "__main__":
    main()
