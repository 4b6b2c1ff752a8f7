"""A tiny network, a few tiny images, and the noisy copies of them that the objectives say they draw."""

# Shapes: B examples, M copies of each, K classes, C H W image.

from typing import Any

import torch
from torch import Tensor, nn

from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.objectives import build
from maxup_smoothing.train.objectives.objective import Objective
from maxup_smoothing.train.seeds import generator
from maxup_smoothing.train.step import Step

B, K, M, SIGMA = 5, 3, 4, 0.5
SHAPE = (1, 4, 4)
STEP = Step(seed=11)


def network(seed: int = 0, confidence: float = 2.0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 7), nn.Tanh(), nn.Linear(7, K)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(confidence)
    return model


def batch(model: nn.Module, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images in [0, 1] and classes: what the model predicts under noise for the first three, another one then."""
    x = torch.rand(B, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    predicted = logits_table(model, x, noises_of(x)).softmax(2).mean(1).argmax(1)
    return x, torch.where(torch.arange(B) < 3, predicted, (predicted + 1) % K)


def objective(name: str, **changes: Any) -> Objective:
    plain: dict[str, Any] = {"dataset": "d", "arch": "small", "sigma": SIGMA, "epochs": 9, "batch_size": B, "lr": 0.1}
    return build(TrainConfig(**{**plain, **changes}, objective=name))


def noise(x: Tensor, copy: int, seed: int = STEP.seed, sigma: float = SIGMA) -> Tensor:
    """Noise of copy number ``copy``, one generator a copy."""
    return sigma * torch.randn(x.shape, generator=generator(x.device, seed, copy), dtype=x.dtype)


def noises_of(x: Tensor, m: int = M, seed: int = STEP.seed) -> list[Tensor]:
    return [noise(x, copy, seed) for copy in range(m)]


def logits_table(model: nn.Module, x: Tensor, noises: list[Tensor]) -> Tensor:
    """(B, M, K): example by example, copy by copy."""
    rows = [[model((x[b] + noise[b])[None])[0] for noise in noises] for b in range(len(x))]
    return torch.stack([torch.stack(row) for row in rows])


def softmax(logits_K: Tensor) -> Tensor:
    return logits_K.exp() / logits_K.exp().sum()


def cross_entropy(logits_K: Tensor, label: Tensor) -> Tensor:
    return -softmax(logits_K)[int(label)].log()


def divergence(target_K: Tensor, p_K: Tensor) -> Tensor:
    return sum((t * (t / p).log() for t, p in zip(target_K, p_K, strict=True)), torch.zeros(()))


def mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()


def regrouped(table: Tensor) -> Tensor:
    """Copy-major rows read as example-major ones."""
    return table.transpose(0, 1).reshape(table.shape)


def over_examples(table: Tensor) -> Tensor:
    """Examples in place of copies, for as many copies as examples."""
    assert table.shape[0] == table.shape[1]
    return table.transpose(0, 1)


def gradients(model: nn.Module, loss: Tensor) -> list[Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def assert_same(model: nn.Module, loss: Tensor, expected: Tensor) -> None:
    """Equal losses, and equal gradients of all parameters."""
    torch.testing.assert_close(loss, expected)
    for ours, theirs in zip(gradients(model, loss), gradients(model, expected), strict=True):
        torch.testing.assert_close(ours, theirs)


def log_mean_probability(model: nn.Module, image: Tensor, noises: list[Tensor]) -> Tensor:
    """(K,): of one image, (C, H, W), with its own noises."""
    return torch.stack([softmax(model((image + noise)[None])[0]) for noise in noises]).mean(0).log()


def ascent_direction(model: nn.Module, image: Tensor, label: Tensor, noises: list[Tensor]) -> Tensor:
    """Normalised gradient of -log mean probability of the class at one image."""
    image = image.detach().requires_grad_(True)
    loss = -log_mean_probability(model, image, noises)[int(label)]
    (gradient,) = torch.autograd.grad(loss, image)
    return gradient / gradient.norm()


def losses(table_BMK: Tensor, y: Tensor) -> Tensor:
    rows = [[cross_entropy(logits_K, label) for logits_K in row] for row, label in zip(table_BMK, y, strict=True)]
    return torch.stack([torch.stack(row) for row in rows])
