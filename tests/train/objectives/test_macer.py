"""MACER against an explicit loop over images and copies."""

# Shapes: B examples, M copies of each, K classes.

import math

import pytest
import torch
from scipy.stats import norm
from tiny_training import (
    SIGMA,
    STEP,
    B,
    assert_same,
    batch,
    cross_entropy,
    logits_table,
    mean,
    network,
    noises_of,
    objective,
    over_examples,
    regrouped,
    softmax,
)
from torch import Tensor

from maxup_smoothing.train.objectives.macer import widened_gaps
from maxup_smoothing.train.step import Step

LAM, BETA, MARGIN = 3.0, 2.0, 2.0


def quantile(p: Tensor) -> Tensor:
    return math.sqrt(2) * torch.erfinv(2 * p - 1)


def hinges(table_BMK: Tensor, y: Tensor) -> list[Tensor | None]:
    """Of each image; None where it is wrong or wide enough."""
    found: list[Tensor | None] = []
    for logits_MK, label in zip(table_BMK, y, strict=True):
        q_K = torch.stack([softmax(BETA * logits_K) for logits_K in logits_MK]).mean(0)
        order = sorted(range(len(q_K)), key=lambda k: -q_K[k].item())
        gap = quantile(q_K[order[0]]) - quantile(q_K[order[1]])
        found.append(MARGIN - gap if order[0] == int(label) and gap <= MARGIN else None)
    return found


def twin(table_BMK: Tensor, y: Tensor) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for logits_MK, label, hinge in zip(table_BMK, y, hinges(table_BMK, y), strict=True):
        total = total - torch.stack([softmax(logits_K) for logits_K in logits_MK]).mean(0)[int(label)].log()
        if hinge is not None:
            total = total + LAM * SIGMA / 2 * hinge
    return total / len(y)


def test_loss_and_gradient_equal_those_of_the_loop(seed: int) -> None:
    model = network(seed)
    x, y = batch(model, seed)
    result = objective("macer", m=4, lam=LAM, beta=BETA, margin=MARGIN)(model, x, y, STEP)
    table_BMK = logits_table(model, x, noises_of(x))
    assert_same(model, result.loss, twin(table_BMK, y))
    losses = [[cross_entropy(logits_K, label) for logits_K in row] for row, label in zip(table_BMK, y, strict=True)]
    torch.testing.assert_close(result.copies_BM, torch.stack([torch.stack(row) for row in losses]).detach())


def test_the_loop_meets_images_of_every_kind() -> None:
    model = network()
    x, y = batch(model)
    table_BMK = logits_table(model, x, noises_of(x))
    counted = [hinge is not None for hinge in hinges(table_BMK, y)]
    assert any(counted)
    assert not all(counted)


def test_a_mean_over_the_wrong_axis_would_be_noticed() -> None:
    model = network()
    x, y = batch(model)
    loss = objective("macer", m=B, lam=LAM, beta=BETA, margin=MARGIN)(model, x, y, STEP).loss
    table_BMK = logits_table(model, x, noises_of(x, B))
    torch.testing.assert_close(loss, twin(table_BMK, y))
    for wrong in (regrouped(table_BMK), over_examples(table_BMK)):
        assert (loss - twin(wrong, y)).abs().item() > 1e-3


def test_gaps_are_those_of_normal_quantiles() -> None:
    """One copy with probabilities 0.7, 0.2, 0.1 (beta = 1): gap 1.366 by scipy.stats.norm.ppf."""
    p = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)
    gap = norm.ppf(0.7) - norm.ppf(0.2)
    y = torch.tensor([0])
    assert widened_gaps(p.log()[:, None], y, 1.0, 8.0).tolist() == pytest.approx([gap], abs=1e-12)
    assert len(widened_gaps(p.log()[:, None], y, 1.0, gap - 1e-9)) == 0, "wide enough"
    assert len(widened_gaps(p.log()[:, None], y + 1, 1.0, 8.0)) == 0, "wrong"


@pytest.mark.parametrize("logit", [10.0, 37.0, 50.0, 740.0, 1e4])
@pytest.mark.parametrize("margin", [8.0, 1e6])
def test_saturated_predictions_give_no_infinite_gradient(logit: float, margin: float) -> None:
    """From probabilities that float64 resolves, over those that round to 1 or are subnormal, to exact 0 and 1."""
    logits_BMK = torch.tensor([[[logit, 0.0, -1.0]], [[0.1, 0.0, 0.0]]], dtype=torch.float64, requires_grad=True)
    gap_R = widened_gaps(logits_BMK, torch.tensor([0, 0]), 1.0, margin)
    assert bool(gap_R.isfinite().all())
    (gradient,) = torch.autograd.grad(gap_R.sum(), logits_BMK)
    assert bool(gradient.isfinite().all())
    assert gradient[1].abs().sum() > 0


def test_before_its_start_only_the_cross_entropy_of_the_mean_is_left() -> None:
    model = network()
    x, y = batch(model)
    macer = objective("macer", m=4, lam=LAM, start=2, warmup=2, beta=BETA, margin=MARGIN)
    p_BMK = logits_table(model, x, noises_of(x)).softmax(2)
    plain = mean([-p_MK.mean(0)[int(label)].log() for p_MK, label in zip(p_BMK, y, strict=True)])
    loss = [macer(model, x, y, Step(STEP.seed, epoch)).loss for epoch in range(5)]
    torch.testing.assert_close(torch.stack(loss[:2]), torch.stack([plain, plain]))
    torch.testing.assert_close(loss[2] - plain, (loss[3] - plain) / 2)
    assert loss[4] == loss[3] > loss[2]
