"""The language model: word embeddings with noise, a body, and an output that has the embeddings for weights.

The body is an LSTM that remembers, or a transformer that sees its window. It takes embeddings and a state, and returns
features of each word and the state after the window. All its dropout draws from the global generator, which
``train.step`` seeds: every pass of a step meets the same masks.

References:
    Gal and Ghahramani (2016), arXiv:1512.05287: one dropout mask a sequence, not one a time.
    Merity, Keskar, Socher (2018), arXiv:1708.02182: dropped hidden-to-hidden weights, tied output.
    Vaswani et al. (2017), arXiv:1706.03762: the transformer and its sines.
"""

# Shapes: B sequences, T words, E width of the embeddings, H hidden units, V words in the vocabulary.

import math
from abc import ABC, abstractmethod
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from maxup_smoothing.train.language.config import LanguageConfig
from maxup_smoothing.train.step import full_precision

#: Hidden and cell state, (1, B, H) each, of each layer; nothing where nothing is carried from window to window.
State = tuple[tuple[Tensor, Tensor], ...]


def locked_dropout(x_BTE: Tensor, share: float, training: bool) -> Tensor:
    """Drop ``share`` of the features of each sequence, the same ones at all times."""
    if not training or share == 0:
        return x_BTE
    return x_BTE * F.dropout(x_BTE.new_ones(len(x_BTE), 1, x_BTE.shape[2]), share)


class Body(nn.Module, ABC):
    """From the embeddings of a window, (B, T, E), and a state to as many features and the next state."""

    @abstractmethod
    def start(self, sequences: int) -> State:
        """The state before the first word."""

    @abstractmethod
    def forward(self, x_BTE: Tensor, state: State) -> tuple[Tensor, State]:
        """Features of each word, (B, T, E), which depend on it and on those before, and the state after the last."""


class Lstm(Body):
    """Layers of LSTM, the last one as wide as the embeddings.

    Args:
        embedding: Width E of the embeddings.
        hidden: Width of all layers but the last.
        layers: How many.
        hidden_dropout: Between layers; locked.
        weight_dropout: Of the hidden-to-hidden weights; one mask a pass.
    """

    def __init__(
        self, embedding: int, hidden: int, layers: int, *, hidden_dropout: float, weight_dropout: float
    ) -> None:
        super().__init__()
        widths = [embedding, *(hidden,) * (layers - 1), embedding]
        self.layers = nn.ModuleList(nn.LSTM(*pair, batch_first=True) for pair in pairwise(widths))
        self.hidden_dropout, self.weight_dropout = hidden_dropout, weight_dropout

    def start(self, sequences: int) -> State:
        """Zeros."""
        weights = [layer.get_parameter("weight_hh_l0") for layer in self.layers]
        return tuple((w.new_zeros(1, sequences, w.shape[1]), w.new_zeros(1, sequences, w.shape[1])) for w in weights)

    def forward(self, x_BTE: Tensor, state: State) -> tuple[Tensor, State]:
        """The last layer's output, and the states of all."""
        after = list[tuple[Tensor, Tensor]]()
        for number, (layer, before) in enumerate(zip(self.layers, state, strict=True)):
            x_BTE = x_BTE if number == 0 else locked_dropout(x_BTE, self.hidden_dropout, self.training)
            if self.training and self.weight_dropout:
                # torch's own fast LSTM, called with other weights: a cell in a loop over time is far slower.
                weights = {"weight_hh_l0": F.dropout(layer.get_parameter("weight_hh_l0"), self.weight_dropout)}
                x_BTE, (h_1BH, c_1BH) = functional_call(layer, weights, (x_BTE, before))
            else:
                x_BTE, (h_1BH, c_1BH) = layer(x_BTE, before)
            # The next window's state has the precision of weights, not of autocast.
            after.append((h_1BH.to(before[0].dtype), c_1BH.to(before[1].dtype)))
        return x_BTE, tuple(after)


class Transformer(Body):
    """torch's encoder layers, normalised first, where each word sees itself and those before it in its window.

    Nothing is carried from window to window.

    Args:
        embedding: Width E, even and a multiple of ``heads``.
        hidden: Width of the feed-forward part.
        layers: How many.
        heads: Of attention.
        hidden_dropout: Of torch's layers; not locked.
    """

    def __init__(self, embedding: int, hidden: int, layers: int, *, heads: int, hidden_dropout: float) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(
            embedding, heads, hidden, hidden_dropout, activation="gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, nn.LayerNorm(embedding), enable_nested_tensor=False)

    def start(self, sequences: int) -> State:
        """Nothing."""
        return ()

    def forward(self, x_BTE: Tensor, state: State) -> tuple[Tensor, State]:
        """The last layer's output."""
        T, E = x_BTE.shape[1:]
        mask_TT = nn.Transformer.generate_square_subsequent_mask(T, x_BTE.device, x_BTE.dtype)
        # The position's share is as large as a word's, which is about 1 after this factor.
        x_BTE = x_BTE * math.sqrt(E) + positions(T, E, x_BTE)
        return self.encoder(x_BTE, mask=mask_TT, is_causal=True), ()


def positions(times: int, width: int, like: Tensor) -> Tensor:
    """Sines and cosines of each time at ``width / 2`` wavelengths, (times, width)."""
    t_T1 = torch.arange(times, device=like.device, dtype=like.dtype)[:, None]
    rates = torch.exp(torch.arange(0, width, 2, device=like.device, dtype=like.dtype) * (-math.log(10_000) / width))
    return torch.cat([(t_T1 * rates).sin(), (t_T1 * rates).cos()], dim=1)


class LanguageModel(nn.Module):
    """From words to logits of the next word.

    Args:
        words: Size V of the vocabulary.
        embedding: Width E.
        body: Between embeddings and output.
        embedding_dropout: Share of the vocabulary whose embedding is dropped in a pass, wherever the word stands.
        input_dropout: Of the embeddings; locked.
        output_dropout: Of the body's output; locked.
    """

    def __init__(
        self,
        words: int,
        embedding: int,
        body: Body,
        *,
        embedding_dropout: float = 0.0,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding, self.body = nn.Embedding(words, embedding), body
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.bias = nn.Parameter(self.embedding.weight.new_zeros(words))
        self.embedding_dropout, self.input_dropout = embedding_dropout, input_dropout
        self.output_dropout = output_dropout

    def forward(self, words_BT: Tensor, state: State, noise_BTE: Tensor | None = None) -> tuple[Tensor, State]:
        """Logits of the word after each word, (B, T, V), and the state after the last one.

        Args:
            words_BT: int64, numbers of words.
            state: After the words before; ``body.start`` at the beginning of a text.
            noise_BTE: Added to the embeddings, in units of their root mean square over the whole vocabulary. The unit
                is seen as a constant. In fixed units training could escape the noise by growing the embeddings.
        """
        weight_VE = self.embedding.weight
        x_BTE = self.embedding(words_BT)
        if self.training and self.embedding_dropout:
            x_BTE = x_BTE * F.dropout(weight_VE.new_ones(len(weight_VE)), self.embedding_dropout)[words_BT, None]
        if noise_BTE is not None:
            x_BTE = x_BTE + noise_BTE * weight_VE.detach().square().mean().sqrt()
        x_BTE, state = self.body(locked_dropout(x_BTE, self.input_dropout, self.training), state)
        x_BTE = locked_dropout(x_BTE, self.output_dropout, self.training)
        return F.linear(x_BTE, weight_VE, self.bias), state


class Reading(nn.Module):
    """A language model in front of a window: as ``train.maxup`` wants it, a function of the noise alone.

    So the words and the state before the window are the same for all copies.
    """

    def __init__(self, model: LanguageModel, words_BT: Tensor, state: State) -> None:
        super().__init__()
        self.model, self.words_BT, self.state = model, words_BT, state

    def forward(self, noise_BTE: Tensor) -> tuple[Tensor, State]:
        """Logits, (B, T, V), and the state after the window."""
        return self.model(self.words_BT, self.state, noise_BTE)


def sequence_losses(output: tuple[Tensor, State], next_BT: Tensor) -> Tensor:
    """(B,): mean cross-entropy of the words of each sequence's window."""
    return word_losses(output[0], next_BT).mean(1)


def word_losses(logits_BTV: Tensor, next_BT: Tensor) -> Tensor:
    """(B, T): cross-entropy of each word, not in half precision."""
    loss_N = F.cross_entropy(full_precision(logits_BTV).flatten(0, 1), next_BT.flatten(), reduction="none")
    return loss_N.view_as(next_BT)


def detached(state: State) -> State:
    """The same numbers, cut off from the passes that made them: there back-propagation is truncated."""
    return tuple((h_1BH.detach(), c_1BH.detach()) for h_1BH, c_1BH in state)


def build(config: LanguageConfig, words: int) -> LanguageModel:
    """A new model for a vocabulary of ``words``; its weights come from the global generator."""
    sizes = (config.embedding, config.hidden, config.layers)
    body: Body
    if config.arch == "lstm":
        body = Lstm(*sizes, hidden_dropout=config.hidden_dropout, weight_dropout=config.weight_dropout)
    else:
        body = Transformer(*sizes, heads=config.heads, hidden_dropout=config.hidden_dropout)
    return LanguageModel(
        words,
        config.embedding,
        body,
        embedding_dropout=config.embedding_dropout,
        input_dropout=config.input_dropout,
        output_dropout=config.output_dropout,
    )
