"""MaxUp by itself: the loss of the worst of m randomly perturbed copies of each example.

For each example draw m copies and minimise the largest of their losses. Only the worst copy needs a gradient, so it is
found by m forward passes without one, drawn again from its seed, and passed forward and backward alone: about
(m + 3) / 3 of a plain step's time (a backward pass costs two forward ones) and a plain step's memory, where
back-propagating through every copy costs m of each.

Selection and gradient see the same function, up to batch statistics, which are those of the winners in the gradient
pass. Modules stay in the mode that they are in (batch norm normalises by the
statistics of the copies it is given), buffers such as running statistics are put back after selection, so that only the
gradient pass moves them, and every pass starts from one random state, so that all copies of a batch meet the same
dropout masks. With ``selection="eval"`` the copies are compared in evaluation mode instead (running statistics, no
dropout), which is cheaper for some models and noisier at the start of training.

References:
    Gong, Ren, Ye, Liu (2020), "MaxUp: a simple way to improve generalization of neural network training",
    arXiv:2002.09024, sections 2 and 2.1.
"""

# Shapes: B examples, M copies of each, S of them selected. Dimension 0 of every input is the example.

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from train.perturbations import Perturbation
from train.seeds import derive_seed, generator

Reduction = Literal["max", "mean", "topk", "logsumexp"]
Selection = Literal["train", "eval"]
PerExampleLoss = Callable[[Any, Tensor], Tensor]

DROPOUT = 1 << 32  # apart from the copies, which are numbered from 0


@dataclass(frozen=True)
class MaxUpLoss:
    """The objective of one batch and what it was made of.

    Attributes:
        loss: Scalar, mean over the examples, with gradient.
        copies_BM: (B, M) loss of every copy, without gradient.
    """

    loss: Tensor
    copies_BM: Tensor

    @property
    def mean(self) -> Tensor:
        """Scalar: the loss averaged over copies and examples, which is what augmentation with noise minimises."""
        return self.copies_BM.mean()

    @property
    def gap(self) -> Tensor:
        """Scalar, at least 0: how far the worst copy lies above the average one, averaged over the examples."""
        return (self.copies_BM.amax(1) - self.copies_BM.mean(1)).mean()


def maxup_loss(
    model: nn.Module,
    per_example_loss: PerExampleLoss,
    perturb: Perturbation,
    x: Tensor,
    y: Tensor,
    *,
    m: int,
    seed: int,
    reduction: Reduction = "max",
    top_k: int = 1,
    temperature: float = 1.0,
    selection: Selection = "train",
) -> MaxUpLoss:
    r"""The MaxUp objective of a batch.

    For losses :math:`l_{b1}, \dots, l_{bm}` of example b's copies the mean over b is returned of: ``max``, the largest;
    ``topk``, the mean of the ``top_k`` largest; ``mean``, their mean (the control: more copies, but not the worst one);
    ``logsumexp``, :math:`t \log \frac1m \sum_i e^{l_{bi} / t}` with the temperature t, which is the maximum for
    t to 0 and the mean for t to infinity.

    Cost in units of a forward pass (backward counts 2): ``max`` m + 3, ``topk`` m + 3 top_k, the others 3 m.

    Args:
        model: Called with a batch; its output goes to ``per_example_loss``. In the mode it is to be trained in.
        per_example_loss: From the model's output and the targets to (B,) losses.
        perturb: Draws one copy of the whole batch; see ``train.perturbations``.
        x: Inputs, first dimension B.
        y: Targets, first dimension B; a perturbation may change them too (CutMix).
        m: Copies of each example, at least 1. With m = 1 there is nothing to select.
        seed: Copy c of this batch is a function of ``(seed, c)``. Give each step another.
        reduction: See above.
        top_k: For ``topk``, in [1, m].
        temperature: For ``logsumexp``, positive.
        selection: "train" or "eval"; see the top of this module.

    Returns:
        The loss and the losses of all copies.

    Raises:
        ValueError: If an argument is out of range, or ``per_example_loss`` does not return one loss per example.
    """
    check(m=m, reduction=reduction, top_k=top_k, temperature=temperature, selection=selection)

    def draw(copy: int) -> tuple[Tensor, Tensor]:
        return perturb(x, y, generator(x.device, seed, copy))

    def loss_of(batch: tuple[Tensor, Tensor]) -> Tensor:
        with same_randomness(x.device, derive_seed(seed, DROPOUT)):
            loss_B = per_example_loss(model(batch[0]), batch[1])
        if loss_B.shape != (len(x),):
            raise ValueError(
                f"per_example_loss must return {len(x)} losses, one an example, got {tuple(loss_B.shape)}."
            )
        return loss_B

    if reduction in ("mean", "logsumexp") or m == 1:
        loss_BM = torch.stack([loss_of(draw(copy)) for copy in range(m)], dim=1)
        if reduction == "logsumexp":
            # Relative to the maximum nothing overflows, and expm1 and log1p keep the digits at high temperatures.
            largest_B1 = loss_BM.detach().amax(1, keepdim=True)
            excess_B = ((loss_BM - largest_B1) / temperature).expm1().mean(1).log1p()
            loss_B = largest_B1.squeeze(1) + temperature * excess_B
        else:
            loss_B = loss_BM.mean(1)
        return MaxUpLoss(loss_B.mean(), loss_BM.detach())

    with torch.no_grad(), _without_trace(model, selection):
        copies_BM = torch.stack([loss_of(draw(copy)) for copy in range(m)], dim=1)
    # Autocast keeps the weights it cast; those cast without gradient would cut the weights off in the next pass.
    torch.clear_autocast_cache()
    chosen_BS = copies_BM.topk(top_k if reduction == "topk" else 1, dim=1).indices
    loss_BS = torch.stack([loss_of(_regenerate(draw, copy_B, m)) for copy_B in chosen_BS.unbind(1)], dim=1)
    return MaxUpLoss(loss_BS.mean(), copies_BM)


def check(*, m: int, reduction: str, top_k: int, temperature: float, selection: str) -> None:
    """Raise ``ValueError`` unless these are arguments of ``maxup_loss``."""
    if m < 1:
        raise ValueError(f"m, the number of copies, must be at least 1, got {m}.")
    if reduction not in get_args(Reduction):
        raise ValueError(f"reduction must be one of {', '.join(get_args(Reduction))}, got {reduction!r}.")
    if not 1 <= top_k <= m:
        raise ValueError(f"top_k must lie in [1, m] = [1, {m}], got {top_k}.")
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature must be positive and finite, got {temperature}.")
    if selection not in get_args(Selection):
        raise ValueError(f"selection must be one of {', '.join(get_args(Selection))}, got {selection!r}.")


def _regenerate(draw: Callable[[int], tuple[Tensor, Tensor]], copy_B: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """Copy ``copy_B[b]`` of each example b, by drawing the m copies again one after another."""
    x, y = draw(0)
    for copy in range(1, m):
        x_copy, y_copy = draw(copy)
        x, y = _choose(copy_B == copy, x_copy, x), _choose(copy_B == copy, y_copy, y)
    return x, y


def _choose(mask_B: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    return torch.where(mask_B.reshape(-1, *(1,) * (yes.dim() - 1)), yes, no)


@contextmanager
def same_randomness(device: torch.device, seed: int) -> Iterator[None]:
    """Inside, what draws from the global generators (dropout) starts from ``seed``; outside nothing has changed."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def _without_trace(model: nn.Module, selection: Selection) -> Iterator[None]:
    """Forward passes inside leave the modes and buffers of ``model`` as they were."""
    modes = [(module, module.training) for module in model.modules()]
    saved = [(buffer, buffer.clone()) for buffer in model.buffers()]
    if selection == "eval":
        model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, value in saved:
                buffer.copy_(value)
