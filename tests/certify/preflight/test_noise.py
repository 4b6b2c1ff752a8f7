"""The battery of the noise: right noise passes for every seed, and each kind of wrong noise is caught."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from maxup_smoothing.certify.audit.selftest import probability_at_most
from maxup_smoothing.certify.noise import NoiseSource
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.noise.floating import FloatNoise
from maxup_smoothing.certify.noise.grid import noise_table
from maxup_smoothing.certify.preflight import noise_tests
from maxup_smoothing.certify.preflight.finding import ERROR, FACT
from maxup_smoothing.certify.preflight.noise import Place, noise_finding
from maxup_smoothing.certify.preflight.noise_tests import GREY, exact_law, normal_law

SIGMA = 0.5
DRAWS = 400_000  # as in the automatic check


def place(sigma: float = SIGMA, shape: tuple[int, int, int] = (1, 28, 28), device: str = "cpu") -> Place:
    return Place(shape, torch.device(device), torch.channels_last, sigma)


def exact(seed: int) -> NoiseSource:
    return ExactNoise(SIGMA, seed)


def floating(seed: int) -> NoiseSource:
    return FloatNoise(SIGMA, seed)


@dataclass
class Broken:
    """A source whose noise is changed on its way; ``change`` gets z (B, C, H, W), and input, stage and start."""

    inner: NoiseSource
    change: Callable[..., Tensor]

    def fill(self, out_BCHW: Tensor, image_CHW: Tensor, *, input_id: int, stage: int, start: int) -> None:
        self.inner.fill(out_BCHW, image_CHW, input_id=input_id, stage=stage, start=start)
        z_BCHW = (out_BCHW - image_CHW / 255) / SIGMA
        out_BCHW.copy_(self.change(z_BCHW, input_id, stage, start) * SIGMA + image_CHW / 255)

    def probability_error(self, dimension: int) -> float:
        return self.inner.probability_error(dimension)

    def describe(self) -> dict[str, Any]:
        return self.inner.describe()


def failures(change: Callable[..., Tensor], make: Callable[[int], NoiseSource] = floating, draws: int = DRAWS) -> str:
    """What fails."""
    found = noise_finding(lambda seed: Broken(make(seed), change), 5, place(), draws)
    return found.seen if found.level == ERROR else ""


@pytest.mark.parametrize(
    ("sigma", "shape"), [(SIGMA, (1, 28, 28)), (0.001, (3, 8, 8)), (4.0, (1, 1, 5)), (0.12, (3, 150, 150))]
)
@pytest.mark.parametrize("source", [ExactNoise, FloatNoise])
def test_right_noise_passes(source: Any, sigma: float, shape: tuple[int, int, int], seed: int) -> None:
    """False alarms have probability below 1e-6 in all of a battery."""
    draws = 100_000 if seed else DRAWS
    found = noise_finding(lambda key: source(sigma, key), seed, place(sigma, shape), draws)
    assert found.level == FACT
    assert "tests of" in found.seen


def test_a_network_of_large_images_is_checked_with_few_samples() -> None:
    found = noise_finding(exact, 1, place(shape=(3, 224, 224)), DRAWS)
    assert found.level == FACT
    assert f"tests of {21 * 3 * 224 * 224} values" in found.seen


def test_noise_that_is_one_percent_too_large_or_too_small_is_caught() -> None:
    for factor in (1.01, 0.99):
        assert "variance" in failures(lambda z, *_, factor=factor: z * factor)


def test_exact_noise_off_its_grid_is_caught() -> None:
    assert "values cannot occur in such noise" in failures(lambda z, *_: z * 1.01, exact)


def test_exact_noise_rounded_to_a_coarser_grid_is_caught() -> None:
    """Values stay possible and moments nearly right: only their probabilities are wrong."""
    said = failures(lambda z, *_: (z * SIGMA * 255 / 2).round() * 2 / 255 / SIGMA, exact)
    assert "values: chi-square" in said
    assert "mean of z^1" not in said


def test_laplace_noise_of_the_same_variance_is_caught() -> None:
    def laplace(z: Tensor, *_: int) -> Tensor:
        u = torch.special.ndtr(z.double()) - 0.5
        return (-u.sign() * torch.log1p(-2 * u.abs().clamp(max=0.5 - 1e-9)) / 2**0.5).float()

    said = failures(laplace)
    assert "kurtosis" in said
    assert "values: chi-square" in said


def test_a_tail_that_is_cut_off_is_caught() -> None:
    """All values beyond 4.2 sigma turned round: they are 1 in 37,000."""
    said = failures(lambda z, *_: torch.where(z.abs() > 4.2, z / 4.2, z), draws=1_500_000)
    assert "tail cut off: the largest of" in said


def test_a_single_value_that_is_too_large_is_caught() -> None:
    def spiked(z: Tensor, input_id: int, stage: int, start: int) -> Tensor:
        z = z.clone()
        if input_id == 500 and stage == 1 and start == 0:
            z[0, 0, 0, 0] = 8.6
        return z

    assert "tail too long" in failures(spiked)


def test_noise_that_is_the_same_at_every_call_is_caught() -> None:
    first = torch.randn(100, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    said = failures(lambda z, *_: first[: len(z)])
    assert "duplicates" in said
    assert "of different inputs, stages or seeds" in said


def test_noise_that_is_repeated_across_the_batch_is_caught() -> None:
    said = failures(lambda z, *_: z[:1].expand_as(z))
    assert "duplicates" in said
    assert "of one stream" in said


def test_one_channel_repeated_across_the_batch_is_caught() -> None:
    """No two samples are equal, but a tenth of each is that of the sample before."""

    def partly(z: Tensor, *_: int) -> Tensor:
        z = z.clone()
        z[:, :, :3] = z[:1, :, :3]
        return z

    assert "correlation: +" in failures(partly)


def test_mirrored_samples_are_caught() -> None:
    said = failures(lambda z, *_: torch.cat([z[: len(z) // 2], -z[: len(z) - len(z) // 2]]))
    assert "correlation: -" in said


def test_correlated_neighbours_are_caught() -> None:
    said = failures(lambda z, *_: (z + 0.02 * z.roll(1, dims=3)) / (1 + 0.02**2) ** 0.5)
    assert "at a distance of 1," in said


def test_a_seed_that_is_ignored_is_caught() -> None:
    found = noise_finding(lambda seed: FloatNoise(SIGMA, 7), 5, place(), DRAWS)
    assert found.level == ERROR
    assert "duplicates" in found.seen


@pytest.mark.parametrize("ignored", ["input_id", "stage"])
def test_streams_that_should_differ_and_do_not_are_caught(ignored: str) -> None:
    @dataclass
    class Deaf:
        inner: NoiseSource

        def fill(self, out_BCHW: Tensor, image_CHW: Tensor, *, input_id: int, stage: int, start: int) -> None:
            names = {"input_id": input_id, "stage": stage} | {ignored: 0}
            self.inner.fill(out_BCHW, image_CHW, start=start, **names)

        def probability_error(self, dimension: int) -> float:
            return 0.0

        def describe(self) -> dict[str, Any]:
            return self.inner.describe()

    found = noise_finding(lambda seed: Deaf(exact(seed)), 5, place(), DRAWS)
    assert found.level == ERROR
    assert "duplicates" in found.seen


def test_a_pixel_and_a_sample_of_another_size_are_caught() -> None:
    def pixel(z: Tensor, *_: int) -> Tensor:
        z = z.clone()
        z[:, 0, 14, 14] *= 1.6
        return z

    def sample(z: Tensor, *_: int) -> Tensor:
        z = z.clone()
        z[-1] *= 1.15
        z[0] *= 0.85
        return z

    assert "size by pixels" in failures(pixel)
    assert "size by samples" in failures(sample)


def test_samples_with_an_offset_of_their_own_are_caught() -> None:
    def offset(z: Tensor, input_id: int, stage: int, start: int) -> Tensor:
        signs = torch.where(torch.arange(start, start + len(z)) % 2 == 0, 0.15, -0.15)
        return (z + signs[:, None, None, None]) / (1 + 0.15**2) ** 0.5

    assert "mean by samples" in failures(offset)


def test_noise_that_depends_on_the_size_of_a_call_is_caught() -> None:
    """As torch's own generators do, which is why blocks are drawn whole."""

    class OnePerCall(FloatNoise):
        def fill(self, out_BCHW: Tensor, image_CHW: Tensor, *, input_id: int, stage: int, start: int) -> None:
            words = np.random.SeedSequence([self.seed, input_id, stage, start]).generate_state(1)
            generator = torch.Generator().manual_seed(int(words[0]))
            out_BCHW.copy_(torch.randn(out_BCHW.shape, generator=generator) * SIGMA + image_CHW / 255)

    found = noise_finding(lambda seed: OnePerCall(SIGMA, seed), 5, place(), DRAWS)
    assert found.level == ERROR
    assert "same in pieces" in found.seen


def test_exact_noise_that_is_not_as_defined_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other words of the same generator are as random: only the definition tells."""
    from maxup_smoothing.certify.noise import exact as module

    right = module._filler("cpu")
    monkeypatch.setattr(
        module, "_filler", lambda device: lambda *rows, seed, **counter: right(*rows, seed=seed ^ 2, **counter)
    )
    found = noise_finding(exact, 5, place(), DRAWS)
    assert "as defined" in found.seen


def test_noise_that_is_not_finite_is_caught() -> None:
    def holed(z: Tensor, *_: int) -> Tensor:
        z = z.clone()
        z[0, 0, 0, 0] = torch.nan
        return z

    assert "values are not finite" in failures(holed)


@pytest.mark.gpu
@pytest.mark.parametrize("source", [ExactNoise, FloatNoise])
def test_right_noise_passes_on_a_gpu(source: Any) -> None:
    found = noise_finding(lambda seed: source(SIGMA, seed), 3, place(shape=(3, 32, 32), device="cuda"), 10_000_000)
    assert found.level == FACT, found


def test_the_law_of_exact_noise_is_that_of_its_table() -> None:
    """Against exact fractions; a clip of the sum with the grey image ends it."""
    table, law = noise_table(0.25), exact_law(0.25)
    assert law.probabilities.sum() == pytest.approx(1, abs=1e-15)
    for j in (-200, -64, 0, 3, 64, 200):
        [code] = law.codes(np.array([j / 255 / 0.25], dtype=np.float32))
        exactly = probability_at_most(table, j) - probability_at_most(table, j - 1)
        assert law.probabilities[code] == pytest.approx(float(exactly), rel=1e-12)
    low, high = -table.clip - GREY, 255 + table.clip - GREY
    assert len(law.probabilities) <= high - low + 1
    # Rounding to the grid adds 1/12 of its square to the variance, apart from terms far below this tolerance.
    assert law.moments[2] == pytest.approx(1 + 1 / 12 / (255 * 0.25) ** 2, rel=1e-9)
    assert law.tail(2.0) == pytest.approx(2 * special.ndtr(-2.0), rel=0.05)


def test_the_bins_of_normal_noise_have_its_probabilities() -> None:
    law = normal_law()
    assert law.probabilities.sum() == pytest.approx(1, abs=1e-14)
    [code] = law.codes(np.array([1.0], dtype=np.float32))
    assert law.probabilities[code] == pytest.approx(stats.norm.cdf(1 + 1 / 32) - stats.norm.cdf(1), rel=1e-12)
    assert law.codes(np.array([-50.0, 50.0], dtype=np.float32)).tolist() == [0, len(law.probabilities) - 1]


def test_p_values_of_right_noise_are_spread_evenly(seed: int) -> None:
    """Each test's own p-value, over 40 batteries: no more than chance has them below 0.01 (alarm at 1e-6 of chance)."""
    small = dict[str, int]()
    for number in range(40):
        rng = np.random.default_rng([seed, number])
        z_RD = rng.standard_normal((500, 256)).astype(np.float32)
        for outcome in noise_tests.outcomes(z_RD, np.repeat(np.arange(10), 50), normal_law()):
            small[outcome.name] = small.get(outcome.name, 0) + (outcome.p_value < 0.01)
    for name, count in small.items():
        assert stats.binom.sf(count - 1, 40, 0.01) > 1e-6 / len(small), name
