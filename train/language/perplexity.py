"""Perplexity of a whole text: e to the mean negative log-likelihood of its tokens.

The text is read as one sequence from its first token to its last, the state carried all the way, so nothing depends on
a batch size. Every token counts, ``<eos>`` too; the first is predicted from an ``<eos>`` before it. So Penn Treebank's
82,430 test tokens are 82,430 predictions. (Usual scripts cut the text into ten columns or so, each of which begins
without a memory, drop what is left over, and do not predict the first token.) A transformer, which carries no state,
sees the words of its window alone.
"""

# Shapes: N tokens, T of them in a window.

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from maxup_smoothing.train.language.bodies import Lstm
from maxup_smoothing.train.language.model import LanguageModel, word_losses
from maxup_smoothing.train.language.streams import windows

PIECE = 512  # words that an LSTM is given at a time; the result does not depend on it, memory does


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
        text: Words and the words after them; see ``train.language.streams.pairs``.
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
