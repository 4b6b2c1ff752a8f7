"""One training step as an objective sees it: where its randomness comes from, and which rows of the batch are here."""

# Shapes: B rows here, T rows of the whole batch (T = B on one process without accumulation); the rest as in the input.

import dataclasses
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from maxup_smoothing.train.perturbations import GaussianNoise, Perturbation
from maxup_smoothing.train.seeds import derive_seed, generator

# What a stream of random numbers is for; copies of an image are numbered from 0, far below.
DROPOUT, MIX, ACCEPT = (1 << 32), (1 << 32) + 1, (1 << 32) + 2


@dataclass(frozen=True)
class Rows:
    """Rows ``first`` to ``stop`` of a batch of ``total``: what one process, or one part of an accumulated step, has."""

    first: int
    stop: int
    total: int

    @property
    def slice(self) -> slice:
        """For indexing tensors of the whole batch."""
        return slice(self.first, self.stop)

    @property
    def share(self) -> float:
        """Fraction of the batch; the weight of these rows' mean in the batch's."""
        return (self.stop - self.first) / self.total

    @property
    def whole(self) -> bool:
        """Whether these are all rows."""
        return self.stop - self.first == self.total


def parts(total: int, count: int) -> list[Rows]:
    """A batch of ``total`` rows in ``count`` parts, whose sizes differ by at most one; some of them may be empty."""
    edges = [total * part // count for part in range(count + 1)]
    return [Rows(first, stop, total) for first, stop in pairwise(edges)]


@dataclass(frozen=True)
class Step:
    """A step of training, and which rows of its batch are here.

    Noise is drawn for the whole batch, from the seed and from what it is for, and cut to the rows here afterwards. So
    an image meets the same noise whatever the number of processes and of accumulated parts. Dropout masks are drawn for
    the rows of each pass, and do depend on them.

    Attributes:
        seed: Of this step; see ``train.seeds``.
        epoch: Epochs finished before it.
        rows: Which rows of the batch are here; None for all.
        index_B: int64, (B,): numbers of the images among the training images; None where no objective asks.
        batch: Inputs and targets of all T rows, for perturbations that mix examples; None where none does.
    """

    seed: int
    epoch: int = 0
    rows: Rows | None = None
    index_B: Tensor | None = None
    batch: tuple[Tensor, Tensor] | None = None

    def of_rows(self, perturb: Perturbation) -> Perturbation:
        """``perturb`` as it would be seen in these rows if the whole batch had been perturbed.

        One that mixes examples sees the absent rows as they are in ``batch``. Without it there are zeros in their
        place, which do for perturbations that treat each example by itself.
        """
        rows = self.rows
        if rows is None or rows.whole:
            return perturb

        def part(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            x_T, y_T = (_spread(*pair, rows) for pair in zip((x, y), self.batch or (None, None), strict=True))
            x_T, y_T = perturb(x_T, y_T, generator)
            return x_T[rows.slice], y_T[rows.slice]

        return part

    def noisy(self, x: Tensor, sigma: float, copy: int) -> Tensor:
        """Copy number ``copy`` of each image: x plus N(0, sigma^2) noise, the same at every call."""
        y, alone = x.new_zeros(len(x)), dataclasses.replace(self, batch=None)
        return alone.of_rows(GaussianNoise(sigma))(x, y, generator(x.device, self.seed, copy))[0]

    def uniform(self, x: Tensor, stream: int) -> Tensor:
        """(B,) float32 in [0, 1) on the device of ``x``: one number an example; the same at every call."""
        total = len(x) if self.rows is None else self.rows.total
        drawn_T = torch.rand(total, generator=generator(x.device, self.seed, stream), device=x.device)
        return drawn_T if self.rows is None else drawn_T[self.rows.slice]

    def forward(self, model: nn.Module, x: Tensor) -> Tensor:
        """Logits of ``x``, not in half precision, where every pass of a step meets the same dropout masks."""
        with same_randomness(x.device, derive_seed(self.seed, DROPOUT)):
            return full_precision(model(x))


def full_precision(logits: Tensor) -> Tensor:
    """Logits as float32 if they are in half precision, which is too coarse for logarithms of probabilities.

    On CUDA autocast itself computes a softmax in float32; on a CPU it does not.
    """
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def arithmetic(device: torch.device, dtype: str) -> AbstractContextManager[object]:
    """Inside, passes compute in ``dtype``: "float32", or "bfloat16" by autocast."""
    return nullcontext() if dtype == "float32" else torch.autocast(device.type, dtype=torch.bfloat16)


@contextmanager
def same_randomness(device: torch.device, seed: int) -> Iterator[None]:
    """Inside, what draws from the global generators (dropout) starts from ``seed``; outside nothing has changed."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def without_trace(model: nn.Module, mode: str) -> Iterator[None]:
    """Passes inside leave the modes and buffers of ``model`` as they were.

    Args:
        model: Any.
        mode: "eval" to put it into evaluation mode inside; "train" to leave it as it is.
    """
    modes = [(module, module.training) for module in model.modules()]
    saved = [(buffer, buffer.clone()) for buffer in model.buffers()]
    if mode == "eval":
        model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, value in saved:
                buffer.copy_(value)


def _spread(tensor: Tensor, others: Tensor | None, rows: Rows) -> Tensor:
    """The rows here among those of ``others``, or among zeros."""
    whole = tensor.new_zeros((rows.total, *tensor.shape[1:])) if others is None else others.clone()
    if tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last):
        whole = whole.contiguous(memory_format=torch.channels_last)
    whole[rows.slice] = tensor
    return whole
