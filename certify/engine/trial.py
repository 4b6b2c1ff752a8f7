"""One input on its way to a certificate: which samples it needs next, and what its votes prove so far."""

# Shapes: K classes; V = K + 1 kinds of vote, the last for logits that were not finite.

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.certify.noise import ESTIMATION, SELECTION
from maxup_smoothing.certify.statistics.certificate import Certificate, certificate_of, look_at
from maxup_smoothing.certify.statistics.looks import Look
from maxup_smoothing.certify.statistics.procedure import Sampling


class Trial:
    """The votes of one input.

    Args:
        sampling: The procedure.
        error: How far the law of the samples may be from N(0, sigma^2), in total variation.
    """

    def __init__(self, sampling: Sampling, error: float) -> None:
        self._sampling, self._error = sampling, error
        self._selected: int | None = None
        self._counts_V: NDArray[np.int64] | None = None
        self._looks: list[Look] = []
        self.finished = False  # whether the votes are enough

    @property
    def samples(self) -> int:
        """Estimation samples so far."""
        return self._looks[-1].n if self._looks else 0

    @property
    def drawn(self) -> int:
        """Samples so far, the selection's too."""
        return self.samples + (self._sampling.n0 if self._looks else 0)

    def requests(self) -> list[tuple[int, int, int]]:
        """Samples up to the next look, as (stage, start, stop); the selection stage comes with the first of them."""
        stop, _ = self._sampling.schedule[len(self._looks)]
        estimation = (ESTIMATION, self.samples, stop)
        return [estimation] if self._looks else [(SELECTION, 0, self._sampling.n0), estimation]

    def add(self, votes: Sequence[NDArray[np.int64]]) -> None:
        """Take the votes (V,) of each request, in their order, and look at them."""
        *selection, estimation_V = votes
        if selection:
            self._selected = int(selection[0][:-1].argmax())
        assert self._selected is not None
        self._counts_V = estimation_V if self._counts_V is None else self._counts_V + estimation_V
        level = self._sampling.schedule[len(self._looks)][1]
        self._looks.append(look_at(self._counts_V, self._selected, level))
        self.finished = self._sampling.enough(self._looks, self._error)

    def certificate(self) -> Certificate:
        """What the votes so far prove."""
        assert self._selected is not None
        assert self._counts_V is not None
        return certificate_of(
            self._looks,
            self._selected,
            self._counts_V,
            sigma=self._sampling.sigma,
            procedure=self._sampling.procedure,
            bound=self._sampling.bound,
            probability_error=self._error,
        )
