"""Philox4x32-10 and the layout of its counter."""

import numpy as np
import pytest
from scipy import stats

from maxup_smoothing.certify.noise.philox import key_words, philox4x32, uniforms

ONES = 0xFFFFFFFF
# From the known-answer file of the generator's authors (Random123, kat_vectors, philox4x32 10).
ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES, ONES, ONES, ONES), (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
STREAM = [4139805828264540888, 1081946609048599546, 4681127401505917573, 6751813035359345166, 8877085434595740492]


@pytest.mark.parametrize(("counter", "key", "words"), ANSWERS)
def test_philox_gives_its_authors_answers(
    counter: tuple[int, int, int, int], key: tuple[int, int], words: tuple[int, ...]
) -> None:
    np.testing.assert_array_equal(philox4x32(counter, key), words)


def test_a_uniform_is_the_documented_words_of_the_documented_counters() -> None:
    seed, input_id, stage = 0xFEDCBA9876543210, 2**32 - 1, 2
    u = uniforms(seed, input_id, stage, 2**32 - 3, 2**32, 11)
    assert u.shape == (3, 11)
    key = (0x76543210, 0xFEDCBA98)
    assert key_words(seed) == key
    for row, sample in enumerate(range(2**32 - 3, 2**32)):
        for c in range(11):
            high = int(philox4x32((c // 4, sample, input_id, 2 * stage), key)[c % 4])
            low = int(philox4x32((c // 4, sample, input_id, 2 * stage + 1), key)[c % 4])
            assert int(u[row, c]) == 2**31 * high + low // 2


def test_the_stream_of_this_version_stays_what_it_was() -> None:
    # A change here changes the counts of every table: see the contract in certify/noise/philox.py.
    assert [int(u) for u in uniforms(7, 5, 1, 3, 4, 5)[0]] == STREAM


def test_samples_inputs_stages_and_seeds_have_different_rows(seed: int) -> None:
    # 63-bit words of distinct counters: two of these rows agree with probability below 2^-400.
    rows = [
        uniforms(key, input_id, stage, 0, 200, 8)
        for key in (seed, seed + 2**32, 2**64 - 1 - seed)
        for input_id in (0, 1, 2**16, 2**31)
        for stage in range(3)
    ]
    assert len(np.unique(np.concatenate(rows), axis=0)) == 3 * 4 * 3 * 200


def test_neighbours_in_every_word_of_the_counter_are_uncorrelated(seed: int) -> None:
    # Of n independent pairs the correlation is asymptotically N(0, 1/n); |z| > 6 has probability 2e-9 each.
    n, dimension = 500, 400
    base = uniforms(seed, 4, 1, 0, n, dimension).astype(float)
    pairs = {
        "coordinate": (base[:, :-1], base[:, 1:]),
        "block": (base[:, :-4], base[:, 4:]),
        "sample": (base[:-1], base[1:]),
        "input": (base, uniforms(seed, 5, 1, 0, n, dimension).astype(float)),
        "stage": (base, uniforms(seed, 4, 2, 0, n, dimension).astype(float)),
        "seed": (base, uniforms(seed + 1, 4, 1, 0, n, dimension).astype(float)),
    }
    for name, (a, b) in pairs.items():
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) * np.sqrt(a.size) < 6, name


@pytest.mark.parametrize("shift", [0, 31, 55])
def test_each_part_of_the_word_is_uniform(seed: int, shift: int) -> None:
    # Low, middle and high byte. A correct generator fails with probability below 1e-6.
    part = (uniforms(seed, 0, 0, 0, 200, 500) >> np.uint64(shift)) & np.uint64(255)
    assert stats.chisquare(np.bincount(part.ravel().astype(int), minlength=256)).pvalue > 1e-6
