"""What all objectives share: batches in parts, autocast, no global generator, one image's own loss."""

# Shapes: B examples, M copies of each, K classes.

from typing import Any

import pytest
import torch
from tiny_training import (
    STEP,
    B,
    K,
    assert_same,
    batch,
    network,
    objective,
)
from torch import nn

from maxup_smoothing.train.objectives import OBJECTIVES
from maxup_smoothing.train.step import Step, parts

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gaussian": ("gaussian", {}),
    "plain": ("plain", {}),
    "maxup": ("maxup", {"m": 4}),
    "maxup-eval": ("maxup", {"m": 4, "selection": "eval"}),
    "maxup-joint": ("maxup", {"m": 4, "selection": "joint"}),
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
