"""Every objective: twins of the short ones, and what all of them share."""

# Shapes: B examples, M copies of each, K classes.

from typing import Any

import pytest
import torch
from scipy import stats
from tiny_training import (
    SHAPE,
    SIGMA,
    STEP,
    B,
    K,
    assert_same,
    batch,
    cross_entropy,
    divergence,
    gradients,
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

from train.objectives import OBJECTIVES
from train.objectives.gradient_penalty import expected_maximum
from train.objectives.maxup import MaxUp
from train.objectives.worst import first_copy
from train.seeds import generator
from train.step import ACCEPT, Step, parts

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gaussian": ("gaussian", {}),
    "plain": ("plain", {}),
    "maxup": ("maxup", {"m": 4}),
    "maxup-eval": ("maxup", {"m": 4, "selection": "eval"}),
    "maxup-topk": ("maxup", {"m": 4, "reduction": "topk", "top_k": 2}),
    "mean_of_m": ("mean_of_m", {"m": 4}),
    "gradient_penalty": ("gradient_penalty", {"m": 4}),
    "stability": ("stability", {"lam": 2.0}),
    "stability-worst": ("stability", {"lam": 2.0, "worst_of": 3}),
    "consistency": ("consistency", {"m": 2, "lam": 10.0}),
    "consistency-worst": ("consistency", {"m": 2, "lam": 10.0, "worst_of": 3}),
    "consistency-graded": ("consistency", {"m": 2, "lam": 10.0, "worst_of": 3, "graded": True}),
    "consistency-edge": ("consistency", {"m": 2, "lam": 10.0, "worst_of": 3, "graded": True, "reach": 2.0}),
    "macer": ("macer", {"m": 4, "lam": 6.0, "beta": 2.0}),
    "smoothadv": ("smoothadv", {"m": 2, "steps": 2, "epsilon": 0.5}),
    "smoothadv-ddn": ("smoothadv", {"m": 2, "steps": 3, "epsilon": 0.5, "attack": "ddn"}),
    "smoothadv-consistency": ("smoothadv_consistency", {"m": 2, "steps": 2, "epsilon": 0.5, "lam": 3}),
    "smoothadv-consistency-worst": (
        "smoothadv_consistency",
        {"m": 2, "steps": 2, "epsilon": 0.5, "lam": 3, "worst_of": 3},
    ),
    "smoothadv-worst": ("smoothadv", {"m": 2, "steps": 2, "epsilon": 0.5, "worst_of": 3}),
    "smoothmix": ("smoothmix", {"m": 2, "lam": 5.0, "steps": 2}),
    "smoothmix-one_step": ("smoothmix", {"m": 2, "lam": 5.0, "steps": 2, "one_step": True}),
    "catrs": ("catrs", {"m": 2, "lam": 1.0, "steps": 2, "epsilon": 0.25}),
}
every_objective = pytest.mark.parametrize(("name", "changes"), CASES.values(), ids=CASES.keys())


def test_every_objective_is_among_the_cases() -> None:
    assert {name for name, _ in CASES.values()} == set(OBJECTIVES)


def losses(table_BMK: Tensor, y: Tensor) -> Tensor:
    rows = [[cross_entropy(logits_K, label) for logits_K in row] for row, label in zip(table_BMK, y, strict=True)]
    return torch.stack([torch.stack(row) for row in rows])


def entropy(p_K: Tensor) -> Tensor:
    return -sum((p * p.log() for p in p_K), torch.zeros(()))


def consistency_term(table_BMK: Tensor, lam: float, eta: float) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for logits_MK in table_BMK:
        p_MK = [softmax(logits_K) for logits_K in logits_MK]
        mean_K = torch.stack(p_MK).mean(0)
        total = total + lam * mean([divergence(mean_K, p_K) for p_K in p_MK]) + eta * entropy(mean_K)
    return total / len(table_BMK)


def worst_noise(model: nn.Module, x: Tensor, y: Tensor, count: int) -> Tensor:
    """Of each image, that of the first ``count`` noises at which its loss is largest."""
    noises = noises_of(x, count)
    loss_BM = losses(logits_table(model, x, noises), y).tolist()
    return torch.stack([noises[row.index(max(row))][b] for b, row in enumerate(loss_BM)])


def test_gaussian_is_the_loss_of_copy_0(seed: int) -> None:
    model = network(seed)
    x, y = batch(model, seed)
    expected = losses(logits_table(model, x, noises_of(x, 1)), y).mean()
    assert_same(model, objective("gaussian")(model, x, y, STEP).loss, expected)


def test_mean_of_m_is_the_mean_over_copies(seed: int) -> None:
    model = network(seed)
    x, y = batch(model, seed)
    loss_BM = losses(logits_table(model, x, noises_of(x)), y)
    result = objective("mean_of_m", m=4)(model, x, y, STEP)
    assert_same(model, result.loss, loss_BM.mean())
    torch.testing.assert_close(result.copies_BM, loss_BM.detach())
    wrong = losses(regrouped(logits_table(model, x, noises_of(x))), y).mean()
    assert (result.loss - wrong).abs().item() > 1e-3


def test_maxup_is_the_largest_over_copies(seed: int) -> None:
    model = network(seed)
    x, y = batch(model, seed)
    loss_BM = losses(logits_table(model, x, noises_of(x, B)), y)
    result = objective("maxup", m=B)(model, x, y, STEP)
    assert_same(model, result.loss, mean([max(row) for row in loss_BM]))
    for wrong_BM in (regrouped(loss_BM), over_examples(loss_BM)):
        assert (result.loss - wrong_BM.amax(1).mean()).abs().item() > 1e-3


def test_maxup_may_begin_with_fewer_copies() -> None:
    maxup, constant = objective("maxup", m=9, m_start=1, warmup=4), objective("maxup", m=9)
    assert isinstance(maxup, MaxUp)
    assert isinstance(constant, MaxUp)
    assert [maxup.copies(epoch) for epoch in range(7)] == [1, 3, 5, 7, 9, 9, 9]
    assert {constant.copies(epoch) for epoch in range(7)} == {9}
    model = network()
    x, y = batch(model)
    assert [maxup(model, x, y, Step(1, epoch)).copies_BM.shape[1] for epoch in (0, 1, 4)] == [1, 3, 9]


@pytest.mark.parametrize("worst_of", [1, 4])
def test_consistency_equals_its_loop(worst_of: int, seed: int) -> None:
    model, lam, eta = network(seed), 7.0, 0.5
    x, y = batch(model, seed)
    result = objective("consistency", m=3, lam=lam, eta=eta, worst_of=worst_of)(model, x, y, STEP)
    first, later = worst_noise(model, x, y, worst_of), noises_of(x, worst_of + 2)[worst_of:]
    table_BMK = logits_table(model, x, [first, *later])
    loss_BM = losses(table_BMK, y)
    plain = loss_BM.mean() if worst_of == 1 else loss_BM[:, 0].mean()
    assert_same(model, result.loss, plain + consistency_term(table_BMK, lam, eta))


def test_a_consistency_over_the_wrong_axis_would_be_noticed() -> None:
    model = network()
    x, y = batch(model)
    loss = objective("consistency", m=B, lam=7.0, eta=0.5)(model, x, y, STEP).loss
    table_BMK = logits_table(model, x, noises_of(x, B))
    plain = losses(table_BMK, y).mean()
    torch.testing.assert_close(loss, plain + consistency_term(table_BMK, 7.0, 0.5))
    for wrong in (regrouped(table_BMK), over_examples(table_BMK)):
        assert (loss - plain - consistency_term(wrong, 7.0, 0.5)).abs().item() > 1e-3


def test_consistency_of_sure_predictions_has_finite_gradients() -> None:
    model = network(confidence=60.0)
    x, y = batch(model)
    loss = objective("consistency", m=2, lam=10.0)(model.float(), x.float(), y, STEP).loss
    assert all(bool(gradient.isfinite().all()) for gradient in gradients(model, loss))


@pytest.mark.parametrize("worst_of", [1, 4])
def test_stability_equals_its_loop(worst_of: int, seed: int) -> None:
    model, lam = network(seed), 2.0
    x, y = batch(model, seed)
    result = objective("stability", lam=lam, worst_of=worst_of)(model, x, y, STEP)
    table_BMK = logits_table(model, x, [torch.zeros_like(x), worst_noise(model, x, y, worst_of)])
    total = losses(table_BMK[:, :1], y).mean()
    for clean_K, noisy_K in table_BMK:
        total = total - lam * sum((p * q.log() for p, q in zip(softmax(clean_K), softmax(noisy_K), strict=True))) / B
    assert_same(model, result.loss, total)


def test_a_stability_of_the_wrong_examples_worst_copy_would_be_noticed() -> None:
    model = network()
    x, y = batch(model)
    result = objective("stability", lam=2.0, worst_of=B)(model, x, y, STEP)
    noises = noises_of(x, B)
    loss_BM = losses(logits_table(model, x, noises), y).detach()
    for wrong_BM in (regrouped(loss_BM), over_examples(loss_BM)):
        noisy = x + torch.stack([noises[int(c)][b] for b, c in enumerate(wrong_BM.argmax(1))])
        stability = -(model(x).softmax(1) * model(noisy).log_softmax(1)).sum(1).mean()
        clean = losses(logits_table(model, x, [torch.zeros_like(x)]), y).mean()
        assert (result.loss - clean - 2 * stability).abs().item() > 1e-3


def test_the_first_copy_is_the_worst_of_its_candidates(seed: int) -> None:
    model = network(seed)
    x, y = batch(model, seed)
    first, copies_BM, _ = first_copy(objective("consistency", m=2, worst_of=5), model, x, y, STEP)
    torch.testing.assert_close(first, x + worst_noise(model, x, y, 5))
    assert copies_BM is not None
    torch.testing.assert_close(copies_BM, losses(logits_table(model, x, noises_of(x, 5)), y).detach())


def graded_noise(x: Tensor, loss_BM: Tensor, right_B: list[int], count: int) -> Tensor:
    """Of each image the noise with the k-th smallest loss, k the binomial quantile of its share of right copies."""
    noises, kept = noises_of(x, count), []
    u_B = torch.rand(B, generator=generator(torch.device("cpu"), STEP.seed, ACCEPT)).tolist()
    for b, (row, right, u) in enumerate(zip(loss_BM.tolist(), right_B, u_B, strict=True)):
        rank = max(1, int(stats.binom.ppf(u, count, right / count)))
        kept.append(noises[row.index(sorted(row)[rank - 1])][b])
    return torch.stack(kept)


def test_a_graded_copy_has_the_rank_that_the_share_of_right_copies_allows(seed: int) -> None:
    model = network(seed)
    x, y = batch(model, seed)
    table_BMK = logits_table(model, x, noises_of(x, 5))
    loss_BM, right = losses(table_BMK, y), (table_BMK.argmax(2) == y[:, None]).sum(1).tolist()
    asked = objective("consistency", m=2, worst_of=5, graded=True)
    first, copies_BM, _ = first_copy(asked, model, x, y, STEP)
    torch.testing.assert_close(first, x + graded_noise(x, loss_BM, right, 5))
    assert copies_BM is not None
    torch.testing.assert_close(copies_BM, loss_BM.detach())


def test_a_graded_copy_of_sure_images_is_the_worst_and_of_hopeless_ones_the_easiest() -> None:
    model = network(0)
    x, _ = batch(model, 0)
    table_BMK = logits_table(model, x, [torch.zeros_like(x)])
    asked = objective("consistency", m=2, worst_of=4, graded=True)
    for wanted, rank in ((table_BMK.argmax(2)[:, 0], -1), (table_BMK.argmin(2)[:, 0], 0)):
        # Labels that all copies are right about, or none, where the noise does not change the prediction.
        votes_BM = logits_table(model, x, noises_of(x, 4)).argmax(2) == wanted[:, None]
        settled = votes_BM.all(1) if rank == -1 else ~votes_BM.any(1)
        assert settled.any()
        loss_BM = losses(logits_table(model, x, noises_of(x, 4)), wanted)
        first, *_ = first_copy(asked, model, x, wanted, STEP)
        order = loss_BM.argsort(1)[:, rank].tolist()
        expected = torch.stack([(x + noises_of(x, 4)[copy])[b] for b, copy in enumerate(order)])
        torch.testing.assert_close(first[settled], expected[settled])


def test_a_graded_copy_of_the_wrong_axis_would_be_noticed() -> None:
    model = network(0)
    x, y = batch(model, 0)
    table_BMK = logits_table(model, x, noises_of(x, B))
    loss_BM, right = losses(table_BMK, y), (table_BMK.argmax(2) == y[:, None]).sum(1).tolist()
    first, *_ = first_copy(objective("consistency", m=2, worst_of=B, graded=True), model, x, y, STEP)
    torch.testing.assert_close(first, x + graded_noise(x, loss_BM, right, B))
    for wrong_BM in (regrouped(loss_BM), over_examples(loss_BM)):
        assert (first - x - graded_noise(x, wrong_BM, right, B)).abs().max() > 0.1


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


def test_strength_grows_from_the_start_within_the_warmup() -> None:
    grown = objective("stability", start=2, warmup=4)
    assert [grown.ramp(epoch) for epoch in range(8)] == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    assert [objective("stability", start=1).ramp(epoch) for epoch in range(3)] == [0, 1, 1]


@every_objective
@pytest.mark.parametrize("count", [2, 3])
def test_parts_of_a_batch_add_up_to_the_whole(name: str, changes: dict[str, Any], count: int, seed: int) -> None:
    model, train = network(seed), objective(name, **changes)
    x, y = batch(model, seed)
    whole = train(model, x, y, STEP)
    sliced = [
        (rows, train(model, x[rows.slice], y[rows.slice], Step(STEP.seed, rows=rows))) for rows in parts(B, count)
    ]
    assert_same(model, whole.loss, torch.stack([rows.share * part.loss for rows, part in sliced]).sum())
    torch.testing.assert_close(whole.copies_BM, torch.cat([part.copies_BM for _, part in sliced]))


@every_objective
def test_every_parameter_learns_under_autocast(name: str, changes: dict[str, Any]) -> None:
    model = network().float()
    x, y = batch(network())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = objective(name, **changes)(model, x.float(), y, STEP)
    assert bool(result.loss.isfinite())
    result.loss.backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert bool(parameter.grad.isfinite().all())
        assert bool(parameter.grad.abs().sum() > 0)


@every_objective
def test_the_same_step_gives_the_same_loss_and_draws_nothing_from_the_global_generator(
    name: str, changes: dict[str, Any]
) -> None:
    model, train = nn.Sequential(network(), nn.Dropout(0.2)).train(), objective(name, **changes)
    x, y = batch(network())
    state = torch.random.get_rng_state()
    first, second = (train(model, x, y, STEP).loss.item() for _ in range(2))
    assert first == second
    assert torch.equal(torch.random.get_rng_state(), state)


@every_objective
def test_one_wrong_label_is_one_images_matter(name: str, changes: dict[str, Any]) -> None:
    """Changing an image's class changes no other image's losses."""
    model, train = network(), objective(name, **changes)
    x, y = batch(model)
    changed = torch.where(torch.arange(B) == 1, (y + 1) % K, y)
    before, after = (train(model, x, label, STEP).copies_BM for label in (y, changed))
    same = torch.arange(B) != 1
    assert torch.equal(before[same], after[same])
    assert not torch.equal(before[1], after[1])


def test_probabilities_are_not_in_half_precision() -> None:
    """Autocast on a CPU computes softmax in bfloat16, where divergences of similar copies come out negative."""
    model = network().float()
    x, y = batch(network())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = STEP.forward(model, x.float())
        assert model(x.float()).dtype == torch.bfloat16
        assert logits.dtype == torch.float32
        result = objective("consistency", m=2, lam=1e3, eta=0.0, sigma=0.03)(model, x.float(), y, STEP)
    assert result.loss >= result.copies_BM.mean()


def test_the_number_of_copies_grows_in_whole_steps_without_rounding() -> None:
    for m_start, m, warmup in ((1, 23, 22), (1, 5, 4), (2, 9, 13)):
        maxup = objective("maxup", m=m, m_start=m_start, warmup=warmup)
        assert isinstance(maxup, MaxUp)
        for epoch in range(warmup + 3):
            assert maxup.copies(epoch) == m_start + min(m - m_start, (m - m_start) * epoch // warmup)
