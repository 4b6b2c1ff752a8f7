"""Seeds for everything random in training, each a function of what it is for."""

import numpy as np
import torch


def derive_seed(*words: int) -> int:
    """A 63-bit seed that depends on every word and on their order.

    Each random thing in training (the order of an epoch, a crop, copy c of step t) has a generator of its own, seeded
    by what it is for. So a resumed run needs no generator state, and what is drawn does not depend on earlier draws.

    Args:
        words: Integers in [0, 2^64).
    """
    # SeedSequence takes (1,), (1, 0) and (1, 0, 0) for the same, and a large word for two; so the number of words goes
    # in front, and each word is two halves.
    halves = [half for word in words for half in (word & 0xFFFFFFFF, word >> 32)]
    return int(np.random.SeedSequence([len(words), *halves]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(device: torch.device, *words: int) -> torch.Generator:
    """A generator on ``device`` seeded by ``derive_seed(*words)``."""
    return torch.Generator(device).manual_seed(derive_seed(*words))
