"""What does a training step of MaxUp cost, in time and in memory, against a step with Gaussian noise?

A step is drawing the noise, forward, backward and SGD with momentum, on a ready batch in the trainer's memory layout.
Side by side, interleaved: Gaussian noise (one copy); MaxUp with m = 4 as this project trains it; the mean of the 4
copies; and what one would write first, all 4 copies through the network as one batch, then the largest loss of each
image. Each in float32 and, where the hardware has instructions for it, bfloat16. ResNet-110 not in the quick form,
except on a CUDA device.

Memory is the peak above what lies there between two steps without gradients (weights, momentum, batch): on a CUDA
device from its allocator's counter; on a CPU the allocations and releases that torch's profiler records, summed in
time order. The resident size of a process would count malloc's habits, and the most any earlier step needed, as well.
"""

# Shapes: B images, M copies of each, N = B * M rows, K classes, C H W image.

import itertools
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from benchmarks import report
from maxup_smoothing.train import models
from maxup_smoothing.train.maxup import maxup_loss
from maxup_smoothing.train.perturbations import GaussianNoise
from maxup_smoothing.train.seeds import derive_seed, generator
from maxup_smoothing.train.step import DROPOUT, same_randomness

SIGMA, CLASSES, M = 0.25, 10, 4
#: Image shape and batch size, as in the recipes.
NETWORKS = {"lenet": ((1, 28, 28), 256), "resnet20": ((3, 32, 32), 128), "resnet110": ((3, 32, 32), 128)}
#: Repetitions on a CPU: quick, full. On a CUDA device always 21, of 20 steps each.
REPETITIONS = {"lenet": (9, 31), "resnet20": (3, 9), "resnet110": (3, 3)}
BASE, MAXUP, MEAN, NAIVE = "Gaussian noise", f"MaxUp, m = {M}", f"mean of {M}", f"naive MaxUp, m = {M}"
TIME_TARGET, MEMORY_TARGET = 2.5, 1.15

Loss = Callable[[nn.Module, Tensor, Tensor, int], Tensor]
per_example_loss = partial(F.cross_entropy, reduction="none")


def gaussian(model: nn.Module, x_BCHW: Tensor, y_B: Tensor, seed: int) -> Tensor:
    """One noisy copy of each image."""
    x_BCHW, _ = GaussianNoise(SIGMA)(x_BCHW, y_B, generator(x_BCHW.device, seed, 0))
    with same_randomness(x_BCHW.device, derive_seed(seed, DROPOUT)):
        return per_example_loss(model(x_BCHW), y_B).mean()


def maxup(model: nn.Module, x_BCHW: Tensor, y_B: Tensor, seed: int) -> Tensor:
    """The worst copy; selected without gradient."""
    return maxup_loss(model, per_example_loss, GaussianNoise(SIGMA), x_BCHW, y_B, m=M, seed=seed).loss


def mean(model: nn.Module, x_BCHW: Tensor, y_B: Tensor, seed: int) -> Tensor:
    """The average over the copies; each has its forward pass, all have a gradient."""
    noise = GaussianNoise(SIGMA)
    return maxup_loss(model, per_example_loss, noise, x_BCHW, y_B, m=M, seed=seed, reduction="mean").loss


def naive(model: nn.Module, x_BCHW: Tensor, y_B: Tensor, seed: int) -> Tensor:
    """The worst copy; all copies have a gradient."""
    x_NCHW, y_N = x_BCHW.repeat_interleave(M, dim=0), y_B.repeat_interleave(M)
    x_NCHW, _ = GaussianNoise(SIGMA)(x_NCHW, y_N, generator(x_BCHW.device, seed, 0))
    return per_example_loss(model(x_NCHW), y_N).unflatten(0, (-1, M)).amax(1).mean()


LOSSES: Mapping[str, Loss] = {BASE: gaussian, MAXUP: maxup, MEAN: mean, NAIVE: naive}


class Training:
    """A model, its optimizer and one batch; a call is ``steps`` steps and returns their number of images."""

    def __init__(self, loss: Loss, arch: str, dtype: str, device: torch.device) -> None:
        image_shape, batch_size = NETWORKS[arch]
        torch.manual_seed(0)
        model = models.build(arch, image_shape, CLASSES).train().to(device)
        self.model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in the stubs
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
        images = torch.rand(batch_size, *image_shape, device=device)
        self.x_BCHW = images.contiguous(memory_format=torch.channels_last)
        self.y_B = torch.randint(CLASSES, (batch_size,), device=device)
        self.loss, self.dtype, self.device = loss, dtype, device
        self.steps = 20 if device.type == "cuda" else 1
        self.seeds: Iterator[int] = itertools.count()

    def __call__(self) -> int:
        """Train, and wait until the device is done."""
        for _ in range(self.steps):
            self.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return self.steps * len(self.x_BCHW)

    def step(self) -> None:
        """One step, as the trainer takes it."""
        low = torch.autocast(self.device.type, dtype=torch.bfloat16) if self.dtype == "bfloat16" else nullcontext()
        with low:
            loss = self.loss(self.model, self.x_BCHW, self.y_B, next(self.seeds))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def peak_bytes(self) -> int:
        """The most that two steps allocate at once; the second begins, as all but the first do, with old gradients."""
        self.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self.step()
            self.step()
            torch.cuda.synchronize()
            return torch.cuda.max_memory_allocated() - before
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            self.step()
            self.step()
        return peak_of_allocations(record)


def peak_of_allocations(record: profile) -> int:
    """The most bytes on the CPU at any time, above the start, of a profile recorded with ``profile_memory``.

    Blocks from before the start count neither when they are there nor when they are released.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        record.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    changes = [event for event in events if event["name"] == "[memory]" and event["args"]["Device Type"] == 0]
    changes.sort(key=lambda event: event["ts"])
    return int(max(itertools.accumulate(event["args"]["Bytes"] for event in changes)))


def judgement(rates: Mapping[str, list[float]], peaks: Mapping[str, int]) -> str:
    """Time and memory of MaxUp and of the naive way as multiples of a Gaussian step, beside the targets."""
    lines = []
    for way, text in ((MAXUP, f"targets {TIME_TARGET} and {MEMORY_TARGET}"), (NAIVE, f"expected about {M} and {M}")):
        time, memory = report.median_ratio(rates, BASE, way), peaks[way] / peaks[BASE]
        lines.append(f"{way}: {time:.2f} x the time and {memory:.3f} x the memory of a Gaussian step ({text})")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    options = report.arguments(__doc__, NETWORKS)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cuda = device.type == "cuda"
    fast_bfloat16 = cuda or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if not fast_bfloat16:
        print("bfloat16 is not measured: this CPU has no instructions for it\n")
    results: dict[str, Any] = {}
    usual = [arch for arch in NETWORKS if arch != "resnet110" or cuda or not options.quick]
    dtypes = ("float32", "bfloat16") if fast_bfloat16 else ("float32",)
    for arch, dtype in itertools.product(options.networks or usual, dtypes):
        image_shape, batch_size = NETWORKS[arch]
        repetitions = 21 if cuda else REPETITIONS[arch][not options.quick]
        rates = report.interleaved(
            {name: Training(loss, arch, dtype, device) for name, loss in LOSSES.items()}, repetitions
        )
        peaks = {name: Training(loss, arch, dtype, device).peak_bytes() for name, loss in LOSSES.items()}
        print(f"{arch}, {'x'.join(map(str, image_shape))}, batch {batch_size}, {dtype}, {repetitions} repetitions")
        print(report.table(rates, "images/s", BASE))
        for name, peak in peaks.items():
            print(f"{name:44}{peak / 2**20:10,.1f} MiB; ratio to {BASE} {peak / peaks[BASE]:8.3f}")
        print(judgement(rates, peaks), end="\n\n", flush=True)
        results[f"{arch} {dtype}"] = {"images_per_second": rates, "peak_bytes": peaks}
    report.finish(results, options.json)


if __name__ == "__main__":
    main()
