"""Texts cut into columns and windows, and the perplexity of a whole text.

Perplexity is e to the mean negative log-likelihood of the tokens. The text is read as one sequence from its first token
to its last, the state carried all the way, so nothing depends on a batch size. Every token counts, ``<eos>`` too; the
first is predicted from an ``<eos>`` before it. So Penn Treebank's 82,430 test tokens are 82,430 predictions. (Usual
scripts cut the text into ten columns or so, each of which begins without a memory. They drop what is left over, and do
not predict the first token.) A transformer carries no state, and sees the words of its window alone.
"""

# Shapes: N tokens, B columns of L words, T words in a window.

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from maxup_smoothing.train.language.model import LanguageModel, Lstm, word_losses

PIECE = 512  # words that an LSTM is given at a time; the result does not depend on it, memory does


def pairs(stream_N: NDArray[Any], eos: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Words and the words after them, int64, (N,) each: every token of a text is predicted once, the first from eos."""
    next_N = torch.from_numpy(stream_N).to(device)
    return torch.cat([next_N.new_tensor([eos]), next_N[:-1]]), next_N


def columns(tokens_N: Tensor, count: int) -> Tensor:
    """Consecutive pieces of equal length, (count, N // count); fewer than ``count`` tokens at the end are left out.

    Raises:
        ValueError: If there are fewer tokens than columns.
    """
    length = len(tokens_N) // count
    if not length:
        raise ValueError(f"batch_size = {count} columns need as many tokens; the training text has {len(tokens_N)}.")
    return tokens_N[: count * length].view(count, length)


def windows(length: int, size: int, first: int) -> Iterator[slice]:
    """Windows of ``size`` that cover a column once, in order; the one in front has ``first``, the last what is left."""
    start = 0
    while start < length:
        stop = min(length, start + (size if start else first))
        yield slice(start, stop)
        start = stop


@dataclass(frozen=True)
class Likelihood:
    """What a model says of a text.

    Attributes:
        tokens: How many were predicted: all.
        nats: Sum of their negative log-likelihoods.
    """

    tokens: int
    nats: float

    @property
    def perplexity(self) -> float:
        """e to the mean; infinite where that overflows."""
        mean = self.nats / self.tokens
        return math.exp(mean) if mean < 700 else math.inf


@torch.no_grad()
def measure(model: LanguageModel, text: tuple[Tensor, Tensor], window: int) -> Likelihood:
    """Read a text in evaluation mode and float32, without noise.

    Args:
        model: Its mode is as before afterwards.
        text: Words and the words after them; see ``pairs``.
        window: Words that a transformer sees.
    """
    words_1N, next_1N = (tokens_N[None] for tokens_N in text)
    size = PIECE if isinstance(model.body, Lstm) else window
    training, state = model.training, model.body.start(1)
    model.eval()
    nats = torch.zeros((), dtype=torch.float64, device=words_1N.device)
    for part in windows(words_1N.shape[1], size, size):
        logits_1TV, state = model(words_1N[:, part], state)
        nats += word_losses(logits_1TV, next_1N[:, part]).double().sum()
    model.train(training)
    return Likelihood(tokens=words_1N.shape[1], nats=nats.item())
