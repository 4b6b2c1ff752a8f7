"""Draws noise as a run does, and tests it against its law; the tests are in ``certify.preflight.noise_tests``."""

# Shapes: R samples of D coordinates; B rows of a call; C channels, H height, W width.

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from maxup_smoothing.certify.noise import ESTIMATION, PREDICTION, SELECTION, NoiseSource, exact
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.noise.philox import known_answers
from maxup_smoothing.certify.preflight import noise_tests
from maxup_smoothing.certify.preflight.finding import ERROR, FACT, Finding
from maxup_smoothing.certify.preflight.noise_tests import GREY, exact_law, normal_law

#: Inputs whose noise is drawn: two neighbours, one far away, and one that needs more than 16 bits.
_INPUTS = (0, 1, 500, 2**16 + 1)
_STAGES = (SELECTION, ESTIMATION, PREDICTION)
_CALLS = 3  # number of calls that draw one stream
_COMPARED = 2**15  # values that are also made by the definition, for comparison
_ADVICE = (
    "draw with --noise exact, or on another device; if `certify selftest` also fails, install another version, and "
    "report this"
)


@dataclass(frozen=True)
class Place:
    """Where noise is drawn: image shape, device and memory layout of f's input, and sigma."""

    image_shape: tuple[int, int, int]
    device: torch.device
    layout: torch.memory_format
    sigma: float

    @property
    def dimension(self) -> int:
        """The number of coordinates D."""
        return int(np.prod(self.image_shape))


def noise_finding(make: Callable[[int], NoiseSource], seed: int, place: Place, draws: int) -> Finding:
    """Test whether the noise has the law of the theorem, and whether different streams are different.

    Args:
        make: Makes the noise source for a seed.
        seed: Seed of the noise; not the run's, whose samples must not be looked at before they are counted.
        place: Where the noise is drawn.
        draws: Approximate number of values; at least ``noise_tests.LEAST`` and 21 samples are drawn.
    """
    source = make(seed)
    law = exact_law(place.sigma) if source.describe()["source"] == "exact" else normal_law()
    z_RD, streams_R = _drawn(make, seed, place, draws)
    found = noise_tests.outcomes(z_RD, streams_R, law)
    found += _contract(source, place)
    bad = noise_tests.failed(found)
    name = f"{source.describe()['source']} noise on {place.device}, seed {seed}"
    if bad:
        listed = "; ".join(f"{one.name}: {one.seen}, p = {one.p_value:.2g}" for one in bad)
        return Finding(
            level=ERROR,
            check="noise",
            seen=f"{name}: {len(bad)} of {len(found)} tests failed: {listed}",
            meaning="the noise is not independent Gaussian noise of this sigma, and no certificate would hold",
            fix=_ADVICE,
        )
    least = min(found, key=lambda outcome: outcome.p_value)
    return Finding(
        level=FACT,
        check="noise",
        seen=f"{name}: {len(found)} tests of {z_RD.size} values passed; the smallest p-value is "
        f"{least.p_value:.2g} ({least.name})",
    )


def _drawn(
    make: Callable[[int], NoiseSource], seed: int, place: Place, draws: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Noise in units of sigma, of several inputs and stages, and of the first one again under another seed.

    Returns:
        The noise, one sample a row, and the number of each sample's stream.
    """
    many = len(_INPUTS) * len(_STAGES) * _CALLS * place.dimension <= max(draws, noise_tests.LEAST)
    streams = [(seed, number, stage) for number in (_INPUTS if many else _INPUTS[:2]) for stage in _STAGES]
    streams.append((seed ^ 1, _INPUTS[0], SELECTION))
    rows = max(_CALLS, -(-max(draws, noise_tests.LEAST) // (place.dimension * len(streams))))
    image_CHW = torch.full(place.image_shape, GREY, dtype=torch.uint8, device=place.device)
    parts = []
    sources = {number: make(number) for number in (seed, seed ^ 1)}
    for number, input_id, stage in streams:
        for start, stop in _calls(rows):
            part_BCHW = _batch(stop - start, place)
            sources[number].fill(part_BCHW, image_CHW, input_id=input_id, stage=stage, start=start)
            parts.append(part_BCHW.contiguous().flatten(1).cpu().numpy())
    z_RD = (np.concatenate(parts) - np.float32(GREY / 255)) / np.float32(place.sigma)
    return z_RD, np.repeat(np.arange(len(streams)), rows)


def _calls(rows: int) -> Iterator[tuple[int, int]]:
    edges = [rows * number // _CALLS for number in range(_CALLS + 1)]
    return itertools.pairwise(edges)


def _batch(rows: int, place: Place) -> torch.Tensor:
    return torch.empty((rows, *place.image_shape), device=place.device, memory_format=place.layout)


def _contract(source: NoiseSource, place: Place) -> list[noise_tests.Outcome]:
    """Test what must be equal to the bit: samples drawn in one or several calls; exact noise and its definition."""
    rows = max(2, min(256, _COMPARED // place.dimension))
    image_CHW = (torch.arange(place.dimension, device=place.device) % 256).to(torch.uint8).view(place.image_shape)

    def filled(sizes: Sequence[int]) -> torch.Tensor:
        whole_BCHW, start = _batch(rows, place), 0
        for size in sizes:
            source.fill(whole_BCHW[start : start + size], image_CHW, input_id=_INPUTS[2], stage=ESTIMATION, start=start)
            start += size
        return whole_BCHW

    at_once = filled([rows])
    found = [_equal("same in pieces", at_once, filled([1, rows - 1]))]
    if isinstance(source, ExactNoise):
        counter = {"seed": source.seed, "input_id": _INPUTS[2], "stage": ESTIMATION, "start": 0}
        defined_BCHW = torch.empty(at_once.shape)
        exact.fill_rows(defined_BCHW, image_CHW, source.table, **counter)
        found.append(_equal("as defined", at_once.cpu(), defined_BCHW))
        answers = known_answers()
        found.append(noise_tests.Outcome("known answers", float(answers == 3), f"{answers} of 3 of Philox4x32-10"))
    return found


def _equal(name: str, one_BCHW: torch.Tensor, other_BCHW: torch.Tensor) -> noise_tests.Outcome:
    differing = int((one_BCHW != other_BCHW).sum())
    return noise_tests.Outcome(name, float(differing == 0), f"{differing} of {one_BCHW.numel()} values differ")
