"""MaxUp by itself: the loss of the worst of m randomly perturbed copies of each example.

For each example draw m copies and minimise the largest of their losses. Only the worst copy needs a gradient, so it is
found by m forward passes without one, and passed forward and backward alone: about (m + 3) / 3 of a plain step's time
(a backward pass costs two forward ones) and a plain step's memory, where back-propagating through every copy costs m of
each.

Selection and gradient see the same function, up to batch statistics: in the gradient pass these are those of the worst
copies. Modules stay in the mode that they are in, so batch norm normalises by the statistics of the copies it is given.
Buffers such as running statistics are put back after selection, so that only the gradient pass moves them. Every pass
starts from one random state, so that all copies of a batch meet the same dropout masks. With ``selection="eval"`` the
copies are compared in evaluation mode instead (running statistics, no dropout), which is cheaper for some models and
noisier at the start of training. With ``selection="joint"`` all copies pass forward and backward as one batch of m B
examples, and the worst is chosen from their losses. Batch norm then sees all copies, each copy meets its own dropout
mask, and time and memory are those of the mean of m copies.

Inputs and targets are tensors, or dicts, tuples, lists, named tuples and dataclasses of them, as text models take. The
copies are then chosen leaf by leaf. A copy whose loss is not a number counts as the worst, so the loss says so, too.

References:
    Gong, Ren, Ye, Liu (2020), "MaxUp: a simple way to improve generalization of neural network training",
    arXiv:2002.09024, sections 2 and 2.1.
"""

# Shapes: B examples, M copies of each, S of them selected. Dimension 0 of every input is the example.

import math
import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from maxup_smoothing.train import structures
from maxup_smoothing.train.seeds import derive_seed, generator
from maxup_smoothing.train.step import DROPOUT, same_randomness, without_trace

Reduction = Literal["max", "mean", "topk", "logsumexp"]
Selection = Literal["train", "eval", "joint"]
PerExampleLoss = Callable[[Any, Any], Tensor]
#: From inputs, targets and a generator to both anew; a ``Perturbation`` is one whose inputs and targets are tensors.
Perturb = Callable[[Any, Any, torch.Generator], tuple[Any, Any]]
Ranked = tuple[Tensor, tuple[Any, Any]]  # (B,) losses, and the copies and targets that have them


@dataclass(frozen=True)
class BatchLoss:
    """The loss of one batch and what it was made of.

    Attributes:
        loss: Scalar, mean over the examples, with gradient.
        copies_BM: (B, M) loss of every noisy copy that was looked at, without gradient.
        output: Where ``maxup_loss`` made it: what the model returned for the worst copy of each example, or for copy 0
            where the worst is not sought, in the pass that has the gradient. A recurrent state is carried on from it.
            None where all copies passed as one batch.
    """

    loss: Tensor
    copies_BM: Tensor
    output: Any = None

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
    perturb: Perturb,
    x: Any,
    y: Any,
    *,
    m: int,
    seed: int,
    reduction: Reduction = "max",
    top_k: int = 1,
    temperature: float = 1.0,
    selection: Selection = "train",
) -> BatchLoss:
    r"""The MaxUp objective of a batch.

    For losses :math:`l_{b1}, \dots, l_{bm}` of example b's copies the mean over b is returned of: ``max``, the largest;
    ``topk``, the mean of the ``top_k`` largest; ``mean``, their mean (the control: more copies, but not the worst one);
    ``logsumexp``, :math:`t \log \frac1m \sum_i e^{l_{bi} / t}` with the temperature t, which is the maximum for
    t to 0 and the mean for t to infinity.

    Cost in units of a forward pass (backward counts 2): ``max`` m + 3, ``topk`` m + 3 top_k, the others 3 m. With
    ``selection="joint"`` all of them cost 3 m.

    Args:
        model: Called with a batch; its output, a tensor or anything else, goes to ``per_example_loss``. In the mode it
            is to be trained in. What it reads besides the batch, such as a recurrent state, is the same for all copies.
        per_example_loss: From the model's output and the targets to (B,) losses.
        perturb: Draws one copy of the whole batch; see ``train.perturbations``.
        x: Inputs: a tensor, or a structure of tensors (see the top of this module), each with first dimension B, at
            least 1. Of any dtype that ``perturb`` takes, such as token ids. What else a structure holds (None,
            numbers, strings) is handed on, and must be the same in all copies.
        y: Targets, likewise; or None. A perturbation may change them too (CutMix).
        m: Copies of each example, a whole number, at least 1. With m = 1 there is nothing to select.
        seed: In [0, 2^64), a whole number or a tensor of one. Copy c of this batch is a function of ``(seed, c)``.
            Give each step another.
        reduction: See above.
        top_k: For ``topk``, in [1, m].
        temperature: For ``logsumexp``, positive.
        selection: "train", "eval" or "joint"; see the top of this module. With "joint" the other reductions pass all
            copies as one batch, too.

    Returns:
        The loss and the losses of all copies. The loss is NaN if that of any copy is.

    Raises:
        ValueError: If an argument is out of range or of another kind, the batch is empty, or ``per_example_loss`` does
            not return one loss per example.
    """
    check(m=m, reduction=reduction, top_k=top_k, temperature=temperature, selection=selection)
    m, seed, device = int(m), _seed(seed), structures.device(x, y)
    kept = {"max": 1, "topk": top_k}.get(reduction, m)
    if kept < m and selection != "joint":
        worst, copies_BM = worst_copies(
            model, per_example_loss, perturb, x, y, m=m, seed=seed, keep=kept, selection=selection
        )
        loss_BS, output = _table(model, per_example_loss, worst, seed)
        # In the pass that has the gradient a copy may be a number again, with other batch statistics.
        lost = torch.zeros_like(loss_BS[0, 0]).masked_fill(copies_BM.isnan().any(), math.nan)
        return BatchLoss(loss_BS.mean() + lost, copies_BM, output)

    copies = (perturb(x, y, generator(device, seed, copy)) for copy in range(m))
    if selection == "joint":
        (loss_BM, _), output = _pass(model, per_example_loss, structures.concatenated(list(copies)), seed), None
        loss_BM = loss_BM.unflatten(0, (m, -1)).T
    else:
        loss_BM, output = _table(model, per_example_loss, copies, seed)
    if reduction == "logsumexp":
        # Relative to the maximum nothing overflows, and expm1 and log1p keep the digits at high temperatures.
        largest_B1 = loss_BM.detach().amax(1, keepdim=True)
        excess_B = ((loss_BM - largest_B1) / temperature).expm1().mean(1).log1p()
        loss_B = largest_B1.squeeze(1) + temperature * excess_B
    else:
        loss_B = loss_BM.topk(kept).values.mean(1) if kept < m else loss_BM.mean(1)
    return BatchLoss(loss_B.mean(), loss_BM.detach(), output)


def worst_copies(
    model: nn.Module,
    per_example_loss: PerExampleLoss,
    perturb: Perturb,
    x: Any,
    y: Any,
    *,
    m: int,
    seed: int,
    keep: int = 1,
    selection: Selection = "train",
) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """The ``keep`` copies of each example with the largest losses.

    Cost: m forward passes, without gradient. The arguments are those of ``maxup_loss``.

    Returns:
        ``keep`` batches of inputs and targets, first each example's worst copy, then its second worst, …; and the
        losses of all copies, (B, M), without gradient. A loss that is NaN counts as the largest.
    """
    device = structures.device(x, y)
    losses, worst = list[Tensor](), list[Ranked]()
    with torch.no_grad(), without_trace(model, selection):
        for copy in range(m):
            batch = perturb(x, y, generator(device, seed, copy))
            loss_B, _ = _pass(model, per_example_loss, batch, seed)
            new = (loss_B, batch)
            losses.append(new[0])
            # Insert it, example by example: what a worse copy pushes out may push out the next.
            for place, old in enumerate(worst):
                larger_B = (new[0] > old[0]) | new[0].isnan()  # NaN is larger than nothing
                worst[place], new = (structures.choose(larger_B, *pair) for pair in ((new, old), (old, new)))
            if len(worst) < keep:
                worst.append(new)
    # Autocast keeps the weights it cast; those cast without gradient would cut the weights off in the next pass.
    torch.clear_autocast_cache()
    return [batch for _, batch in worst], torch.stack(losses, dim=1)


def check(*, m: int, reduction: str, top_k: int, temperature: float, selection: str) -> None:
    """Raise ``ValueError`` unless these are arguments of ``maxup_loss``."""
    for name, value in (("m, the number of copies,", m), ("top_k", top_k)):
        _whole(name, value)
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


def _table(
    model: nn.Module, per_example_loss: PerExampleLoss, batches: Iterable[tuple[Tensor, Tensor]], seed: int
) -> tuple[Tensor, Any]:
    """Losses of S batches, (B, S), with gradient, and what the model returned for the first of them."""
    losses, first = list[Tensor](), None
    for batch in batches:
        loss_B, output = _pass(model, per_example_loss, batch, seed)
        first = output if not losses else first
        losses.append(loss_B)
    return torch.stack(losses, dim=1), first


def _pass(model: nn.Module, per_example_loss: PerExampleLoss, batch: tuple[Any, Any], seed: int) -> tuple[Tensor, Any]:
    """Losses of a batch, (B,), and what the model returned for it."""
    x, y = batch
    examples = len(next(structures.tensors(x, "inputs")))
    with same_randomness(structures.device(x, y), derive_seed(seed, DROPOUT)):
        output = model(x)
        loss_B = per_example_loss(output, y)
    if not isinstance(loss_B, Tensor) or loss_B.shape != (examples,):
        got = tuple(loss_B.shape) if isinstance(loss_B, Tensor) else type(loss_B).__name__
        raise ValueError(f"per_example_loss must return {examples} losses, one an example, got {got}.")
    return loss_B, output


def _whole(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except (TypeError, ValueError, RuntimeError):  # a tensor of several numbers or of fractions says so in its own way
        raise ValueError(f"{name} must be a whole number, got {value!r}.") from None


def _seed(value: Any) -> int:
    seed = _whole("seed", value)
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must lie in [0, 2^64), got {seed}.")
    return seed
