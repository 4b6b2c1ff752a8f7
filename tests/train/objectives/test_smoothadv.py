"""SmoothAdv: the same noises in attack and loss; with MaxUp, the worst of fresh ones."""

import pytest
import torch
from tiny_training import (
    STEP,
    B,
    assert_same,
    batch,
    cross_entropy,
    divergence,
    logits_table,
    mean,
    network,
    noises_of,
    objective,
    over_examples,
    regrouped,
    softmax,
)
from torch import Tensor, nn

from maxup_smoothing.train.objectives.attacks import ddn, pgd
from maxup_smoothing.train.seeds import derive_seed
from maxup_smoothing.train.step import Step

ATTACKS = {"pgd": pgd, "ddn": ddn}
CHANGES = {"m": 4, "epsilon": 0.4, "steps": 3}


def losses(table_BMK: Tensor, y: Tensor) -> Tensor:
    rows = [[cross_entropy(logits_K, label) for logits_K in row] for row, label in zip(table_BMK, y, strict=True)]
    return torch.stack([torch.stack(row) for row in rows])


def worst(loss_BM: Tensor) -> Tensor:
    return mean([max(row) for row in loss_BM])


def fresh_noises(x: Tensor, count: int) -> list[Tensor]:
    return noises_of(x, count, derive_seed(STEP.seed, 1))


@pytest.mark.parametrize("attack", ["pgd", "ddn"])
def test_loss_and_gradient_are_those_of_the_attacked_images_under_the_same_noises(attack: str, seed: int) -> None:
    """The attacks have twins of their own; here each image is attacked alone."""
    model = network(seed)
    x, y = batch(model, seed)
    noises = noises_of(x)
    moved = torch.cat(
        [
            ATTACKS[attack](model, x[[b]], y[[b]], [n[[b]] for n in noises], epsilon=0.4, steps=3)
            for b in range(B)
        ]
    )  # fmt: skip
    result = objective("smoothadv", attack=attack, **CHANGES)(model, x, y, STEP)
    loss_BM = losses(logits_table(model, moved, noises), y)
    assert_same(model, result.loss, loss_BM.mean())
    torch.testing.assert_close(result.copies_BM, loss_BM.detach())
    assert result.loss > losses(logits_table(model, x, noises), y).mean()


def test_with_maxup_the_loss_is_that_of_the_worst_fresh_copy_of_the_attacked_image(seed: int) -> None:
    model = network(seed)
    x, y = batch(model, seed)
    moved = pgd(model, x, y, noises_of(x), epsilon=0.4, steps=3)
    result = objective("smoothadv", worst_of=6, **CHANGES)(model, x, y, STEP)
    loss_BM = losses(logits_table(model, moved, fresh_noises(x, 6)), y)
    assert_same(model, result.loss, worst(loss_BM))
    torch.testing.assert_close(result.copies_BM, loss_BM.detach())


def test_a_maximum_over_the_wrong_axis_would_be_noticed() -> None:
    model = network()
    x, y = batch(model)
    moved = pgd(model, x, y, noises_of(x), epsilon=0.4, steps=3)
    result = objective("smoothadv", worst_of=B, **CHANGES)(model, x, y, STEP)
    table_BMK = logits_table(model, moved, fresh_noises(x, B))
    loss_BM = losses(table_BMK, y)
    torch.testing.assert_close(result.loss, worst(loss_BM))
    wrong_tables = [losses(change(table_BMK), y) for change in (regrouped, over_examples)]
    for wrong_BM in (*wrong_tables, regrouped(loss_BM), over_examples(loss_BM)):
        assert (result.loss - worst(wrong_BM)).abs().item() > 1e-3


def test_noise_of_the_wrong_example_would_be_noticed() -> None:
    model = network()
    x, y = batch(model)
    result = objective("smoothadv", **(CHANGES | {"m": B}))(model, x, y, STEP)
    noises = list(regrouped(torch.stack(noises_of(x, B), dim=1)).unbind(1))
    moved = pgd(model, x, y, noises, epsilon=0.4, steps=3)
    assert (result.loss - losses(logits_table(model, moved, noises), y).mean()).abs().item() > 1e-3


def test_fresh_copies_are_none_of_the_attack() -> None:
    x = torch.zeros(B, 1, 4, 4, dtype=torch.float64)
    assert all(not torch.equal(fresh, seen) for fresh in fresh_noises(x, 8) for seen in noises_of(x, 8))


@pytest.mark.parametrize(("epoch", "epsilon"), [(0, 0.0), (1, 0.0), (2, 0.1), (3, 0.2), (5, 0.4), (8, 0.4)])
def test_the_attack_sets_in_at_its_start_and_grows_within_the_warmup(epoch: int, epsilon: float) -> None:
    model = network()
    x, y = batch(model)
    noises = noises_of(x)
    moved = pgd(model, x, y, noises, epsilon=epsilon, steps=3) if epsilon else x
    result = objective("smoothadv", start=2, warmup=4, **CHANGES)(model, x, y, Step(STEP.seed, epoch))
    torch.testing.assert_close(result.loss, losses(logits_table(model, moved, noises), y).mean())


@pytest.mark.parametrize("worst_of", [1, 3])
def test_only_the_passes_of_the_loss_move_running_statistics(worst_of: int) -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3)).double().train()
    x, y = torch.rand(B, 1, 4, 4, dtype=torch.float64), torch.arange(B) % 3
    objective("smoothadv", worst_of=worst_of, **CHANGES)(model, x, y, STEP)
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.num_batches_tracked is not None
    assert norm.num_batches_tracked.item() == (4 if worst_of == 1 else 1)


def test_selection_and_loss_meet_the_same_dropout_masks() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(16, 3)).double().train()
    x, y = torch.rand(B, 1, 4, 4, dtype=torch.float64), torch.arange(B) % 3
    result = objective("smoothadv", worst_of=5, **CHANGES)(model, x, y, STEP)
    torch.testing.assert_close(result.loss.detach(), result.copies_BM.amax(1).mean())


@pytest.mark.parametrize("worst_of", [1, 3])
def test_consistency_of_the_attacked_copies_is_added(worst_of: int) -> None:
    model = network()
    x, y = batch(model)
    changes = {**CHANGES, "worst_of": worst_of}
    result = objective("smoothadv_consistency", lam=3.0, eta=0.7, **changes)(model, x, y, STEP)
    plain = objective("smoothadv", **changes)(model, x, y, STEP)
    moved = pgd(model, x, y, noises_of(x), epsilon=0.4, steps=3)
    fresh = fresh_noises(x, 4)
    first_B = losses(logits_table(model, moved, fresh[:3]), y).argmax(1).tolist()
    rows = []
    for b in range(B):
        noises = noises_of(x) if worst_of == 1 else [fresh[first_B[b]], fresh[3]]
        p_MK = [softmax(model((moved[b] + noise[b])[None])[0]) for noise in noises]
        mean_K = sum(p_MK, torch.zeros(())) / len(p_MK)
        entropy = -sum((p * p.log() for p in mean_K), torch.zeros(()))
        rows.append(3.0 * mean([divergence(mean_K, p_K) for p_K in p_MK]) + 0.7 * entropy)
    assert_same(model, result.loss, plain.loss + mean(rows))
    torch.testing.assert_close(result.copies_BM, plain.copies_BM)
    assert result.copies_BM.shape == (B, 4 if worst_of == 1 else 3)
