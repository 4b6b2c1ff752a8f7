"""The engine that counts votes, and the noise that it counts them under."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from oracles import Pixel, Sometimes
from scipy import stats
from smoothed_images import IMAGES, SIGMA

from maxup_smoothing.certify.engine.votes import Item, count_votes
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise import ESTIMATION, SELECTION, NoiseSource
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.noise.floating import BLOCK, FloatNoise

Source = Callable[[float, int], NoiseSource]


@pytest.fixture(params=[ExactNoise, FloatNoise])
def source(request: pytest.FixtureRequest) -> Source:
    kind: Source = request.param
    return kind


def votes(source: Source, batch_size: int, items: list[Item], seed: int = 0) -> np.ndarray:
    classifier = BaseClassifier(Pixel().eval(), 2, batch_size=batch_size)
    return count_votes(classifier, source(SIGMA, seed), items)


def items(samples: int = 300, stage: int = ESTIMATION) -> list[Item]:
    return [Item(image, number, stage, 0, samples) for number, image in enumerate(IMAGES)]


@pytest.mark.parametrize("batch_size", [1, 7, 64, 256, 5000])
def test_votes_do_not_depend_on_the_batch_size(source: Source, batch_size: int) -> None:
    assert votes(source, batch_size, items()).tolist() == votes(source, 100, items()).tolist()


def test_votes_do_not_depend_on_order_company_or_interruption(source: Source) -> None:
    together = votes(source, 64, items())
    assert votes(source, 64, items()[::-1])[::-1].tolist() == together.tolist()
    assert votes(source, 64, items()[2:3]).tolist() == together[2:3].tolist()
    pieces = [Item(IMAGES[2], 2, ESTIMATION, a, b) for a, b in ((0, 100), (100, 101), (101, 300))]
    assert votes(source, 64, pieces).sum(0).tolist() == together[2].tolist()


def test_every_sample_is_counted_once() -> None:
    assert votes(FloatNoise, 64, items(301)).sum(1).tolist() == [301] * 6


def test_noise_streams_differ_between_seeds_inputs_stages_and_samples() -> None:
    image = torch.zeros(1, 4, 4, dtype=torch.uint8)
    drawn = []
    for seed in (0, 1, 2**32, 2**64 - 1):
        noise = FloatNoise(SIGMA, seed)
        for input_id in (0, 1, 7):
            for stage in (SELECTION, ESTIMATION):
                out = torch.empty(200, 1, 4, 4)
                noise.fill(out, image, input_id=input_id, stage=stage, start=0)
                drawn.append(out.flatten(1))
    assert len(torch.unique(torch.cat(drawn), dim=0)) == 4 * 3 * 2 * 200


@pytest.mark.parametrize("start", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK])
def test_samples_are_the_same_when_asked_for_out_of_order(start: int) -> None:
    image = torch.zeros(1, 2, 2, dtype=torch.uint8)
    whole, part = torch.empty(4 * BLOCK, 1, 2, 2), torch.empty(BLOCK, 1, 2, 2)
    noise = FloatNoise(SIGMA, 3)
    noise.fill(whole, image, input_id=5, stage=0, start=0)
    noise.fill(part, image, input_id=5, stage=0, start=start)
    assert torch.equal(part, whole[start : start + BLOCK])


def test_noise_has_the_law_that_the_theorem_needs(seed: int) -> None:
    image = torch.full((1, 4, 4), 51, dtype=torch.uint8)
    out = torch.empty(2000, 1, 4, 4)
    FloatNoise(SIGMA, seed).fill(out, image, input_id=0, stage=0, start=0)
    noise = (out - 0.2).double().flatten().numpy()
    # 32,000 draws: the right law is refused with probability 1e-6, a sigma 10 % off is accepted with less.
    assert stats.kstest(noise, stats.norm(0, SIGMA).cdf).pvalue > 1e-6
    assert stats.kstest(noise, stats.norm(0, SIGMA * 1.1).cdf).pvalue < 1e-6


def test_votes_follow_the_known_probability(source: Source, seed: int) -> None:
    n = 20_000
    counts = votes(source, 500, items(n), seed)
    for image, row in zip(IMAGES, counts, strict=True):
        # The exact noise of a whole pixel exceeds 127.5 exactly when the Gaussian does that it is the rounding of.
        p = Pixel().probability(float(image[0, 0, 0]) / 255, SIGMA)
        # Six tests, each refusing the truth with probability 1e-7.
        assert stats.binomtest(int(row[1]), n, p).pvalue > 1e-7
        assert stats.binomtest(int(row[1]), n, p + 0.03).pvalue < 1e-7


def test_logits_that_are_not_finite_are_counted_and_never_voted() -> None:
    classifier = BaseClassifier(Sometimes().eval(), 2, batch_size=64)
    [row] = count_votes(classifier, FloatNoise(SIGMA, 0), [Item(IMAGES[2], 0, ESTIMATION, 0, 5000)])
    inside = stats.norm.cdf(1, 120 / 255, SIGMA) - stats.norm.cdf(0, 120 / 255, SIGMA)
    assert row[1] == 0
    assert row.sum() == 5000
    assert stats.binomtest(int(row[0]), 5000, inside).pvalue > 1e-6


def test_float_noise_is_never_smaller_than_sigma() -> None:
    """float32(0.12) lies below 0.12; noise multiplied by it would be smaller than the radius assumes."""
    assert float(np.float32(0.12)) < 0.12
    out = torch.empty(2, 1, 1, 1)
    FloatNoise(0.12, 0).fill(out, torch.zeros(1, 1, 1, dtype=torch.uint8), input_id=0, stage=0, start=0)
    unit = torch.empty(2, 1, 1, 1)
    FloatNoise(1.0, 0).fill(unit, torch.zeros(1, 1, 1, dtype=torch.uint8), input_id=0, stage=0, start=0)
    assert torch.equal(out, unit * np.nextafter(np.float32(0.12), np.float32(1)).item())
