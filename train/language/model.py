"""The language model: word embeddings with noise, a body, and an output that has the embeddings for weights."""

# Shapes: B sequences, T words, E width of the embeddings, V words in the vocabulary.

import torch.nn.functional as F
from torch import Tensor, nn

from maxup_smoothing.train.language.bodies import Body, Lstm, State, Transformer, locked_dropout
from maxup_smoothing.train.language.config import LanguageConfig
from maxup_smoothing.train.step import full_precision


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
