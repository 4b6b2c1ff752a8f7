"""Nanoseconds per coordinate, from nothing to network input: exact noise against torch.randn, multiply and add.

Side by side, interleaved, on one thread and on all of torch's. Then, on a batch too large for any cache, how near that
is to the memory's own speed: exact noise reads next to nothing and writes four bytes a coordinate, and no way to write
them is faster than to fill the batch with one number.
"""

import math
import statistics
from collections.abc import Callable
from functools import partial
from importlib import metadata
from typing import Any

import torch
from torch import Tensor

from benchmarks import report
from maxup_smoothing.certify.noise import ESTIMATION
from maxup_smoothing.certify.noise.exact import ExactNoise

SIGMA, BATCH = 0.5, 256
SHAPES = ((1, 28, 28), (3, 32, 32))
#: Bytes of a batch that no cache holds: on a CPU, on a CUDA device.
LARGE = (2**28, 2**30)
FILL, COPY = "fill", "copy"
LAYOUTS = {"": torch.contiguous_format, ", channels last": torch.channels_last}


def exact(noise: ExactNoise, out_BCHW: Tensor, image_CHW: Tensor) -> int:
    """Coordinates written by one batch of exact noise."""
    noise.fill(out_BCHW, image_CHW, input_id=0, stage=ESTIMATION, start=0)
    return _done(out_BCHW)


def floating(drawn_BCHW: Tensor, out_BCHW: Tensor, image_CHW: Tensor) -> int:
    """Coordinates written by one batch of ``torch.randn * sigma + image``, without allocating anything."""
    torch.add(drawn_BCHW.normal_().mul_(SIGMA), image_CHW, out=out_BCHW)
    return _done(out_BCHW)


def measure(shape: tuple[int, int, int], device: str, repetitions: int) -> dict[str, list[float]]:
    """Coordinates per second of each way, by repetition."""
    noise = ExactNoise(SIGMA, seed=0)
    image_CHW = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    ways: dict[str, Callable[[], int]] = {}
    for name, layout in LAYOUTS.items():
        if shape[0] > 1 or not name:  # with one channel the layouts are the same
            batch_BCHW = torch.empty((BATCH, *shape), device=device).to(memory_format=layout)
            # Drawn contiguously whatever the layout of the batch: torch fills strided tensors ten times slower.
            drawn_BCHW = torch.empty((BATCH, *shape), device=device) if name else batch_BCHW
            ways[f"randn{name}"] = partial(floating, drawn_BCHW, batch_BCHW, image_CHW / 255)
            ways[f"exact{name}"] = partial(exact, noise, batch_BCHW, image_CHW)
    return report.interleaved(ways, repetitions)


def bandwidth(shape: tuple[int, int, int], device: str, repetitions: int) -> dict[str, list[float]]:
    """Bytes a second that each way moves, reads and writes, by repetition; of noise only what must be written."""
    rows = LARGE[device == "cuda"] // (4 * math.prod(shape))
    image_CHW = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    out_BCHW, other_BCHW = (torch.empty((rows, *shape), device=device).normal_() for _ in range(2))
    noise, image = ExactNoise(SIGMA, seed=0), image_CHW / 255
    moved: dict[str, tuple[int, Callable[[], int]]] = {
        FILL: (4, lambda: _done(out_BCHW.fill_(0.5))),
        COPY: (8, lambda: _done(out_BCHW.copy_(other_BCHW))),
        "exact": (4, lambda: exact(noise, out_BCHW, image_CHW)),
        "randn": (4, lambda: floating(out_BCHW, out_BCHW, image)),
    }
    rates = report.interleaved({name: way for name, (_, way) in moved.items()}, repetitions)
    return {name: [size * rate for rate in rates[name]] for name, (size, _) in moved.items()}


def main() -> None:
    """Measure, print, write."""
    options = report.arguments(__doc__)
    results: dict[str, Any] = {}
    device = "cuda" if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    for shape in SHAPES:
        for count in sorted({1, threads}):
            torch.set_num_threads(count)
            rates = measure(shape, device, 20 if options.quick else 200)
            times = {name: [1e9 / rate for rate in values] for name, values in rates.items()}
            title = f"{'x'.join(map(str, shape))}, batch {BATCH}, sigma {SIGMA}, {device}, {count} thread(s)"
            print(f"{title}: ns per coordinate\n{_table(times)}\n")
            results[title] = times
    speeds: dict[str, Any] = {}
    for shape in SHAPES:
        rates = bandwidth(shape, device, 5 if options.quick else 21)
        print(f"{'x'.join(map(str, shape))}, a batch of {LARGE[device == 'cuda'] / 2**20:.0f} MiB, {threads} thread(s)")
        print(_bandwidth_table(rates), end="\n\n")
        speeds["x".join(map(str, shape))] = rates
    numbers = {"ns_per_coordinate": results, "bytes_per_second": speeds}
    report.finish({"numba": metadata.version("numba"), **numbers}, options.json)


def _table(times: dict[str, list[float]]) -> str:
    """Quartiles, and the median ratio to randn in the same repetition and layout."""
    lines = [f"{'':24}{'25 %':>8}{'median':>8}{'75 %':>8}  ratio to randn"]
    for name, values in times.items():
        quartiles = torch.tensor(values).quantile(torch.tensor([0.25, 0.5, 0.75])).tolist()
        base = times[name.replace("exact", "randn")]
        ratio = (torch.tensor(values) / torch.tensor(base)).median().item()
        lines.append(f"{name:24}" + "".join(f"{number:8.2f}" for number in quartiles) + f"  {ratio:8.2f}")
    return "\n".join(lines)


def _bandwidth_table(rates: dict[str, list[float]]) -> str:
    """Median, lowest and highest, and the median share of the two limits in the same repetition."""
    lines = [f"{'':24}{'median':>10}{'lowest':>10}{'highest':>10}  GB/s; share of {FILL}, of {COPY}"]
    for name, values in rates.items():
        numbers = (statistics.median(values), min(values), max(values))
        shares = (report.median_ratio(rates, name, limit) for limit in (FILL, COPY))
        lines.append(
            f"{name:24}" + "".join(f"{number / 1e9:10.2f}" for number in numbers) + "".join(f"{s:9.3f}" for s in shares)
        )
    return "\n".join(lines)


def _done(out_BCHW: Tensor) -> int:
    if out_BCHW.is_cuda:
        torch.cuda.synchronize()
    return out_BCHW.numel()


if __name__ == "__main__":
    main()
