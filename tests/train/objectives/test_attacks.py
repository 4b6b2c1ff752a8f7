"""Attacks on the soft smoothed classifier: closed forms on linear models, twins, and no trace left behind."""

# Shapes: B examples, M copies of each, K classes.

import math
from collections.abc import Callable

import pytest
import torch
from tiny_training import SHAPE, B, K, M, ascent_direction, batch, network, noises_of
from tiny_training import log_mean_probability as log_mean_of_one
from torch import Tensor, nn

from maxup_smoothing.train.objectives.attacks import ascend, ddn, log_mean_probability, pgd, unit

Attack = Callable[[nn.Module, Tensor, Tensor, list[Tensor]], Tensor]
EPSILON = 0.3
ATTACKS: dict[str, Attack] = {
    "pgd": lambda model, x, y, noises: pgd(model, x, y, noises, epsilon=EPSILON, steps=4),
    "ddn": lambda model, x, y, noises: ddn(model, x, y, noises, epsilon=EPSILON, steps=4),
    "ascend": lambda model, x, y, noises: ascend(model, x, y, noises, step_size=0.2, steps=3)[1],
}
attacks = pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())


def linear(weight: Tensor, bias: float) -> nn.Module:
    """Two classes with logits w x + b and 0."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).double()
    layer = model[1]
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(torch.stack([weight, torch.zeros(16)]))
        layer.bias.copy_(torch.tensor([bias, 0.0]))
    return model


def weight() -> Tensor:
    return torch.randn(16, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def norms(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1)


def loss(model: nn.Module, x: Tensor, y: Tensor, noises: list[Tensor]) -> Tensor:
    rows = [-log_mean_of_one(model, x[b], [n[b] for n in noises])[int(y[b])] for b in range(len(x))]
    return torch.stack(rows).detach()


def pgd_twin(model: nn.Module, image: Tensor, label: Tensor, noises: list[Tensor], steps: int) -> Tensor:
    moved = image
    for _ in range(steps):
        moved = moved + 2 * EPSILON / steps * ascent_direction(model, moved, label, noises)
        moved = moved.clamp(0, 1)
        distance = float((moved - image).norm())
        if distance > EPSILON:
            moved = image + (moved - image) * EPSILON / distance
    return moved


def ddn_twin(model: nn.Module, image: Tensor, label: Tensor, noises: list[Tensor], epsilon: float) -> Tensor:
    change, best, norm, steps = torch.zeros_like(image), None, epsilon, 8
    for k in range(steps):
        if int(log_mean_of_one(model, image + change, noises).argmax()) != int(label):
            if best is None or change.norm() < best.norm():
                best = change
            norm = norm * 0.95
        else:
            norm = norm * 1.05
        length = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * k / steps))
        change = change + length * ascent_direction(model, image + change, label, noises)
        change = (image + norm * change / change.norm()).clamp(0, 1) - image
    found = change if best is None else best
    return image + found * min(1.0, epsilon / max(float(found.norm()), 1e-12))


def test_the_mean_probability_is_over_the_copies_of_each_image(seed: int) -> None:
    model = network(seed)
    x, _ = batch(model, seed)
    noises = noises_of(x, B)
    ours = log_mean_probability(model, x, noises)
    theirs = torch.stack([log_mean_of_one(model, x[b], [n[b] for n in noises]) for b in range(B)])
    torch.testing.assert_close(ours, theirs)
    p_BMK = torch.stack([model(x + n).softmax(1) for n in noises], dim=1)
    over_examples, regrouped = p_BMK.mean(0).log(), p_BMK.transpose(0, 1).reshape(B, B, K).mean(1).log()
    for wrong in (over_examples, regrouped):
        assert (ours - wrong).abs().max() > 1e-3


def test_pgd_takes_the_steps_of_its_twin(seed: int) -> None:
    model = network(seed)
    x, y = batch(model, seed)
    noises = noises_of(x)
    expected = [pgd_twin(model, x[b], y[b], [n[b] for n in noises], 4) for b in range(B)]
    torch.testing.assert_close(ATTACKS["pgd"](model, x, y, noises), torch.stack(expected))


@pytest.mark.parametrize("epsilon", [0.1, 1.0])
def test_ddn_takes_the_steps_of_its_twin(seed: int, epsilon: float) -> None:
    model = network(seed)
    x, y = batch(model, seed)
    noises = noises_of(x)
    expected = [ddn_twin(model, x[b], y[b], [n[b] for n in noises], epsilon) for b in range(B)]
    torch.testing.assert_close(ddn(model, x, y, noises, epsilon=epsilon, steps=8), torch.stack(expected))


def test_ascent_returns_the_first_and_the_last_image(seed: int) -> None:
    model = network(seed)
    x, y = batch(model, seed)
    noises = noises_of(x)
    first, last = ascend(model, x, y, noises, step_size=0.7, steps=3)
    for b in range(B):
        path = [x[b]]
        for _ in range(3):
            direction = ascent_direction(model, path[-1], y[b], [n[b] for n in noises])
            path.append((path[-1] + 0.7 * direction).clamp(0, 1))
        torch.testing.assert_close(first[b], path[1])
        torch.testing.assert_close(last[b], path[3])


@pytest.mark.parametrize("steps", [1, 4])
def test_pgd_on_a_linear_model_goes_straight_to_the_edge_of_the_ball(steps: int) -> None:
    """Every copy's gradient points along -w for class 0 and along w for class 1, whatever the noise."""
    w = weight()
    model, y = linear(w, 0.3), torch.tensor([0, 1])
    x = torch.full((2, *SHAPE), 0.5, dtype=torch.float64)
    away = torch.stack([-w, w]).reshape(x.shape) / w.norm()
    moved = pgd(model, x, y, noises_of(x), epsilon=0.2, steps=steps)
    torch.testing.assert_close(moved, x + 0.2 * away)


def test_ddn_on_a_linear_model_stops_just_beyond_the_boundary() -> None:
    """The norm shrinks by 5 % while the class is wrong, so the smallest wrong one is at most distance / 0.95."""
    w = weight()
    x = torch.full((1, *SHAPE), 0.5, dtype=torch.float64)
    distance = 0.1
    model = linear(w, float(distance * w.norm() - w.sum() / 2))
    moved = ddn(model, x, torch.tensor([0]), [torch.zeros_like(x)], epsilon=0.4, steps=60)
    length = float(norms(moved - x))
    assert distance < length <= distance / 0.95
    torch.testing.assert_close(moved, x - length * w.reshape(x.shape) / w.norm())


def test_ddn_that_never_succeeds_gives_the_longest_change() -> None:
    w = weight()
    x = torch.full((1, *SHAPE), 0.5, dtype=torch.float64)
    model = linear(w, float(0.5 * w.norm() - w.sum() / 2))
    moved = ddn(model, x, torch.tensor([0]), [torch.zeros_like(x)], epsilon=0.1, steps=5)
    torch.testing.assert_close(moved, x - 0.1 * w.reshape(x.shape) / w.norm())


def test_ddn_leaves_an_image_that_is_wrong_already() -> None:
    model = network()
    x, y = batch(model)
    assert torch.equal(ddn(model, x, y, noises_of(x), epsilon=EPSILON, steps=5)[3:], x[3:])


@attacks
def test_attacks_stay_in_the_cube_and_in_the_ball_and_raise_the_loss(attack: Attack, seed: int) -> None:
    model = network(seed)
    x, y = batch(model, seed)
    noises = noises_of(x)
    moved = attack(model, x, y, noises)
    assert not moved.requires_grad
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert bool((loss(model, moved, y, noises) >= loss(model, x, y, noises)).all())
    assert norms(moved - x).max() > 0.1
    if attack is not ATTACKS["ascend"]:
        assert norms(moved - x).max() <= EPSILON * (1 + 1e-12)


@attacks
def test_an_image_without_gradient_stays_where_it_is(attack: Attack) -> None:
    model = linear(torch.zeros(16, dtype=torch.float64), 1.0)
    x = torch.rand(2, *SHAPE, dtype=torch.float64)
    assert torch.equal(attack(model, x, torch.tensor([0, 1]), noises_of(x)), x)


def test_the_direction_of_a_tiny_gradient_is_kept() -> None:
    """Squares of 1e-30 are 0 in float32."""
    tiny = torch.tensor([[3e-30, 4e-30], [0.0, 0.0]])
    torch.testing.assert_close(unit(tiny), torch.tensor([[0.6, 0.8], [0.0, 0.0]]))


@attacks
def test_attacks_leave_flags_modes_buffers_and_the_global_generator_as_they_were(attack: Attack) -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Flatten(), nn.Dropout(0.5), nn.Linear(32, K)
    )
    model = model.double().train()
    model[1].eval()
    model[4].bias.requires_grad_(False)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    modes = [module.training for module in model.modules()]
    x, y = torch.rand(B, *SHAPE, dtype=torch.float64), torch.arange(B) % K
    buffers, random = [buffer.clone() for buffer in model.buffers()], torch.random.get_rng_state()
    first, second = (attack(model, x, y, noises_of(x)) for _ in range(2))
    assert torch.equal(first, second), "no dropout, and nothing drawn"
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(now, before) for now, before in zip(model.buffers(), buffers, strict=True))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.random.get_rng_state(), random)


@attacks
def test_an_attack_that_fails_leaves_the_model_as_it_was(attack: Attack) -> None:
    model = network().train()
    x, y = torch.rand(2, 3, 3, 3, dtype=torch.float64), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(RuntimeError):
        attack(model, x, y, [x])
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


@attacks
def test_images_keep_their_memory_format(attack: Attack) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, K))
    x = torch.rand(2, 3, 4, 4).to(memory_format=torch.channels_last)
    moved = attack(model, x, torch.tensor([0, 1]), [torch.zeros_like(x)])
    assert moved.is_contiguous(memory_format=torch.channels_last)


@attacks
def test_attacks_work_without_gradients_around_them(attack: Attack) -> None:
    model = network()
    x, y = batch(model)
    with torch.no_grad():
        inside = attack(model, x, y, noises_of(x, M))
    assert torch.equal(inside, attack(model, x, y, noises_of(x, M)))
