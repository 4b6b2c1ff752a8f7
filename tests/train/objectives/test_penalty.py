"""The gradient penalty: what the maximum over copies is when the loss is linear."""

import pytest
import torch
from tiny_training import (
    SHAPE,
    SIGMA,
    STEP,
    B,
    K,
    assert_same,
    batch,
    cross_entropy,
    gradients,
    network,
    objective,
)
from torch import nn

from maxup_smoothing.train.objectives.gradient_penalty import expected_maximum


@pytest.mark.parametrize(
    ("m", "value"),
    # Harter (1961), Expected values of normal order statistics; and 1 / sqrt(pi), 3 / (2 sqrt(pi)).
    [
        (1, 0.0),
        (2, 0.564189583548),
        (3, 0.846284375322),
        (4, 1.029375373004),
        (8, 1.423600306045),
        (16, 1.765991393055),
        (100, 2.507593636442),
    ],
)
def test_expected_maxima_of_normal_numbers(m: int, value: float) -> None:
    assert expected_maximum(m) == pytest.approx(value, abs=1e-10)


def test_gradient_penalty_equals_its_loop(seed: int) -> None:
    model = network(seed)
    x, y = batch(model, seed)
    total = torch.zeros((), dtype=torch.float64)
    for image, label in zip(x, y, strict=True):
        image = image.clone().requires_grad_(True)
        loss = cross_entropy(model(image[None])[0], label)
        (gradient,) = torch.autograd.grad(loss, image, create_graph=True)
        total = total + (loss + SIGMA * 1.029375373004 * sum(g * g for g in gradient.flatten()) ** 0.5) / B
    result = objective("gradient_penalty", m=4)(model, x, y, STEP)
    assert_same(model, result.loss, total)


def test_the_penalty_is_the_rate_at_which_the_loss_rises_along_its_gradient(seed: int) -> None:
    """By central differences: (L(x + h u) - L(x - h u)) / 2h for the unit vector u along the gradient."""
    model, h = network(seed), 1e-5
    x, y = batch(model, seed)
    x = x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(model(x), y, reduction="sum"), x)
    direction = gradient / gradient.flatten(1).norm(dim=1)[:, None, None, None]
    rise = [nn.functional.cross_entropy(model(x + sign * h * direction), y).item() for sign in (1, -1)]
    result = objective("gradient_penalty", m=2)(model, x.detach(), y, STEP)
    penalty = (result.loss - result.mean).item()
    assert penalty == pytest.approx(SIGMA * 0.564189583548 * (rise[0] - rise[1]) / (2 * h), rel=1e-6)


def test_a_vanishing_gradient_is_not_penalised() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, K)).double()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    x, y = torch.rand(B, *SHAPE, dtype=torch.float64), torch.arange(B) % K
    result = objective("gradient_penalty", m=4)(model, x, y, STEP)
    assert result.loss.item() == result.mean.item()
    assert all(bool(gradient.isfinite().all()) for gradient in gradients(model, result.loss))
