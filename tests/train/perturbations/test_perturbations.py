"""Perturbations: exact where they move pixels, statistical where they draw noise."""

import pytest
import torch
from scipy import stats

from maxup_smoothing.train.perturbations import Compose, GaussianNoise, RandomCrop, RandomFlip
from maxup_smoothing.train.seeds import derive_seed, generator

CPU = torch.device("cpu")


def test_noise_has_the_law_that_it_says_and_not_another(seed: int) -> None:
    x, y = torch.rand(40, 1, 20, 20), torch.zeros(40)
    noisy, _ = GaussianNoise(0.5)(x, y, generator(CPU, seed))
    noise = (noisy - x).double().flatten().numpy()
    # 16,000 draws; the false alarm of each test is 1e-6, and two thirds of sigma is told apart with certainty.
    assert stats.kstest(noise, stats.norm(0, 0.5).cdf).pvalue > 1e-6
    assert stats.kstest(noise, stats.norm(0, 0.5 * 2 / 3).cdf).pvalue < 1e-6


def test_noise_is_not_clipped_and_leaves_the_image_alone() -> None:
    x = torch.zeros(4, 1, 8, 8)
    noisy, _ = GaussianNoise(1.0)(x, torch.zeros(4), generator(CPU, 0))
    assert noisy.min() < 0
    assert noisy.max() > 1
    assert not x.any()


def test_a_crop_is_a_window_of_the_padded_image_and_every_window_occurs() -> None:
    x = torch.arange(1, 10, dtype=torch.float32).reshape(1, 1, 3, 3).expand(400, 1, 3, 3)
    cut, _ = RandomCrop(padding=1)(x, torch.zeros(400), generator(CPU, 0))
    padded = torch.nn.functional.pad(x[:1], (1, 1, 1, 1))
    windows = [padded[0, :, r : r + 3, c : c + 3] for r in range(3) for c in range(3)]
    which = [[torch.equal(image, window) for window in windows] for image in cut]
    assert all(sum(row) == 1 for row in which)
    # The chance that one of nine windows is missing in 400 draws is below 9 (8/9)^400 = 3e-20.
    assert all(sum(column) > 0 for column in zip(*which, strict=True))


def test_channels_move_together() -> None:
    x = torch.rand(1, 1, 6, 6).expand(5, 3, 6, 6)
    cut, _ = RandomCrop(padding=2)(x, torch.zeros(5), generator(CPU, 0))
    assert torch.equal(cut[:, 0], cut[:, 1])
    assert torch.equal(cut[:, 0], cut[:, 2])


def test_a_flip_mirrors_about_half_of_the_images() -> None:
    x = torch.rand(1, 1, 4, 4).expand(400, 1, 4, 4)
    flipped, _ = RandomFlip()(x, torch.zeros(400), generator(CPU, 0))
    mirrored = sum(torch.equal(image, x[0].flip(-1)) for image in flipped)
    assert mirrored + sum(torch.equal(image, x[0]) for image in flipped) == 400
    assert stats.binomtest(mirrored, 400).pvalue > 1e-6


@pytest.mark.parametrize(
    "perturb", [GaussianNoise(0.5), RandomCrop(), RandomFlip(), Compose([RandomFlip(), GaussianNoise(0.1)])]
)
def test_the_same_generator_draws_the_same_copy(perturb: GaussianNoise) -> None:
    x, y = torch.rand(8, 1, 9, 9), torch.arange(8)
    once, again = (perturb(x, y, generator(CPU, 7))[0] for _ in range(2))
    other = perturb(x, y, generator(CPU, 8))[0]
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_seeds_depend_on_every_word_and_on_their_order() -> None:
    words = [(0,), (1,), (0, 0), (0, 1), (1, 0), (1, 1), (0, 0, 0), (2**32,), (0, 2**32), (2**32, 0)]
    assert len({derive_seed(*w) for w in words}) == len(words)
    assert all(0 <= derive_seed(*w) < 2**63 for w in words)
