"""Cutout, CutMix, mixup and RandAugment: each against a slow twin that treats example by example."""

# Shapes: B examples of C x H x W, K classes.

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from scipy import stats
from torch import Tensor

from maxup_smoothing.train.perturbations import Compose, CutMix, Cutout, MixUp, RandAugment, RandomCrop, RandomFlip
from maxup_smoothing.train.perturbations import randaugment as operations
from maxup_smoothing.train.perturbations.geometry import box_mask
from maxup_smoothing.train.perturbations.mixing import beta, one_hot
from maxup_smoothing.train.seeds import generator
from maxup_smoothing.train.step import Rows, Step, parts

CPU = torch.device("cpu")
MIXING: list[Any] = [CutMix(), MixUp(0.4), Compose([RandomCrop(1), RandomFlip(), Cutout(3), MixUp(), CutMix(0.5)])]


def batch(B: int = 9, H: int = 8, W: int = 6, K: int = 4) -> tuple[Tensor, Tensor]:
    drawn = torch.Generator().manual_seed(5)
    x = torch.rand(B, 3, H, W, generator=drawn)
    return x, one_hot(torch.randint(K, (B,), generator=drawn), K)


def inside(row: int, column: int, centre: Tensor, height: int, width: int) -> bool:
    """Whether a pixel lies in the box: of side s are s // 2 pixels before the centre, and the rest from there on."""
    top, left = int(centre[0]) - height // 2, int(centre[1]) - width // 2
    return top <= row < top + height and left <= column < left + width


@pytest.mark.parametrize("size", [1, 3, 4, 20])
def test_cutout_paints_over_a_square_around_a_drawn_pixel_and_nothing_else(size: int) -> None:
    x, y = batch()
    cut, targets = Cutout(size, (0.1, 0.2, 0.3))(x, y, generator(CPU, 3))
    assert targets is y
    drawn = generator(CPU, 3)
    centre_B2 = torch.stack([torch.randint(side, (len(x),), generator=drawn) for side in (8, 6)], dim=1)
    for b in range(len(x)):
        for row in range(8):
            for column in range(6):
                hole = inside(row, column, centre_B2[b], size, size)
                expected = torch.tensor([0.1, 0.2, 0.3]) if hole else x[b, :, row, column]
                assert torch.equal(cut[b, :, row, column], expected)


def test_every_pixel_is_the_centre_of_a_hole_equally_often() -> None:
    x = torch.ones(4800, 1, 4, 3)
    holes = (Cutout(1)(x, torch.zeros(4800), generator(CPU, 0))[0] == 0).sum(0).flatten()
    assert int(holes.sum()) == 4800
    assert stats.chisquare(holes.numpy()).pvalue > 1e-6  # which is the false alarm


def test_boxes_are_cut_off_at_the_border_and_may_be_empty() -> None:
    mask = box_mask(torch.tensor([[0, 0], [3, 4], [1, 1]]), torch.tensor([[4, 4], [2, 3], [0, 5]]), 4, 5)
    assert [int(one.sum()) for one in mask] == [2 * 2, 2 * 2, 0]


def draws(x: Tensor, alpha: float, seed: int) -> tuple[Tensor, Tensor, torch.Generator]:
    drawn = generator(CPU, seed)
    partner_B = torch.randperm(len(x), generator=drawn)
    return partner_B, beta(len(x), alpha, drawn), drawn


def test_mixup_is_the_mean_of_two_examples_and_of_their_labels_by_one_weight_each() -> None:
    x, y = batch()
    mixed, targets = MixUp(0.7)(x, y, generator(CPU, 2))
    partner_B, own_B, _ = draws(x, 0.7, 2)
    for b in range(len(x)):
        own, other = float(own_B[b]), int(partner_B[b])
        torch.testing.assert_close(mixed[b], own * x[b] + (1 - own) * x[other])
        torch.testing.assert_close(targets[b], own * y[b] + (1 - own) * y[other])
    assert len(set(own_B.tolist())) == len(x), "each example has a weight of its own"
    torch.testing.assert_close(targets.sum(1), torch.ones(len(x)))


def test_cutmix_replaces_a_box_and_its_share_of_the_label() -> None:
    x, y = batch(B=30)
    mixed, targets = CutMix(1.0)(x, y, generator(CPU, 4))
    partner_B, own_B, drawn = draws(x, 1.0, 4)
    centre_B2 = torch.stack([torch.randint(side, (len(x),), generator=drawn) for side in (8, 6)], dim=1)
    for b in range(len(x)):
        other, side = int(partner_B[b]), (1 - float(own_B[b])) ** 0.5
        replaced = 0
        for row in range(8):
            for column in range(6):
                box = inside(row, column, centre_B2[b], int(8 * side), int(6 * side))
                replaced += box
                source = x[other] if box else x[b]
                assert torch.equal(mixed[b, :, row, column], source[:, row, column])
        share = replaced / 48
        torch.testing.assert_close(targets[b], (1 - share) * y[b] + share * y[other])


@pytest.mark.parametrize("alpha", [0.2, 1.0, 3.0])
def test_shares_have_the_law_that_they_say_and_not_another(seed: int, alpha: float) -> None:
    drawn = beta(20000, alpha, generator(CPU, seed)).numpy()
    # The false alarm of each test is 1e-6, and twice the parameter is told apart with certainty.
    assert stats.kstest(drawn, stats.beta(alpha, alpha).cdf).pvalue > 1e-6
    assert stats.kstest(drawn, stats.beta(2 * alpha, 2 * alpha).cdf).pvalue < 1e-6


def test_shares_are_numbers_even_where_their_parameter_is_tiny() -> None:
    drawn = beta(1000, 1e-4, generator(CPU, 0))
    assert bool(((drawn >= 0) & (drawn <= 1)).all())


@pytest.mark.parametrize("perturb", MIXING)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_parts_of_a_mixed_batch_are_those_of_the_whole(perturb: Any, layout: torch.memory_format) -> None:
    x, y = batch()
    x = x.contiguous(memory_format=layout)
    whole, targets = perturb(x, y, generator(CPU, 1))
    for rows in parts(len(x), 4):
        here = Step(1, rows=rows, batch=(x, y)).of_rows(perturb)
        part, part_targets = here(x[rows.slice], y[rows.slice], generator(CPU, 1))
        assert torch.equal(part, whole[rows.slice])
        assert torch.equal(part_targets, targets[rows.slice])
    blind, _ = Step(1, rows=Rows(0, 4, len(x))).of_rows(perturb)(x[:4], y[:4], generator(CPU, 1))
    assert not torch.equal(blind, whole[:4]), "without the batch it would be mixed with zeros"


def test_noise_of_a_step_that_knows_its_batch_is_that_of_one_that_does_not() -> None:
    x, y = batch()
    rows = Rows(2, 5, len(x))
    here = Step(3, rows=rows, batch=(x, y)).noisy(x[rows.slice], 0.5, 0)
    assert torch.equal(here, Step(3, rows=rows).noisy(x[rows.slice], 0.5, 0))


@pytest.mark.parametrize("perturb", [Cutout(4), *MIXING, Compose([RandomCrop(), CutMix()])])
def test_the_same_generator_draws_the_same_and_inputs_stay_as_they_are(perturb: Any) -> None:
    x, y = batch()
    x_before, y_before = x.clone(), y.clone()
    once, again = (perturb(x, y, generator(CPU, 7)) for _ in range(2))
    other = perturb(x, y, generator(CPU, 8))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not torch.equal(once[0], other[0])
    assert torch.equal(x, x_before)
    assert torch.equal(y, y_before)


@pytest.mark.parametrize("perturb", [CutMix(), MixUp()])
def test_labels_that_cannot_be_mixed_are_refused(perturb: Any) -> None:
    with pytest.raises(ValueError, match=r"targets must be probabilities \(B, K\), got torch.int64 of shape \(9,\)"):
        perturb(batch()[0], torch.arange(9), generator(CPU, 0))


@pytest.mark.gpu
@pytest.mark.parametrize("perturb", [Cutout(4), *MIXING])
def test_on_a_device_everything_stays_there_and_repeats(perturb: Any) -> None:
    device = torch.device("cuda")
    x, y = (tensor.to(device) for tensor in batch())
    once, again = (perturb(x, y, generator(device, 7)) for _ in range(2))
    assert once[0].device.type == once[1].device.type == "cuda"
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_randaugment_without_kornia_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kornia", None)
    with pytest.raises(ValueError, match=r"needs kornia .*pip install 'maxup-smoothing\[kornia\]'"):
        RandAugment()


def test_randaugment_is_its_operations_image_by_image(monkeypatch: pytest.MonkeyPatch) -> None:
    kornia = pytest.importorskip("kornia")
    x, y = batch(B=60, H=12, W=10)
    changed, targets = RandAugment(n=2, magnitude=12)(x, y, generator(CPU, 6))
    assert targets is y
    drawn, expected = generator(CPU, 6), x
    for _ in range(2):
        choice_B = torch.randint(14, (60,), generator=drawn)
        sign_B = 2 * torch.randint(2, (60,), generator=drawn) - 1
        level_B = sign_B * 12 / 30
        one_by_one = [
            list(operations.OPERATIONS.values())[int(choice)](kornia, image[None], level[None])[0].clamp(0, 1)
            for image, choice, level in zip(expected, choice_B, level_B, strict=True)
        ]
        expected = torch.stack(one_by_one)
    torch.testing.assert_close(changed, expected, rtol=0, atol=1e-5)
    assert len(set(choice_B.tolist())) > 10, "each image has operations of its own"


def test_randaugment_leaves_the_global_generator_and_is_not_rounded_by_autocast() -> None:
    pytest.importorskip("kornia")
    x, y = batch(B=40)
    state = torch.random.get_rng_state()
    full, _ = RandAugment()(x, y, generator(CPU, 6))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast, _ = RandAugment()(x, y, generator(CPU, 6))
    assert torch.equal(full, cast)
    assert torch.equal(torch.random.get_rng_state(), state)


def level(value: float, count: int = 1) -> Tensor:
    return torch.full((count,), value)


@pytest.mark.parametrize(
    ("name", "by_hand"),
    [
        ("identity", lambda x: x),
        ("brightness", lambda x: 0.55 * x),
        ("contrast", lambda x: 0.55 * x + 0.45 * grey(x).mean()),
        ("colour", lambda x: 0.55 * x + 0.45 * grey(x)),
        ("solarize", lambda x: torch.where(x < 0.5, x, 1 - x)),
        ("posterize", lambda x: (x * 255).floor().div(4).floor() * 4 / 255),  # 6 of 8 bits are kept
        ("translate_x", lambda x: torch.nn.functional.pad(x, (0, 5))[..., 5:]),
        ("translate_y", lambda x: torch.nn.functional.pad(x, (0, 0, 0, 5))[..., 5:, :]),
    ],
)
def test_operations_are_what_their_names_say(name: str, by_hand: Callable[[Tensor], Tensor]) -> None:
    """At half strength downwards; translations by five whole pixels, so that nothing is interpolated."""
    kornia = pytest.importorskip("kornia")
    # Values in the middle of a step of 1/255, so that rounding decides nothing.
    x = ((torch.rand(1, 3, 20, 20) * 254).floor() + 0.5) / 255
    strength = level(-0.5)
    if name.startswith("translate"):
        strength = level(-5 / (150 / 331 * 20))
    changed = operations.OPERATIONS[name](kornia, x, strength).clamp(0, 1)
    torch.testing.assert_close(changed, by_hand(x), rtol=0, atol=2e-3)


def grey(x: Tensor) -> Tensor:
    """Luma of ITU-R BT.601."""
    return (x * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(-3, keepdim=True)
