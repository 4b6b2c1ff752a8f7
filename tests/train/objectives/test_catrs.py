"""CAT-RS against an explicit loop; the number of copies against SciPy's binomial; the teacher's table."""

# Shapes: B examples, M copies of each, K classes.

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from tiny_training import (
    STEP,
    B,
    K,
    assert_same,
    batch,
    cross_entropy,
    divergence,
    logits_table,
    network,
    noises_of,
    objective,
    over_examples,
    regrouped,
    softmax,
)
from torch import Tensor, nn

from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.checkpoint import Architecture
from maxup_smoothing.train.distributed import World
from maxup_smoothing.train.objectives import teacher
from maxup_smoothing.train.objectives.catrs import CatRs, accepted_copies, worst_noises
from maxup_smoothing.train.objectives.teacher import TEACHER, smoothed_predictions
from maxup_smoothing.train.seeds import generator
from maxup_smoothing.train.step import ACCEPT, Step

LAM, EPSILON, STEPS = 1.5, 0.4, 3
CHANGES = {"lam": LAM, "epsilon": EPSILON, "steps": STEPS}


def uniforms() -> Tensor:
    return torch.rand(B, generator=generator(torch.device("cpu"), STEP.seed, ACCEPT))


def accepted(table_BMK: Tensor, y: Tensor) -> list[int]:
    m = table_BMK.shape[1]
    right = [(row.argmax(1) == label).sum().item() for row, label in zip(table_BMK, y, strict=True)]
    return [max(1, int(stats.binom.ppf(u, m, j / m))) for u, j in zip(uniforms().tolist(), right, strict=True)]


def own_targets(table_BMK: Tensor) -> Tensor:
    return torch.stack([torch.stack([softmax(logits_K) for logits_K in row]).mean(0) for row in table_BMK]).detach()


def worst_noise(model: nn.Module, image: Tensor, target_K: Tensor, start: Tensor) -> Tensor:
    """The attack on one copy of one image."""
    current = start
    for _ in range(STEPS):
        current = current.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(divergence(target_K, softmax(model((image + current)[None])[0])), current)
        change = current.detach() + 2 * EPSILON / STEPS * gradient / gradient.norm() - start
        change = change * min(1.0, EPSILON / change.norm().item())
        current = start + change
        current = (current - current.mean()) / current.std() * start.std() + start.mean()
    return current


def worst_table(model: nn.Module, x: Tensor, target_BK: Tensor, noises: list[Tensor]) -> Tensor:
    found = [torch.stack([worst_noise(model, x[b], target_BK[b], n[b]) for b in range(B)]) for n in noises]
    return logits_table(model, x, found)


def twin(table_BMK: Tensor, worst_BMK: Tensor, y: Tensor, target_BK: Tensor, counts: list[int]) -> Tensor:
    m = table_BMK.shape[1]
    total = torch.zeros((), dtype=torch.float64)
    for b, count in enumerate(counts):
        losses = sorted((cross_entropy(logits_K, y[b]) for logits_K in table_BMK[b]), key=Tensor.item)
        total = total + sum(losses[:count], torch.zeros(())) / m
        if count == m:
            total = total + LAM * max(divergence(target_BK[b], softmax(logits_K)) for logits_K in worst_BMK[b])
    return total / B


@pytest.mark.parametrize("m", [2, 3])
def test_loss_and_gradient_equal_those_of_the_loop(m: int, seed: int) -> None:
    model = network(seed)
    x, y = batch(model, seed)
    result = objective("catrs", m=m, **CHANGES)(model, x, y, STEP)
    noises = noises_of(x, m)
    table_BMK = logits_table(model, x, noises)
    target_BK = own_targets(table_BMK)
    worst_BMK = worst_table(model, x, target_BK, noises)
    assert_same(model, result.loss, twin(table_BMK, worst_BMK, y, target_BK, accepted(table_BMK, y)))
    losses = [cross_entropy(logits_K, label) for row, label in zip(table_BMK, y, strict=True) for logits_K in row]
    torch.testing.assert_close(result.copies_BM, torch.stack(losses).reshape(B, m).detach())


def test_the_loop_meets_images_of_every_kind() -> None:
    model = network()
    x, y = batch(model)
    counts = accepted(logits_table(model, x, noises_of(x, 3)), y)
    assert 3 in counts
    assert min(counts) < 3


def test_wrong_axes_would_be_noticed() -> None:
    model = network()
    x, y = batch(model)
    loss = objective("catrs", m=B, **CHANGES)(model, x, y, STEP).loss
    noises = noises_of(x, B)
    table_BMK = logits_table(model, x, noises)
    target_BK = own_targets(table_BMK)
    worst_BMK = worst_table(model, x, target_BK, noises)
    counts = accepted(table_BMK, y)
    torch.testing.assert_close(loss, twin(table_BMK, worst_BMK, y, target_BK, counts))
    for change in (regrouped, over_examples):
        for wrong in (
            twin(change(table_BMK), worst_BMK, y, target_BK, counts),
            twin(table_BMK, change(worst_BMK), y, target_BK, counts),
            twin(table_BMK, worst_BMK, y, target_BK, accepted(change(table_BMK), y)),
            twin(table_BMK, worst_BMK, y, own_targets(change(table_BMK)), counts),
        ):
            assert (loss - wrong).abs().item() > 1e-4


@pytest.mark.parametrize("m", [1, 2, 4, 8])
def test_accepted_copies_are_quantiles_of_the_binomial(m: int) -> None:
    u = torch.linspace(0, 1, 1001, dtype=torch.float64)[1:-1]
    for right in range(m + 1):
        # ppf is the smallest k with cdf(k) >= u, ours with cdf(k) > u: they differ only where u is a value of the cdf.
        cdf = stats.binom.cdf(np.arange(m + 1), m, right / m)
        between = u[np.abs(u.numpy()[:, None] - cdf).min(1) > 1e-9]
        expected = np.maximum(1, stats.binom.ppf(between.numpy(), m, right / m))
        ours = accepted_copies(torch.full((len(between),), right), m, between)
        assert ours.tolist() == expected.tolist()


def test_sure_images_keep_all_copies_and_hopeless_ones_a_single_copy() -> None:
    u = torch.tensor([0.0, 0.5, 1 - 2**-24])
    assert accepted_copies(torch.tensor([4, 4, 4]), 4, u).tolist() == [4, 4, 4]
    assert accepted_copies(torch.tensor([0, 0, 0]), 4, u).tolist() == [1, 1, 1]


def test_worst_noises_keep_mean_and_size_and_stay_near_and_raise_the_divergence(seed: int) -> None:
    model = network(seed)
    x, _ = batch(model, seed)
    starts = noises_of(x)
    target_BK = own_targets(logits_table(model, x, starts))
    for start, found in zip(starts, worst_noises(model, x, target_BK, starts, epsilon=0.2, steps=4), strict=True):
        dims = (1, 2, 3)
        torch.testing.assert_close(found.mean(dims), start.mean(dims))
        torch.testing.assert_close(found.square().mean(dims), start.square().mean(dims))
        angle_B = (0.2 / (start - start.mean(dims, keepdim=True)).flatten(1).norm(dim=1)).asin()
        distance_B = (found - start).flatten(1).norm(dim=1)
        assert bool((distance_B <= 0.2 / (angle_B / 2).cos() + 1e-12).all())
        assert bool((distance_B > 0.1).all())
        before_B, after_B = (
            torch.stack([divergence(t, softmax(z)) for t, z in zip(target_BK, model(x + n), strict=True)])
            for n in (start, found)
        )
        assert bool((after_B > before_B).all())


def test_without_noise_worst_noise_is_none() -> None:
    model = network()
    x, y = batch(model)
    result = objective("catrs", m=2, **(CHANGES | {"epsilon": 0.4}), sigma=0.0)(model, x, y, STEP)
    assert bool(result.loss.isfinite())


def test_before_its_start_the_worst_noise_has_no_part() -> None:
    model = network()
    x, y = batch(model)
    catrs = objective("catrs", m=3, start=2, warmup=2, **CHANGES)
    loss = [catrs(model, x, y, Step(STEP.seed, epoch)).loss for epoch in range(5)]
    table_BMK = logits_table(model, x, noises_of(x, 3))
    zero = own_targets(table_BMK)
    plain = twin(table_BMK, torch.zeros_like(table_BMK) + zero.log()[:, None], y, zero, accepted(table_BMK, y))
    torch.testing.assert_close(torch.stack(loss[:2]), torch.stack([plain, plain]))
    torch.testing.assert_close(loss[2] - plain, (loss[3] - plain) / 2)
    assert loss[4].item() == loss[3].item() > loss[2].item()


def save(
    path: Path, sigma: float | None = 0.25, shape: tuple[int, int, int] = (1, 8, 8), classes: int = K
) -> nn.Module:
    architecture = Architecture(arch="small", image_shape=shape, num_classes=classes, options={})
    model = architecture.build().eval()
    with torch.no_grad():  # larger weights, and none alike: fresh ones predict one class for all images
        for parameter in model.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
    config: dict[str, Any] = {} if sigma is None else {"sigma": sigma}
    checkpoint.save(path, model, architecture, {"config": config})
    return model


def photographs(count: int = 7) -> Tensor:
    return torch.randint(256, (count, 1, 8, 8), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize("batch_size", [3, 512])
def test_the_teacher_votes_under_its_own_noise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    monkeypatch.setattr(teacher, "BATCH", batch_size)
    path, images = tmp_path / "checkpoint.safetensors", photographs()
    model = save(path)
    table_NK = smoothed_predictions(str(path), images, n=20, seed=4, world=World())
    votes_NK = torch.zeros(7, K)
    for number, first in enumerate(range(0, 7, batch_size)):
        draw = generator(images.device, 4, TEACHER, number)
        part = images[first : first + batch_size].float() / 255
        for _ in range(20):
            noisy = part + 0.25 * torch.randn(part.shape, generator=draw)
            for row, predicted in enumerate(model(noisy).argmax(1).tolist()):
                votes_NK[first + row, predicted] += 1
    torch.testing.assert_close(table_NK, votes_NK / 20)
    # Votes are divided in images of the first and of the last batch of 3, so that their noise matters.
    assert bool(((table_NK > 0) & (table_NK < 1)).any(1)[[0, 6]].all())
    assert table_NK.dtype == torch.float32
    assert torch.equal(smoothed_predictions(str(tmp_path), images, n=20, seed=4, world=World()), table_NK), (
        "a run folder"
    )


def test_targets_are_those_of_the_batch_images(tmp_path: Path) -> None:
    save(tmp_path / "checkpoint.safetensors")
    catrs = objective("catrs", m=2, teacher=str(tmp_path), teacher_n=5, seed=3, **CHANGES)
    assert isinstance(catrs, CatRs)
    catrs.prepare(photographs(), World())
    assert catrs.table_NK is not None
    torch.testing.assert_close(
        catrs.table_NK, smoothed_predictions(str(tmp_path), photographs(), n=5, seed=3, world=World())
    )

    # Other, graded targets, so that each image has its own and none is 0.
    catrs.table_NK = torch.rand(7, K, generator=torch.Generator().manual_seed(0)).softmax(1)
    index_B = torch.tensor([6, 0, 2, 5, 1])
    model = network()
    x, y = batch(model)
    noises = noises_of(x, 2)
    table_BMK = logits_table(model, x, noises)
    target_BK = catrs.table_NK[index_B].double()
    worst_BMK = worst_table(model, x, target_BK, noises)
    expected = twin(table_BMK, worst_BMK, y, target_BK, accepted(table_BMK, y))
    assert_same(model, catrs(model, x, y, Step(STEP.seed, index_B=index_B)).loss, expected)


def test_targets_of_zero_are_no_trouble() -> None:
    """Few votes leave classes without any, and 0 log 0 is 0."""
    catrs = objective("catrs", m=2, **CHANGES)
    assert isinstance(catrs, CatRs)
    catrs.table_NK = torch.eye(K)
    model = network()
    x, _ = batch(model)
    loss = catrs(model, x, model(x).argmax(1), Step(STEP.seed, index_B=torch.arange(B) % K)).loss
    assert all(bool(gradient.isfinite().all()) for gradient in torch.autograd.grad(loss, list(model.parameters())))


def test_teachers_that_cannot_teach_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    for sigma in (None, 0.0):
        save(path, sigma)
        with pytest.raises(ValueError, match=r"trained with sigma=.*give one trained with noise"):
            smoothed_predictions(str(path), photographs(), n=2, seed=0, world=World())
    save(path, shape=(3, 8, 8))
    with pytest.raises(ValueError, match=r"shape \(3, 8, 8\), this dataset has \(1, 8, 8\); give a teacher trained on"):
        smoothed_predictions(str(path), photographs(), n=2, seed=0, world=World())
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        smoothed_predictions(str(tmp_path / "absent"), photographs(), n=2, seed=0, world=World())


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "checkpoint.safetensors", classes=K + 1)
    catrs = objective("catrs", m=2, teacher=str(tmp_path), teacher_n=2, **CHANGES)
    catrs.prepare(photographs(), World())
    model = network()
    x, y = batch(model)
    with pytest.raises(ValueError, match=r"knows 4 classes, this dataset has 3; give a teacher"):
        catrs(model, x, y, Step(STEP.seed, index_B=torch.arange(B)))


def test_a_single_copy_without_a_teacher_is_refused() -> None:
    with pytest.raises(ValueError, match="'catrs' with m = 1 needs a teacher"):
        objective("catrs", m=1)
