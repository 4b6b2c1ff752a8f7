"""Philox4x32-10 in NumPy: the counter-based generator of exact noise, and the reference for its fast versions.

Ten rounds of multiplications turn a counter of four 32-bit words and a key of two into four random words. There is no
state: any word of any sample can be computed alone, on any machine, in any order.

**The layout is a contract.** The vote counts of every table with exact noise depend on it. A change of the layout
changes them, and needs an entry under *Certificates* in the change log. For coordinate c of the image (numbered in
C, H, W order, whatever the memory layout), a sample, an input, a stage and a seed::

    key     = (seed mod 2^32, seed div 2^32)
    high    = word c mod 4 of Philox(counter = (c div 4, sample, input, 2 * stage), key)
    low     = word c mod 4 of Philox(counter = (c div 4, sample, input, 2 * stage + 1), key)
    uniform = 2^31 * high + low div 2, uniform on 0 ... 2^63 - 1

High and low words come from different blocks, so that one block serves four coordinates and a fast version rarely
computes low words. They matter only if a high word equals that of a threshold, about once in two million coordinates.

References:
    Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3".
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
MASK = 0xFFFFFFFF


def philox4x32(counter: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], key: tuple[int, int]) -> NDArray[np.uint32]:
    """Four random words for each counter.

    Args:
        counter: The four words of the counters, in [0, 2^32), broadcast against each other.
        key: The two words of the key, in [0, 2^32).

    Returns:
        The random words, uint32, of the broadcast shape with an axis of 4 appended.
    """
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(word, dtype=np.uint64) for word in counter))
    m0, m1, mask, half = (np.uint64(word) for word in (*MULTIPLIERS, MASK, 32))
    for number in range(ROUNDS):
        # In Python integers, because the key of a round wraps at 2^32.
        k0, k1 = (np.uint64((word + number * step) & MASK) for word, step in zip(key, WEYL, strict=True))
        p0, p1 = m0 * c0, m1 * c2
        c0, c1, c2, c3 = (p1 >> half) ^ c1 ^ k0, p1 & mask, (p0 >> half) ^ c3 ^ k1, p0 & mask
    return np.stack([c0, c1, c2, c3], axis=-1).astype(np.uint32)


def key_words(seed: int) -> tuple[int, int]:
    """The two key words of a seed in [0, 2^64)."""
    return seed & MASK, seed >> 32


def uniforms(seed: int, input_id: int, stage: int, start: int, stop: int, dimension: int) -> NDArray[np.uint64]:
    """The 63-bit uniform numbers of samples ``start`` to ``stop`` of an input and stage.

    Returns:
        uint64, (stop - start, dimension), below 2^63.
    """
    block, sample = np.arange(-(-dimension // 4)), np.arange(start, stop)[:, None]
    high, low = (
        philox4x32((block, sample, input_id, 2 * stage + part), key_words(seed))
        .reshape(stop - start, -1)[:, :dimension]
        .astype(np.uint64)
        for part in range(2)
    )
    return (high << np.uint64(31)) | (low >> np.uint64(1))


_ANSWERS = (  # from the known-answer file of the generator's authors, Random123
    ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
)


def known_answers() -> int:
    """How many of Philox's three published answers this implementation reproduces."""
    return sum(tuple(map(int, philox4x32(counter, key))) == words for counter, key, words in _ANSWERS)
