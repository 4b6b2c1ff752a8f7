"""Exact noise: one stream whoever makes it, a function of the integer sum, and what float noise does instead."""

# Shapes: B rows, C channels, H height, W width.

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.special import ndtri
from torch import Tensor

from maxup_smoothing.certify.noise import ESTIMATION, NoiseSource, cpu, exact
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.noise.floating import FloatNoise
from maxup_smoothing.certify.noise.grid import NoiseTable, noise_table
from maxup_smoothing.certify.noise.philox import uniforms
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound

LAYOUTS = [torch.contiguous_format, torch.channels_last]
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 7, 5), (2, 1, 3), (4, 5, 1), (1, 1, 1)]
Fill = Callable[..., None]


def image(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def empty(rows: int, shape: tuple[int, ...], layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    return torch.full((rows, *shape), torch.nan).to(memory_format=layout)


def by_definition(image_CHW: Tensor, table: NoiseTable, rows: int, **counter: int) -> Tensor:
    """clip(x + N, -K, 255 + K) / 255 from the table, the words and nothing else."""
    u = uniforms(counter["seed"], counter["input_id"], counter["stage"], counter["start"],
                 counter["start"] + rows, image_CHW.numel())  # fmt: skip
    n = np.searchsorted(table.thresholds, u, side="right") + table.lowest
    sums = np.clip(image_CHW.numpy().astype(int).ravel() + n, -table.clip, 255 + table.clip)
    return torch.from_numpy(sums.astype(np.float32) / np.float32(255)).view(rows, *image_CHW.shape)


def table_of_ties(rows: int, dimension: int, **counter: int) -> NoiseTable:
    """Thresholds at and beside a third of the stream's own uniforms, where one bit decides."""
    u = uniforms(counter["seed"], counter["input_id"], counter["stage"], counter["start"],
                 counter["start"] + rows, dimension).ravel()[::3]  # fmt: skip
    thresholds = np.unique(np.concatenate([u - np.uint64(1), u, u + np.uint64(1)]))
    return NoiseTable(thresholds, -len(thresholds) // 2, 100)


@pytest.fixture
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fill]:
    """The Triton kernel, run by Triton's interpreter on the CPU."""
    pytest.importorskip("triton", reason="Triton is not installed, so its kernel is not tested")
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # read where a kernel is defined
    monkeypatch.delitem(sys.modules, "maxup_smoothing.certify.noise.cuda", raising=False)
    from maxup_smoothing.certify.noise.cuda import fill_rows

    yield fill_rows
    sys.modules.pop("maxup_smoothing.certify.noise.cuda", None)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fill", [cpu.fill_rows, exact.fill_rows])
def test_numba_and_numpy_write_what_the_definition_says(
    fill: Fill, shape: tuple[int, ...], layout: torch.memory_format, seed: int
) -> None:
    for sigma, start in ((0.12, 0), (0.5, 2**32 - 9), (4.0, 12345)):
        counter = {"seed": 2**64 - 1 - seed, "input_id": 2**31 + 3, "stage": 2, "start": start}
        out = empty(9, shape, layout)
        fill(out, image(shape), noise_table(sigma), **counter)
        assert out.is_contiguous(memory_format=layout)
        assert torch.equal(out, by_definition(image(shape), noise_table(sigma), 9, **counter))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_triton_kernel_writes_what_the_definition_says(interpreted: Fill, layout: torch.memory_format) -> None:
    for shape, sigma in (((3, 7, 5), 0.5), ((2, 16, 17), 0.12)):
        counter = {"seed": 2**64 - 3, "input_id": 2**32 - 7, "stage": 1, "start": 2**31 - 1}
        out = empty(2, shape, layout)
        interpreted(out, image(shape), noise_table(sigma), **counter)
        assert torch.equal(out, by_definition(image(shape), noise_table(sigma), 2, **counter))


def test_ties_with_a_threshold_are_settled_by_the_last_bit(interpreted: Fill) -> None:
    # They come about once in 2e6 coordinates, so they are made: every third uniform is a threshold with its neighbours.
    counter, shape = {"seed": 11, "input_id": 1, "stage": 0, "start": 5}, (3, 9, 7)
    for fill, rows in ((cpu.fill_rows, 40), (exact.fill_rows, 40), (interpreted, 2)):
        table = table_of_ties(rows, 3 * 9 * 7, **counter)
        out = empty(rows, shape)
        fill(out, image(shape), table, **counter)
        assert torch.equal(out, by_definition(image(shape), table, rows, **counter))


@pytest.mark.gpu
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_gpu_writes_what_the_definition_says(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    for sigma in (0.12, 0.5, 4.0):
        out = empty(70, shape, layout).cuda()
        counter = {"input_id": 2**32 - 7, "stage": 1, "start": 2**31 - 30}
        ExactNoise(sigma, 2**64 - 3).fill(out, image(shape).cuda(), **counter)
        expected = by_definition(image(shape), noise_table(sigma), 70, seed=2**64 - 3, **counter)
        assert torch.equal(out.cpu(), expected)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_noise_does_not_depend_on_batch_size_or_threads(threads: int) -> None:
    noise, picture = ExactNoise(0.25, 5), image((3, 9, 9))
    whole = empty(300, (3, 9, 9))
    noise.fill(whole, picture, input_id=4, stage=ESTIMATION, start=0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for batch in (1, 7, 256):
            parts = empty(300, (3, 9, 9), torch.channels_last)
            for start in range(0, 300, batch):
                noise.fill(parts[start : start + batch], picture, input_id=4, stage=ESTIMATION, start=start)
            assert torch.equal(parts, whole)
    finally:
        torch.set_num_threads(before)


def test_rows_inside_a_larger_tensor_are_filled_and_their_surroundings_left() -> None:
    noise, picture = ExactNoise(0.25, 5), image((3, 6, 8))
    plain, around = empty(4, (3, 6, 8)), torch.full((6, 3, 10, 12), -1.0)
    noise.fill(plain, picture, input_id=4, stage=1, start=2)
    inside = around[1:5, :, 2:8, 3:11]
    noise.fill(inside, picture, input_id=4, stage=1, start=2)
    assert torch.equal(inside, plain)
    assert (around == -1).sum() == around.numel() - plain.numel()
    noise.fill(plain.transpose(2, 3), picture.transpose(1, 2), input_id=4, stage=1, start=2)
    assert not torch.equal(inside, plain), "coordinates are numbered in the order of the shape"


def test_no_rows_are_no_work() -> None:
    ExactNoise(0.25, 5).fill(empty(0, (1, 2, 2)), image((1, 2, 2)), input_id=0, stage=0, start=0)


def test_the_input_of_the_network_is_a_function_of_the_integer_sum(seed: int) -> None:
    noise, ramp = ExactNoise(0.12, seed), torch.arange(256, dtype=torch.uint8).view(1, 16, 16)
    out = empty(1000, (1, 16, 16))
    noise.fill(out, ramp, input_id=0, stage=1, start=0)
    n = noise.table.integers(seed, 0, 1, 0, 1000, 256)
    sums = np.clip(n + np.arange(256), -noise.table.clip, 255 + noise.table.clip)
    pairs = np.unique(np.stack([sums.ravel(), out.numpy().view(np.int32).ravel()]), axis=1)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1] > 400


def _reads_bits(a: int) -> Callable[[Tensor], Tensor]:
    """F_a(y): is fl(fl(y - a/255) + a/255) = y? Three float operations that any network can contain."""
    pixel = torch.tensor(a, dtype=torch.float32) / 255
    return lambda y: (y - pixel) + pixel == y


def test_float_noise_certifies_what_is_false_and_exact_noise_does_not(seed: int) -> None:
    """A demonstration of why noise is drawn in integers.

    With float noise the classifier F_a says 1 on every noisy copy of the one-pixel image a = 210: x + noise, rounded,
    keeps traces of x. So it is certified as 1 within 0.9 or more. But at 0, which is 0.824 away, it says 1 less than
    half of the time: the certificate is false. With exact noise, what it reads is the same function of the integer sum
    at both images, and it cannot (test_noise_grid.py has the proof by enumeration).
    """
    a, sigma, n, alpha = 210, 0.5, 20_000, 0.001
    answers: dict[tuple[str, int], int] = {}
    sources: dict[str, NoiseSource] = {"float": FloatNoise(sigma, seed), "exact": ExactNoise(sigma, seed)}
    for name, source in sources.items():
        for pixel in (a, 0):
            out = empty(n, (1, 1, 1))
            source.fill(out, torch.full((1, 1, 1), pixel, dtype=torch.uint8), input_id=pixel, stage=1, start=0)
            answers[name, pixel] = int(_reads_bits(a)(out).sum())
    radius = {pixel: sigma * ndtri(lower_confidence_bound(answers["float", pixel], n, alpha)) for pixel in (a, 0)}
    assert answers["float", a] == n
    assert radius[a] > 1.6 > a / 255
    # P = 0.458 at 0. That it is below 1/2 is certain: of a fair coin this happens with probability below 1e-6.
    assert stats.binomtest(answers["float", 0], n, 0.5, alternative="less").pvalue < 1e-6
    # Under exact noise the same classifier has p(a) = 0.838 and p(0) = 0.342 (enumerated), and its certificate stops
    # short of 0. Sampled shares are within 0.025 of these with probability 1 - 1e-11.
    assert answers["exact", a] / n == pytest.approx(0.838, abs=0.025)
    assert answers["exact", 0] / n == pytest.approx(0.342, abs=0.025)
    assert sigma * ndtri(lower_confidence_bound(answers["exact", a], n, alpha)) < 0.6 < a / 255


def test_a_float_image_is_refused_with_the_fix() -> None:
    with pytest.raises(ValueError, match=r"needs a uint8 image, got torch.float32; pass the 8-bit original"):
        ExactNoise(0.5, 0).fill(empty(2, (1, 2, 2)), torch.zeros(1, 2, 2), input_id=0, stage=0, start=0)


@pytest.mark.parametrize(
    "change",
    [
        {"out_BCHW": torch.zeros(2, 1, 2, 3)},
        {"out_BCHW": torch.zeros(2, 1, 2, 2, dtype=torch.float64)},
        {"out_BCHW": torch.zeros(1, 2, 2)},
        {"input_id": -1},
        {"input_id": 2**32},
        {"stage": 2**31},
        {"start": 2**32 - 1},
        {"out_BCHW": torch.zeros(2, 1, 2, 2, device="meta")},
    ],
    ids=str,
)
def test_what_the_counter_or_the_rows_cannot_hold_is_refused(change: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {
        "out_BCHW": empty(2, (1, 2, 2)),
        "image_CHW": image((1, 2, 2)),
        "input_id": 0,
        "stage": 0,
        "start": 0,
    }
    with pytest.raises(ValueError, match=r"exact noise (needs|runs)|must be in"):
        ExactNoise(0.5, 0).fill(**(arguments | change))


@pytest.mark.parametrize("arguments", [(0.5, -1), (0.5, 2**64), (0.0, 0), (127.5, 0)])
def test_seed_and_sigma_are_checked_at_once(arguments: tuple[float, int]) -> None:
    with pytest.raises(ValueError, match="must be in"):
        ExactNoise(*arguments)


def test_the_manifest_says_all_that_fixes_the_stream() -> None:
    assert ExactNoise(0.5, 2**64 - 1).describe() == {
        "source": "exact",
        "seed": 2**64 - 1,
        "grid": "1/255",
        "clip": 765,
        "generator": "philox4x32-10",
        "table_bits": 63,
    }


def test_the_probability_error_is_the_tables() -> None:
    assert ExactNoise(0.5, 0).probability_error(3072) == noise_table(0.5).total_variation(3072)


def test_without_numba_the_same_noise_comes_slowly_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "maxup_smoothing.certify.noise.cpu", None)
    exact._filler.cache_clear()
    out, fast = empty(5, (3, 7, 5)), empty(5, (3, 7, 5))
    counter = {"input_id": 1, "stage": 1, "start": 3}
    try:
        with pytest.warns(UserWarning, match="exact noise is slow, made by NumPy, since Numba cannot be used"):
            ExactNoise(0.5, 7).fill(out, image((3, 7, 5)), **counter)
    finally:
        exact._filler.cache_clear()
    cpu.fill_rows(fast, image((3, 7, 5)), noise_table(0.5), seed=7, **counter)
    assert torch.equal(out, fast)
