"""SmoothMix against an explicit loop over images and copies."""

# Shapes: B examples, M copies of each, K classes.

import pytest
import torch
from tiny_training import (
    STEP,
    B,
    K,
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

from maxup_smoothing.train.objectives.attacks import ascend
from maxup_smoothing.train.seeds import generator
from maxup_smoothing.train.step import MIX, Step

LAM, STEP_SIZE = 2.0, 0.6
CHANGES = {"lam": LAM, "steps": 3, "step_size": STEP_SIZE}


def weights() -> Tensor:
    """One number in [0, 1/2) an image."""
    return torch.rand(B, generator=generator(torch.device("cpu"), STEP.seed, MIX)).double() / 2


def natural(table_BMK: Tensor, y: Tensor) -> Tensor:
    return mean([cross_entropy(logits_K, label) for row, label in zip(table_BMK, y, strict=True) for logits_K in row])


def mixed(table_BMK: Tensor, mixed_BMK: Tensor, y: Tensor) -> Tensor:
    """The second term without its weight."""
    total = torch.zeros((), dtype=torch.float64)
    for b, w in enumerate(weights()):
        p_K = torch.stack([softmax(logits_K) for logits_K in table_BMK[b]]).mean(0)
        if int(p_K.argmax()) == int(y[b]):
            target_K = (1 - w) * p_K + w / K
            total = total + mean([divergence(target_K, softmax(logits_K)) for logits_K in mixed_BMK[b]])
    return total / B


def tables(model: nn.Module, x: Tensor, y: Tensor, m: int, one_step: bool, ramp: float = 1.0) -> tuple[Tensor, Tensor]:
    """Logits of the clean and of the mixed copies; the attack has a twin of its own, and here each image is alone."""
    noises = noises_of(x, m)
    clean, between = [], []
    for b, w in enumerate(weights()):
        own = [noise[[b]] for noise in noises]
        first, far = ascend(model, x[[b]], y[[b]], own, step_size=STEP_SIZE, steps=3)
        near = x[[b]]
        if one_step:
            near = near + (first - near) * min(1.0, STEP_SIZE * ramp / (first - near).norm().item())
        clean.append(near)
        between.append((1 - w) * near + w * far)
    return logits_table(model, torch.cat(clean), noises), logits_table(model, torch.cat(between), noises)


@pytest.mark.parametrize("one_step", [False, True])
def test_loss_and_gradient_equal_those_of_the_loop(one_step: bool, seed: int) -> None:
    model = network(seed)
    x, y = batch(model, seed)
    result = objective("smoothmix", m=4, one_step=one_step, **CHANGES)(model, x, y, STEP)
    table_BMK, mixed_BMK = tables(model, x, y, 4, one_step)
    assert_same(model, result.loss, natural(table_BMK, y) + LAM * mixed(table_BMK, mixed_BMK, y))
    losses = [cross_entropy(logits_K, label) for row, label in zip(table_BMK, y, strict=True) for logits_K in row]
    torch.testing.assert_close(result.copies_BM, torch.stack(losses).reshape(B, 4).detach())


def test_the_loop_meets_right_and_wrong_images() -> None:
    model = network()
    x, y = batch(model)
    right_B = logits_table(model, x, noises_of(x)).softmax(2).mean(1).argmax(1) == y
    assert right_B.tolist() == [True] * 3 + [False] * 2


def test_a_mean_over_the_wrong_axis_would_be_noticed() -> None:
    model = network()
    x, y = batch(model)
    loss = objective("smoothmix", m=B, **CHANGES)(model, x, y, STEP).loss
    table_BMK, mixed_BMK = tables(model, x, y, B, False)
    plain = natural(table_BMK, y)
    torch.testing.assert_close(loss, plain + LAM * mixed(table_BMK, mixed_BMK, y))
    for change in (regrouped, over_examples):
        for wrong in (mixed(change(table_BMK), mixed_BMK, y), mixed(table_BMK, change(mixed_BMK), y)):
            assert (loss - plain - LAM * wrong).abs().item() > 1e-3


def test_the_target_carries_gradient() -> None:
    """With the target as a constant the gradient would be another."""
    model = network()
    x, y = batch(model)
    loss = objective("smoothmix", m=4, **CHANGES)(model, x, y, STEP).loss
    table_BMK, mixed_BMK = tables(model, x, y, 4, False)
    constant = natural(table_BMK, y) + LAM * mixed(table_BMK.detach(), mixed_BMK, y)
    with pytest.raises(AssertionError, match="Tensor-likes are not close"):
        assert_same(model, loss, constant)


@pytest.mark.parametrize("one_step", [False, True])
def test_strength_and_distance_of_the_first_step_grow_within_the_warmup(one_step: bool) -> None:
    model = network()
    x, y = batch(model)
    smoothmix = objective("smoothmix", m=4, one_step=one_step, start=2, warmup=4, **CHANGES)
    before = smoothmix(model, x, y, Step(STEP.seed, 1)).loss
    torch.testing.assert_close(before, natural(logits_table(model, x, noises_of(x)), y))
    for epoch, ramp in ((2, 0.25), (3, 0.5), (5, 1.0), (8, 1.0)):
        table_BMK, mixed_BMK = tables(model, x, y, 4, one_step, ramp)
        expected = natural(table_BMK, y) + LAM * ramp * mixed(table_BMK, mixed_BMK, y)
        torch.testing.assert_close(smoothmix(model, x, y, Step(STEP.seed, epoch)).loss, expected)
