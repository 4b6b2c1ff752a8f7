"""What stands between word embeddings and output: an LSTM that remembers, or a transformer that sees its window.

A body takes embeddings and a state, both with the sequences first or second as torch has them, and returns what it made
of each word and the state after the window. All its dropout draws from the global generator, which ``train.step``
seeds: every pass of a step meets the same masks.

References:
    Gal and Ghahramani (2016), arXiv:1512.05287: one dropout mask a sequence, not one a time.
    Merity, Keskar, Socher (2018), arXiv:1708.02182: dropped hidden-to-hidden weights, tied output.
    Vaswani et al. (2017), arXiv:1706.03762: the transformer and its sines.
"""

# Shapes: B sequences, T words, E width of the embeddings, H hidden units.

import math
from abc import ABC, abstractmethod
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

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
