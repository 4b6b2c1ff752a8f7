"""What every benchmark shares: interleaved repetitions, and numbers that name their conditions."""

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from maxup_smoothing.data.runtime.hardware import cpu_name


def arguments(docstring: str | None, networks: Iterable[str] = ()) -> argparse.Namespace:
    """``--quick``, ``--json FILE`` and, where there are several networks, ``--networks NAME …``."""
    parser = argparse.ArgumentParser(description=docstring, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter repetitions")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write conditions and numbers to FILE")
    if names := list(networks):
        parser.add_argument("--networks", nargs="+", choices=names, metavar="NAME", help=f"of {', '.join(names)}")
    return parser.parse_args()


def interleaved(ways: Mapping[str, Callable[[], int]], repetitions: int) -> dict[str, list[float]]:
    """Units per second of each way, in turn, so that a machine whose speed drifts is equally unfair to all.

    Args:
        ways: By name; each does its work once and returns how many units it did.
        repetitions: How often, after one warm-up.
    """
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(repetitions + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            units = way()
            if repetition:
                rates[name].append(units / (time.perf_counter() - start))
    return rates


def conditions() -> dict[str, Any]:
    """Hardware and versions."""
    cuda = torch.cuda.is_available()
    return {
        "cpu": f"{cpu_name()}, {torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads",
        "gpu": torch.cuda.get_device_name() if cuda else None,
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "numpy")},
    }


def table(rates: Mapping[str, list[float]], unit: str, base: str) -> str:
    """Median, lowest and highest of each way, and its median ratio to ``base`` in the same repetition."""
    lines = [f"{'':44}{'median':>10}{'lowest':>10}{'highest':>10}  {unit}; ratio to {base}"]
    for name, values in rates.items():
        numbers = (statistics.median(values), min(values), max(values))
        ratio = median_ratio(rates, name, base)
        lines.append(f"{name:44}" + "".join(f"{number:10,.0f}" for number in numbers) + f"  {ratio:8.2f}")
    return "\n".join(lines)


def median_ratio(rates: Mapping[str, list[float]], way: str, base: str) -> float:
    """The median over the repetitions of one rate divided by another of the same repetition."""
    return statistics.median(a / b for a, b in zip(rates[way], rates[base], strict=True))


def finish(results: Mapping[str, Any], path: Path | None) -> None:
    """Print the conditions, and write everything to ``path`` if one is given."""
    print(", ".join(f"{name} {value}" for name, value in conditions().items() if value is not None))
    if path is not None:
        path.write_text(json.dumps({"conditions": conditions(), "results": results}, indent=1) + "\n")
