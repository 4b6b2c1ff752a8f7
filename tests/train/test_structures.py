"""MaxUp of more than a tensor, of what is not a number, and of what cannot be taken."""

# Shapes: B examples, M copies, D inputs, K classes.

import collections
import math
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_training import STEP, batch, network, objective
from torch import Tensor, nn

from maxup_smoothing.train.maxup import Reduction, maxup_loss, worst_copies
from maxup_smoothing.train.perturbations import Cutout, GaussianNoise, MixUp

B, M, D, K = 5, 3, 6, 4
REDUCTIONS = pytest.mark.parametrize("reduction", ["max", "topk", "mean", "logsumexp"])


class Pair(NamedTuple):
    ids: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Record:
    ids: Tensor
    mask: Tensor


class Output(collections.OrderedDict[str, Any]):
    """As the outputs of a library's models: a dict with attributes."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


#: From two tensors to a structure of them, and back.
STRUCTURES: dict[str, tuple[Callable[[Tensor, Tensor], Any], Callable[[Any], tuple[Tensor, Tensor]]]] = {
    "dict": (lambda a, b: {"ids": a, "mask": b}, lambda t: (t["ids"], t["mask"])),
    "tuple": (lambda a, b: (a, b), lambda t: t),
    "list": (lambda a, b: [a, b], lambda t: (t[0], t[1])),
    "named tuple": (Pair, lambda t: (t.ids, t.mask)),
    "dataclass": (Record, lambda t: (t.ids, t.mask)),
    "nested, with constants": (lambda a, b: {"x": (a, None, "t"), "y": [b, 3]}, lambda t: (t["x"][0], t["y"][0])),
    "output": (lambda a, b: Output(ids=a, mask=b), lambda t: (t.ids, t.mask)),
    "user dict": (lambda a, b: collections.UserDict(ids=a, mask=b), lambda t: (t["ids"], t["mask"])),
    "read-only": (lambda a, b: types.MappingProxyType({"ids": a, "mask": b}), lambda t: (t["ids"], t["mask"])),
}  # fmt: skip


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="none")


class Masked(nn.Module):
    """Logits of the ids that the mask leaves, out of a structure."""

    def __init__(self, apart: Callable[[Any], tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.apart, self.layer = apart, network_of(D)

    def forward(self, x: Any) -> Tensor:
        ids, mask = self.apart(x)
        logits: Tensor = self.layer(ids * mask)
        return logits


def network_of(inputs: int) -> nn.Linear:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Linear(inputs, K)


@REDUCTIONS
@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_of_inputs_and_targets_have_the_loss_of_their_tensors(name: str, reduction: Reduction) -> None:
    together, apart = STRUCTURES[name]
    g = torch.Generator().manual_seed(1)
    ids, mask = torch.randn(B, D, generator=g), (torch.rand(B, D, generator=g) < 0.8)
    y, weight = torch.randint(K, (B,), generator=g), torch.rand(B, generator=g)

    def perturb(x: Any, y: Any, generator: torch.Generator) -> tuple[Any, Any]:
        ids, mask = apart(x)
        return together(ids + torch.randn(ids.shape, generator=generator), mask), y

    def loss(logits: Tensor, target: Any) -> Tensor:
        y, weight = apart(target)
        return weight * cross_entropy(logits, y)

    def plain(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.cat([x[:, :D] + torch.randn(B, D, generator=generator), x[:, D:]], dim=1), y

    model = Masked(apart)
    options: dict[str, Any] = {"m": M, "seed": 3, "reduction": reduction, "top_k": 2}
    result = maxup_loss(model, loss, perturb, together(ids, mask), together(y, weight), **options)
    flat = torch.cat([ids, mask.float()], dim=1)
    expected = maxup_loss(
        Masked(lambda x: (x[:, :D], x[:, D:])),
        lambda logits, y: weight * cross_entropy(logits, y),
        plain, flat, y, **options,
    )  # fmt: skip
    assert torch.equal(result.loss, expected.loss)
    assert torch.equal(result.copies_BM, expected.copies_BM)


def test_there_need_be_no_targets() -> None:
    x = torch.rand(B, D)
    result = maxup_loss(network_of(D), lambda out, _: out.square().sum(1), GaussianNoise(0.5), x, None, m=M, seed=0)
    torch.testing.assert_close(result.loss, result.copies_BM.amax(1).mean())


def test_token_ids_are_taken_where_the_perturbation_keeps_them_whole_or_makes_numbers_of_them() -> None:
    table, ids = torch.randn(10, D), torch.randint(10, (B,))

    def replaced(ids: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.randint(10, ids.shape, generator=generator), y

    def embedded(ids: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return GaussianNoise(0.5)(table[ids], y, generator)

    y, layer = torch.randint(K, (B,)), network_of(D)
    assert maxup_loss(nn.Sequential(nn.Embedding(10, D), layer), cross_entropy, replaced, ids, y, m=M, seed=0).loss > 0
    assert maxup_loss(layer, cross_entropy, embedded, ids, y, m=M, seed=0).loss > 0


def test_a_seed_may_be_a_number_of_numpy_or_a_tensor() -> None:
    x, y, layer = torch.rand(B, D), torch.randint(K, (B,)), network_of(D)
    seeds: list[Any] = [3, np.int64(3), torch.tensor(3)]
    losses = [maxup_loss(layer, cross_entropy, GaussianNoise(0.5), x, y, m=M, seed=seed).loss for seed in seeds]
    assert losses[0] == losses[1] == losses[2]


X, Y = torch.rand(B, D), torch.zeros(B, dtype=torch.long)
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "half a copy": ({"m": 2.0}, r"m, the number of copies, must be a whole number, got 2\.0"),
    "a word for m": ({"m": "3"}, "m, the number of copies, must be a whole number, got '3'"),
    "half a copy kept": ({"reduction": "topk", "top_k": 1.5}, "top_k must be a whole number"),
    "a fraction as seed": ({"seed": 0.5}, r"seed must be a whole number, got 0\.5"),
    "several seeds": ({"seed": torch.tensor([1, 2])}, "seed must be a whole number"),
    "a negative seed": ({"seed": -1}, r"seed must lie in \[0, 2\^64\), got -1"),
    "no examples": ({"x": X[:0], "y": Y[:0]}, "the batch is empty"),
    "bytes": ({"x": (255 * X).byte()}, r"Gaussian noise takes floating-point inputs, got torch\.uint8; pass images as"),
    "an array": ({"x": X.numpy()}, "inputs must be tensors, or dicts, .*; got ndarray"),
    "an array in a dict": ({"x": {"x": X.numpy()}}, "inputs must be tensors, or dicts, .*; got ndarray"),
    "no tensor": ({"x": {"text": "words"}}, "got dict without any tensor"),
    "too few targets": ({"y": Y[:3]}, r"dimension 0 .* must be the example, got shapes \(5, 6\), \(3,\)"),
    "a number for all": ({"y": (Y, torch.tensor(1.0))}, "dimension 0 of all inputs and targets must be the example"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_taken_is_named(changes: dict[str, Any], message: str) -> None:
    arguments = {"x": X, "y": Y, "m": M, "seed": 0, **changes}
    with pytest.raises(ValueError, match=message):
        maxup_loss(network_of(D), cross_entropy, GaussianNoise(0.5), **arguments)


def test_copies_of_different_make_are_refused() -> None:
    def growing(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Any, Any]:
        return x.repeat(1, 1 + int(torch.randint(1000, (), generator=generator))), y

    def renamed(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Any, Any]:
        return {int(torch.randint(1000, (), generator=generator)): x}, y

    def numbered(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Any, Any]:
        return (x, int(torch.randint(1000, (), generator=generator))), y

    for perturb, message in (
        (growing, "all copies of a batch must have one shape"),
        (renamed, "all copies must have one structure"),
        (numbered, "what is not a tensor must be the same in all copies"),
    ):
        with pytest.raises(ValueError, match=message):
            maxup_loss(nn.Identity(), lambda out, y: torch.zeros(B), perturb, X, Y, m=M, seed=0)


@pytest.mark.parametrize("perturb", [MixUp(1.0), Cutout(2, (0.4,))])
def test_pixels_that_are_whole_numbers_are_not_mixed_or_painted_over(perturb: Any) -> None:
    x, y = torch.zeros(B, 1, 4, 4, dtype=torch.uint8), torch.full((B, K), 0.25)
    with pytest.raises(ValueError, match=r"takes floating-point inputs, got torch\.uint8; pass images as x\.float"):
        perturb(x, y, torch.Generator())


@REDUCTIONS
@pytest.mark.parametrize("selection", ["train", "eval"])
@pytest.mark.parametrize("lost", range(M))
def test_a_copy_that_is_not_a_number_makes_the_loss_nan_whichever_it_is(
    lost: int, selection: Any, reduction: Reduction
) -> None:
    calls = iter(range(100))

    def loss(logits: Tensor, y: Tensor) -> Tensor:
        # Of the copy's own pass alone: the pass with the gradient may well be finite.
        entropy = cross_entropy(logits, y)
        return entropy.index_fill(0, torch.tensor([2]), math.nan) if next(calls) == lost else entropy

    result = maxup_loss(
        network_of(D), loss, GaussianNoise(0.5), X, Y, m=M, seed=0, reduction=reduction, top_k=2, selection=selection
    )
    assert result.loss.isnan()


@pytest.mark.parametrize("lost", range(M))
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_copy_that_is_not_a_number_is_the_worst(lost: int, value: float) -> None:
    table_BM = torch.arange(2.0 * M).reshape(2, M)
    table_BM[1, lost] = value
    calls = iter(range(M))

    def numbered(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        return torch.full_like(x, next(calls)), y

    worst, losses_BM = worst_copies(
        nn.Identity(), lambda out, y: table_BM[[0, 1], out.long()], numbered, torch.zeros(2), None, m=M, seed=0, keep=M
    )
    torch.testing.assert_close(losses_BM, table_BM, equal_nan=True)
    assert [int(x_B[0]) for x_B, _ in worst] == [2, 1, 0]
    rest = [copy for copy in (2, 1, 0) if copy != lost]
    assert [int(x_B[1]) for x_B, _ in worst] == [lost, *rest]


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("stability", {"worst_of": 3}),
        ("consistency", {"m": 2, "worst_of": 3}),
        ("smoothadv", {"m": 2, "steps": 1, "worst_of": 3}),
        ("stability", {"worst_of": 3, "graded": True}),
        ("consistency", {"m": 2, "worst_of": 3, "graded": True, "reach": 1.0}),
        ("maxup", {"m": 3}),
        ("catrs", {"m": 3, "steps": 1}),
    ],
)
@pytest.mark.parametrize("lost", range(3))
def test_a_lost_candidate_is_seen_in_every_objective(name: str, changes: dict[str, Any], lost: int) -> None:
    model = network()
    x, y = batch(model)
    loss = objective(name, **changes)
    calls = iter(range(100))
    real = loss.loss

    def losing(logits: Tensor, y: Tensor) -> Tensor:
        entropy = real(logits, y)
        return entropy.index_fill(0, torch.tensor([1]), math.nan) if next(calls) == lost else entropy

    loss.loss = losing  # type: ignore[assignment]
    result = loss(model, x, y, STEP)
    assert not torch.stack([result.loss.detach(), result.mean, result.gap]).isfinite().all()
