"""The table of the discretised Gaussian, and that certificates hold for whatever sees it."""

from functools import cache
from itertools import pairwise

import mpmath  # type: ignore[import-untyped]
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.special import ndtr, ndtri

from maxup_smoothing.certify.noise.grid import NoiseTable, noise_table

SIGMAS = [0.12, 0.25, 0.5, 1.0]


@cache
def independent(sigma: float) -> tuple[int, list[int]]:
    """K and all thresholds, j = -M ... M - 1, from mpmath's normal distribution at 60 digits."""
    with mpmath.workdps(60):
        spread = mpmath.mpf(str(sigma)) * 255
        clip = int(mpmath.ceil(6 * spread))
        half = mpmath.mpf(1) / 2
        m = 255 + clip
        return clip, [int(mpmath.floor(2**63 * mpmath.ncdf((j + half) / spread) + half)) for j in range(-m, m)]


def pmf(table: NoiseTable) -> NDArray[np.float64]:
    """P(N = lowest + c) for c = 0 ... number of thresholds."""
    ends = [0, *(int(t) for t in table.thresholds), 2**63]
    return np.array([(b - a) / 2**63 for a, b in pairwise(ends)])


def probabilities(table: NoiseTable, votes_S: NDArray[np.bool_]) -> NDArray[np.float64]:
    """P(votes) at each of the pixels 0 ... 255, for a classifier given by its vote at each entry of ``values``."""
    law = pmf(table)
    return np.array([law[votes_S[x : x + len(law)]].sum() for x in range(256)])


def steepest(p: NDArray[np.float64], sigma: float) -> float:
    """Largest |Phi^-1 p(x) - Phi^-1 p(x + 1)| * 255 sigma; the theorem's Lipschitz bound is 1.

    Pairs nearer to 0 or 1 than 1e-6 are left out: there the rounding of p shows; elsewhere it is below 1e-7 of this.
    """
    inside = (p > 1e-6) & (p < 1 - 1e-6)
    change = np.abs(np.diff(ndtri(np.where(inside, p, 0.5)))) * 255 * sigma
    return float(change[inside[1:] & inside[:-1]].max(initial=0))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_table_is_the_nearest_integers_of_an_independent_computation(sigma: float) -> None:
    table = noise_table(sigma)
    clip, thresholds = independent(sigma)
    assert table.clip == clip
    assert table.thresholds.tolist() == [t for t in thresholds if 0 < t < 2**63]
    assert table.lowest == -255 - clip + thresholds.count(0)


@pytest.mark.parametrize("sigma", [0.001, 0.01, 4.0])
def test_tables_at_the_ends_of_the_range_are_right_too(sigma: float) -> None:
    table = noise_table(sigma)
    with mpmath.workdps(60):
        for c in {*range(0, len(table.thresholds), 97), len(table.thresholds) - 1}:
            z = (table.lowest + c + mpmath.mpf(1) / 2) / (255 * mpmath.mpf(str(sigma)))
            assert abs(int(table.thresholds[c]) - 2**63 * mpmath.ncdf(z)) <= 0.5
    assert pmf(table)[-table.lowest] > 0.999 * (ndtr(0.5 / 255 / sigma) - ndtr(-0.5 / 255 / sigma))


@pytest.mark.parametrize("sigma", [0.0, 0.0009, 4.1, 127.5, -0.5, float("nan"), float("inf")])
def test_sigmas_out_of_range_are_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma must be in"):
        noise_table(sigma)


def test_the_array_of_a_cached_table_cannot_be_written() -> None:
    assert noise_table(0.5) is noise_table(0.5)
    with pytest.raises(ValueError, match="read-only"):
        noise_table(0.5).thresholds[0] = 1


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_stated_total_variation_bounds_the_true_one(sigma: float) -> None:
    table = noise_table(sigma)
    clip, thresholds = independent(sigma)
    with mpmath.workdps(60):
        spread, half = mpmath.mpf(str(sigma)) * 255, mpmath.mpf(1) / 2
        exact = [mpmath.ncdf((j + half) / spread) for j in range(-255 - clip, 255 + clip)]
        error = [mpmath.mpf(t) / 2**63 - e for t, e in zip(thresholds, exact, strict=True)]
        variation = sum(abs(b - a) for a, b in zip([0, *error], [*error, 0], strict=True)) / 2
        assert 0 < variation <= table.total_variation(1) < 1e-15
        assert variation * 3072 <= table.total_variation(3072)


def test_the_total_variation_of_the_usual_case() -> None:
    # 2 (255 + 765) thresholds, each off by at most 2^-64.
    assert 3072 * 2040 * 2**-64 < noise_table(0.5).total_variation(3072) < 3072 * 2040 * 2**-64 * (1 + 1e-12)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_the_variance_is_sheppards(sigma: float) -> None:
    # Rounding a Gaussian this wide adds 1/12 to its variance, up to terms of order exp(-2 pi^2 (255 sigma)^2).
    law = pmf(noise_table(sigma))
    n = np.arange(len(law)) + noise_table(sigma).lowest
    assert law @ n == pytest.approx(0, abs=1e-9)
    assert law @ n**2 == pytest.approx((255 * sigma) ** 2 + 1 / 12, rel=1e-7)


@pytest.mark.parametrize("sigma", [0.12, 0.5])
@pytest.mark.parametrize("pixel", [0, 1, 128, 255])
def test_clipping_gathers_exactly_the_tails(sigma: float, pixel: int) -> None:
    table = noise_table(sigma)
    law, values = pmf(table), table.values[pixel:][: len(table.thresholds) + 1]
    lowest, highest = np.float32(-table.clip) / np.float32(255), np.float32(255 + table.clip) / np.float32(255)
    assert lowest <= values.min() <= values.max() <= highest
    spread = 255 * sigma
    # P(x + round(255 e) <= -K) and P(>= 255 + K); both below 1e-9, so compared on their own scale.
    assert law[values == lowest].sum() == pytest.approx(ndtr((-table.clip - pixel + 0.5) / spread), rel=1e-9, abs=1e-18)
    assert law[values == highest].sum() == pytest.approx(
        ndtr((pixel - 255 - table.clip + 0.5) / spread), rel=1e-9, abs=1e-18
    )


@pytest.mark.parametrize("sigma", [0.12, 0.5])
@pytest.mark.parametrize("a", [1, 64, 128, 210, 255])
def test_a_classifier_that_reads_trailing_bits_gains_nothing(sigma: float, a: int) -> None:
    # It asks whether fl(fl(y - a/255) + a/255) = y; under float noise that certifies falsely (test_noise_exact.py).
    table = noise_table(sigma)
    pixel = np.float32(a) / np.float32(255)
    p = probabilities(table, (table.values - pixel) + pixel == table.values)
    assert p.max() > p.min()
    assert steepest(p, sigma) <= 1 + 1e-7


def test_the_bound_is_tight_and_a_shifted_table_breaks_it() -> None:
    table = noise_table(0.25)
    half_space = np.arange(len(table.values)) + table.lowest > 100
    assert steepest(probabilities(table, half_space), 0.25) == pytest.approx(1, abs=1e-7)
    assert steepest(probabilities(noise_table(0.24), half_space), 0.25) > 1.01


@settings(max_examples=60, deadline=None)
@given(
    sigma=st.sampled_from([0.12, 0.25, 0.5]),
    share=st.floats(0.01, 0.99),
    run=st.integers(1, 60),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_set_of_inputs_breaks_the_lipschitz_bound(sigma: float, share: float, run: int, seed: int) -> None:
    table = noise_table(sigma)
    generator = np.random.default_rng(seed)
    votes_S = np.repeat(generator.random(len(table.values) // run + 1) < share, run)[: len(table.values)]
    assert steepest(probabilities(table, votes_S), sigma) <= 1 + 1e-7


@pytest.mark.parametrize(("sigma", "wrong"), [(0.12, 0.125), (0.5, 0.515)])
def test_the_sampled_integers_have_the_exact_law(seed: int, sigma: float, wrong: float) -> None:
    n = noise_table(sigma).integers(seed, 3, 1, 0, 200, 3000).ravel()
    # Pearson's chi-square on cells that expect at least 10. The right table fails with probability 1e-6. For the wrong
    # one the statistic is centred more than 15 of its standard deviations above the right one's.
    assert _chi_square(n, noise_table(sigma)) > 1e-6
    assert _chi_square(n, noise_table(wrong)) < 1e-6


def _chi_square(n: NDArray[np.int64], table: NoiseTable) -> float:
    expected = pmf(table) * n.size
    inside = np.flatnonzero(expected >= 10)
    first, last = inside[0], inside[-1]
    cells = np.clip(n - table.lowest, first, last) - first
    expected = np.concatenate([[expected[: first + 1].sum()], expected[first + 1 : last], [expected[last:].sum()]])
    return float(stats.chisquare(np.bincount(cells, minlength=len(expected)), expected).pvalue)


def test_the_moments_of_the_stream_are_a_normals(seed: int) -> None:
    # Standard errors for n normal variables: sqrt of 1, 1/2, 6 and 24 over n; the sixfold has probability 2e-9.
    sigma, root = 0.5, np.sqrt(600_000)
    z = noise_table(sigma).integers(seed, 9, 2, 100, 300, 3000).ravel() / np.sqrt((255 * sigma) ** 2 + 1 / 12)
    assert abs(z.mean()) * root < 6
    assert abs(z.std() - 1) * root < 6 / np.sqrt(2)
    assert abs(z.std() * 1.01 - 1) * root > 6 / np.sqrt(2)  # a sigma that is 1 % off would be seen
    assert abs(stats.skew(z)) * root < 6 * np.sqrt(6)
    assert abs(stats.kurtosis(z)) * root < 6 * np.sqrt(24)
