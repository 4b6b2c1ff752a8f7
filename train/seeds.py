"""Seeds for everything random in training, each a function of what it is for."""

import numpy as np
import torch


def derive_seed(*words: int) -> int:
    """A 63-bit seed that depends on every word and on their order.

    Training draws each random thing (the order of an epoch, a crop, copy c of step t) from a generator seeded by what
    it is, never from the state that an earlier draw left. So a resumed run needs no generator state, and copy c can be
    drawn again.

    Args:
        words: Non-negative integers.
    """
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> np.uint64(1))


def generator(device: torch.device, *words: int) -> torch.Generator:
    """A generator on ``device`` seeded by ``derive_seed(*words)``."""
    return torch.Generator(device).manual_seed(derive_seed(*words))
