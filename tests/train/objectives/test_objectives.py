"""Twins of the objectives that reduce the losses of copies: the first, the mean, the largest."""

# Shapes: B examples, M copies of each, K classes.

import torch
from tiny_training import (
    STEP,
    B,
    assert_same,
    batch,
    logits_table,
    losses,
    mean,
    network,
    noises_of,
    objective,
    over_examples,
    regrouped,
)

from maxup_smoothing.train.objectives.maxup import MaxUp
from maxup_smoothing.train.step import Step


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


def test_the_number_of_copies_grows_in_whole_steps_without_rounding() -> None:
    for m_start, m, warmup in ((1, 23, 22), (1, 5, 4), (2, 9, 13)):
        maxup = objective("maxup", m=m, m_start=m_start, warmup=warmup)
        assert isinstance(maxup, MaxUp)
        for epoch in range(warmup + 3):
            assert maxup.copies(epoch) == m_start + min(m - m_start, (m - m_start) * epoch // warmup)
