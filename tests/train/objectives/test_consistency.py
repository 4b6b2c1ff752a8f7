"""Consistency and stability: twins of the loss, and of the copy that is chosen by its loss."""

# Shapes: B examples, M copies of each, K classes.

import pytest
import torch
from scipy import stats
from tiny_training import (
    STEP,
    B,
    assert_same,
    batch,
    divergence,
    gradients,
    logits_table,
    losses,
    mean,
    network,
    noises_of,
    objective,
    over_examples,
    regrouped,
    softmax,
)
from torch import Tensor, nn

from maxup_smoothing.train.objectives.worst_copy import first_copy
from maxup_smoothing.train.seeds import generator
from maxup_smoothing.train.step import ACCEPT


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
