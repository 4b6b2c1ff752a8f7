"""Rows of a batch: cut in parts, they meet the randomness that they meet in the whole."""

# Shapes: B images of C x H x W.

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from maxup_smoothing.train.perturbations import Compose, GaussianNoise, RandomCrop, RandomFlip
from maxup_smoothing.train.seeds import generator
from maxup_smoothing.train.step import MIX, Rows, Step, parts, same_randomness, without_trace


@given(total=st.integers(1, 300), count=st.integers(1, 40))
def test_parts_are_the_batch(total: int, count: int) -> None:
    pieces = parts(total, count)
    assert len(pieces) == count
    assert [row for rows in pieces for row in range(rows.first, rows.stop)] == list(range(total))
    sizes = [rows.stop - rows.first for rows in pieces]
    assert max(sizes) - min(sizes) <= 1
    assert sum(rows.share for rows in pieces) == pytest.approx(1)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("perturb", [GaussianNoise(0.5), Compose([RandomCrop(1), RandomFlip()])])
def test_rows_are_perturbed_as_in_the_whole_batch(
    perturb: GaussianNoise | Compose, layout: torch.memory_format
) -> None:
    x, y = torch.rand(7, 3, 8, 8).contiguous(memory_format=layout), torch.arange(7)
    whole, labels = perturb(x, y, generator(x.device, 1))
    for rows in parts(7, 3):
        here = Step(1, rows=rows).of_rows(perturb)
        part, part_labels = here(x[rows.slice], y[rows.slice], generator(x.device, 1))
        assert torch.equal(part, whole[rows.slice])
        assert torch.equal(part_labels, labels[rows.slice])


def test_draws_depend_on_seed_and_purpose_and_not_on_the_rows() -> None:
    x = torch.rand(6, 1, 4, 4)
    step, rows = Step(3), Rows(2, 5, 6)
    part = Step(3, rows=rows)
    assert torch.equal(step.noisy(x, 0.5, 1)[rows.slice], part.noisy(x[rows.slice], 0.5, 1))
    assert torch.equal(step.uniform(x, MIX)[rows.slice], part.uniform(x[rows.slice], MIX))
    assert torch.equal(step.noisy(x, 0.5, 1), step.noisy(x, 0.5, 1))
    others = [Step(4).noisy(x, 0.5, 1), step.noisy(x, 0.5, 2)]
    assert not any(torch.equal(step.noisy(x, 0.5, 1), other) for other in others)


def test_forward_repeats_its_dropout_masks_and_leaves_the_global_generator() -> None:
    model, x, state = nn.Dropout(0.5), torch.ones(4, 9), torch.random.get_rng_state()
    first: Tensor = Step(3).forward(model, x)
    assert torch.equal(first, Step(3).forward(model, x))
    assert not torch.equal(first, Step(4).forward(model, x))
    assert torch.equal(torch.random.get_rng_state(), state)
    with same_randomness(x.device, 5):
        assert torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(5)))


def test_passes_without_trace_leave_modes_and_buffers_even_after_an_error() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout()).train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def fail() -> None:
        with without_trace(model, "train"):
            model(torch.rand(5, 3))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with without_trace(model, "eval"):
        assert not model[0].training
    assert [module.training for module in model] == [True, False]
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
