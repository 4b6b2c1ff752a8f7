"""MaxUp against slow, obvious twins on tiny models."""

# Shapes: B examples, M copies, D inputs, K classes.

from copy import deepcopy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from maxup_smoothing.train.maxup import BatchLoss, Reduction, maxup_loss, worst_copies
from maxup_smoothing.train.perturbations import GaussianNoise
from maxup_smoothing.train.seeds import generator

B, D, K, M = 5, 6, 3, 4
NOISE = GaussianNoise(0.7)


def cross_entropy(logits: Tensor, y: Tensor) -> Tensor:
    return F.cross_entropy(logits, y, reduction="none")


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(B, D, generator=g), torch.randint(K, (B,), generator=g)


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(D, 7), nn.Tanh(), nn.Linear(7, K)).double()


def copies(x: Tensor, y: Tensor, seed: int, m: int = M) -> Tensor:
    """(B, m, D): all copies, drawn as the module says, one generator a copy."""
    return torch.stack([NOISE(x, y, generator(x.device, seed, copy))[0] for copy in range(m)], dim=1)


def run(model: nn.Module, x: Tensor, y: Tensor, **changes: Any) -> BatchLoss:
    return maxup_loss(model, cross_entropy, NOISE, x, y, **{"m": M, "seed": 3, **changes})


def gradients(model: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def all_losses(model: nn.Module, x: Tensor, y: Tensor, seed: int = 3) -> Tensor:
    """(B, M) by an explicit double loop, with gradient."""
    x_BMD = copies(x, y, seed)
    rows = [[cross_entropy(model(x_BMD[b, c][None]), y[b][None])[0] for c in range(M)] for b in range(len(x))]
    return torch.stack([torch.stack(row) for row in rows])


def reduced(loss_BM: Tensor, reduction: str, top_k: int = 2, temperature: float = 0.3) -> Tensor:
    if reduction == "max":
        return torch.stack([max(row) for row in loss_BM]).mean()
    if reduction == "mean":
        return loss_BM.mean()
    if reduction == "topk":
        return torch.stack([sum(sorted(row, reverse=True)[:top_k]) / top_k for row in loss_BM]).mean()
    return torch.stack([temperature * (row / temperature).exp().mean().log() for row in loss_BM]).mean()


@pytest.mark.parametrize("reduction", ["max", "mean", "topk", "logsumexp"])
def test_loss_and_gradient_equal_those_of_the_double_loop(reduction: Reduction, seed: int) -> None:
    model, (x, y) = network(seed), batch(seed)
    x = x.double()
    result = run(model, x, y, reduction=reduction, top_k=2, temperature=0.3)
    expected = reduced(all_losses(model, x, y), reduction)
    torch.testing.assert_close(result.loss, expected)
    for ours, theirs in zip(gradients(model, result.loss), gradients(model, expected), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_maximum_over_the_wrong_axis_would_be_noticed() -> None:
    model, (x, y) = network(), batch()
    loss_BM = all_losses(model, x.double(), y)
    result = run(model, x.double(), y).loss
    wrong_axis = loss_BM.amax(dim=0).mean()
    wrong_grouping = loss_BM.T.reshape(B, M).amax(dim=1).mean()  # copy-major rows read as example-major ones
    for wrong in (wrong_axis, wrong_grouping):
        assert abs(result.item() - wrong.item()) > 1e-5


def test_copies_of_a_batch_are_reported_by_example_and_copy() -> None:
    model, (x, y) = network(), batch()
    result = run(model, x.double(), y)
    torch.testing.assert_close(result.copies_BM, all_losses(model, x.double(), y).detach())
    assert not result.copies_BM.requires_grad
    assert result.gap == (result.copies_BM.amax(1) - result.copies_BM.mean(1)).mean()
    assert result.mean == result.copies_BM.mean()


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(range(M)), examples=st.permutations(range(B)))
def test_permuting_copies_or_examples_changes_nothing(order: list[int], examples: list[int]) -> None:
    model, (x, y) = network(), batch()
    table_BMD = copies(x, y, 0)

    def loss(copy_order: list[int], example_order: list[int]) -> float:
        # Copies that are read from a table: copy c of the permuted run is copy order[c] of example example_order[b].
        drawn = iter(copy_order)

        def perturb(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            return table_BMD[example_order, next(drawn)].double(), y

        result = maxup_loss(model, cross_entropy, perturb, x[example_order], y[example_order], m=M, seed=0)
        return result.loss.item()

    assert loss(order, examples) == pytest.approx(loss(list(range(M)), list(range(B))), abs=1e-12)


def test_only_the_worst_copy_of_each_example_gets_gradient() -> None:
    """Of all passes the last alone may be differentiated, and it is on each example's worst copy."""
    model, (x, y) = network(), batch()
    seen: list[tuple[bool, Tensor]] = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append((torch.is_grad_enabled(), inputs[0])))
    result = run(model, x.double(), y)
    assert [grad for grad, _ in seen] == [False] * M + [True]
    worst_B = result.copies_BM.argmax(1)
    assert len(set(worst_B.tolist())) > 1
    assert torch.equal(seen[-1][1], copies(x.double(), y, 3)[torch.arange(B), worst_B])


@settings(max_examples=50, deadline=None)
@given(
    loss=st.lists(st.lists(st.integers(0, 5), min_size=M, max_size=M), min_size=B, max_size=B),
    keep=st.integers(1, M),
)
def test_the_kept_copies_have_the_largest_losses_in_order(loss: list[list[int]], keep: int) -> None:
    table_BM = torch.tensor(loss, dtype=torch.float64)
    drawn = iter(range(M))

    def number(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        copy = next(drawn)
        return table_BM[:, copy, None], torch.full((B,), copy)

    worst, copies_BM = worst_copies(
        nn.Identity(), lambda out, y: out[:, 0], number, torch.zeros(B, 1), torch.zeros(B), m=M, seed=0, keep=keep
    )
    assert torch.equal(copies_BM, table_BM)
    found = torch.stack([y for _, y in worst], dim=1)
    for b in range(B):
        kept = found[b].tolist()
        assert len(set(kept)) == keep
        assert [loss[b][c] for c in kept] == sorted(loss[b], reverse=True)[:keep]
        assert kept[0] == loss[b].index(max(loss[b])), "of equals the first"


def test_one_copy_is_augmentation_with_noise() -> None:
    model, (x, y) = network(), batch()
    noisy, _ = NOISE(x.double(), y, generator(x.device, 3, 0))
    expected = F.cross_entropy(model(noisy), y)
    result = run(model, x.double(), y, m=1)
    assert result.loss.item() == expected.item()
    assert result.gap == 0


def test_without_noise_every_reduction_is_the_clean_loss() -> None:
    model, (x, y) = network(), batch()
    clean = F.cross_entropy(model(x.double()), y)
    for reduction in ("max", "mean", "topk", "logsumexp"):
        result = maxup_loss(
            model, cross_entropy, GaussianNoise(0.0), x.double(), y, m=3, seed=0, reduction=reduction, top_k=2
        )
        torch.testing.assert_close(result.loss, clean)
        torch.testing.assert_close(result.gap, torch.zeros((), dtype=torch.float64))


def test_logsumexp_lies_between_mean_and_max_and_reaches_both() -> None:
    model, (x, y) = network(), batch()
    mean, largest = (run(model, x.double(), y, reduction=r).loss.item() for r in ("mean", "max"))
    soft = [run(model, x.double(), y, reduction="logsumexp", temperature=t).loss.item() for t in (1e-4, 0.1, 1, 1e5)]
    assert largest - soft[0] == pytest.approx(1e-4 * torch.tensor(float(M)).log().item(), rel=1e-6)
    assert mean < soft[2] < soft[1] < soft[0] < largest
    assert soft[3] == pytest.approx(mean, abs=1e-5)


def test_the_maximum_of_negative_losses_is_not_zero() -> None:
    model, (x, y) = network(), batch()
    result = maxup_loss(model, lambda out, y: cross_entropy(out, y) - 100, NOISE, x.double(), y, m=M, seed=3)
    torch.testing.assert_close(result.loss, run(model, x.double(), y).loss - 100)


def test_a_perturbation_may_change_the_targets_of_each_copy() -> None:
    """As CutMix does: the label of the winning copy goes with it."""
    model, (x, y) = network(), batch()

    def mix(x: Tensor, y: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        weight_B1 = torch.rand(len(x), 1, generator=generator, dtype=x.dtype)
        one_hot = F.one_hot(y, K).to(x.dtype)
        return weight_B1 * x + (1 - weight_B1) * x.flip(0), weight_B1 * one_hot + (1 - weight_B1) * one_hot.flip(0)

    def soft_cross_entropy(logits: Tensor, target_BK: Tensor) -> Tensor:
        return -(target_BK * logits.log_softmax(1)).sum(1)

    x = x.double()
    result = maxup_loss(model, soft_cross_entropy, mix, x, y, m=M, seed=3)
    drawn = [mix(x, y, generator(x.device, 3, copy)) for copy in range(M)]
    expected_BM = torch.stack([soft_cross_entropy(model(x_c), y_c) for x_c, y_c in drawn], dim=1)
    torch.testing.assert_close(result.loss, expected_BM.amax(1).mean())


def test_selection_leaves_buffers_modes_and_the_global_generator_as_they_were() -> None:
    model = nn.Sequential(nn.Linear(D, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, K)).train()
    model[2].eval()
    x, y = batch()
    state = torch.random.get_rng_state()
    run(model, x, y)
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.num_batches_tracked is not None
    assert norm.num_batches_tracked.item() == 1, "the gradient pass alone moves running statistics"
    assert [module.training for module in model] == [True, True, False, True]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_selection_compares_copies_under_the_batch_statistics_that_training_uses() -> None:
    """Copy c of the batch is normalised by the statistics of the B copies c, as a training step on them would."""
    model, (x, y) = nn.Sequential(nn.Linear(D, 8), nn.BatchNorm1d(8), nn.Linear(8, K)).train(), batch()
    twin_BM = torch.stack([cross_entropy(model(copies(x, y, 3)[:, c]), y) for c in range(M)], dim=1)
    torch.testing.assert_close(run(model, x, y).copies_BM, twin_BM.detach())


def test_selection_in_evaluation_mode_uses_running_statistics_and_no_dropout() -> None:
    model = nn.Sequential(nn.Linear(D, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, K)).train()
    x, y = batch()
    result = run(model, x, y, selection="eval")
    assert all(module.training for module in model)
    norm = model.eval()[1]
    assert isinstance(norm, nn.BatchNorm1d)
    norm.reset_running_stats()  # the gradient pass has moved them since
    x_BMD = copies(x, y, 3)
    twin_BM = torch.stack([cross_entropy(model(x_BMD[:, c]), y) for c in range(M)], dim=1)
    torch.testing.assert_close(result.copies_BM, twin_BM.detach())


@pytest.mark.parametrize("reduction", ["max", "topk", "mean", "logsumexp"])
def test_joint_selection_passes_all_copies_as_one_batch(reduction: Reduction) -> None:
    """Batch norm sees all copies, running statistics move once, and the gradient is that of the plain formula."""
    model, (x, y) = nn.Sequential(nn.Linear(D, 8), nn.BatchNorm1d(8), nn.Linear(8, K)).train(), batch()
    twin = deepcopy(model)
    result = run(model, x, y, selection="joint", reduction=reduction, top_k=2, temperature=0.3)
    result.loss.backward()
    x_BMD = copies(x, y, 3)
    logits = twin(x_BMD.transpose(0, 1).flatten(0, 1))
    loss_BM = cross_entropy(logits, y.repeat(M)).unflatten(0, (M, -1)).T
    expected = reduced(loss_BM, reduction)
    expected.backward()
    torch.testing.assert_close(result.loss, expected)
    torch.testing.assert_close(result.copies_BM, loss_BM.detach())
    for own, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(own.grad, other.grad)
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(buffer, twin.get_buffer(name))


def test_all_copies_and_the_gradient_pass_meet_the_same_dropout_masks() -> None:
    """With equal copies every difference would come from the masks: the gap is then zero, and the loss is theirs."""
    model, (x, y) = nn.Sequential(nn.Dropout(0.5), nn.Linear(D, K)).train(), batch()
    result = maxup_loss(model, cross_entropy, GaussianNoise(0.0), x, y, m=M, seed=3)
    assert result.gap == 0
    assert result.loss.item() == pytest.approx(result.copies_BM[:, 0].mean().item(), abs=1e-6)
    clean = F.cross_entropy(model.eval()(x), y)
    assert abs(result.loss.item() - clean.item()) > 1e-3, "dropout was off"


def test_weights_keep_their_gradient_under_autocast() -> None:
    """Autocast caches casts: those made during selection carry no gradient and must not be used again."""
    model, (x, y) = network().float(), batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = run(model, x, y)
    result.loss.backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"m": 0}, "m, the number of copies, must be at least 1, got 0"),
        ({"reduction": "min"}, "reduction must be one of max, mean, topk, logsumexp, got 'min'"),
        ({"reduction": "topk", "top_k": 5}, r"top_k must lie in \[1, m\] = \[1, 4\], got 5"),
        ({"temperature": 0.0}, "temperature must be positive and finite, got 0"),
        ({"selection": "both"}, "selection must be one of train, eval, joint, got 'both'"),
    ],
)
def test_arguments_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    x, y = batch()
    with pytest.raises(ValueError, match=message):
        run(network().float(), x, y, **changes)


def test_a_loss_that_is_averaged_already_is_refused() -> None:
    x, y = batch()
    with pytest.raises(ValueError, match=r"must return 5 losses, one an example, got \(\)"):
        maxup_loss(network().float(), F.cross_entropy, NOISE, x, y, m=M, seed=3)
