"""The training loop of language models: truncated back-propagation through time, on noisy copies of each window.

An example of ``train.maxup`` is one sequence, a column of the batch, and its loss the mean over its window's words: the
worst copy is chosen for each sequence by itself. All m copies of a window begin in the same carried state. With states
of their own, copies would be compared by what earlier windows did to them. The state that the worst copy of each
sequence left is carried on, without gradient. The pass that has the gradient made it, so it costs nothing. Where the
mean over copies is minimised, the state of copy 0 is carried on.

Everything random is a function of (seed, epoch, step), and no state of the text is carried from one epoch to the next.
So a run that was stopped and resumed ends with the same bits as one that was not, on the same machine.
"""

# Shapes: N tokens, B columns, L words in each, T in a window, E width of the embeddings.

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from maxup_smoothing.data.text import Corpus
from maxup_smoothing.train import structures
from maxup_smoothing.train.language import optimizer as optimizers
from maxup_smoothing.train.language import perplexity
from maxup_smoothing.train.language.config import LanguageConfig
from maxup_smoothing.train.language.model import LanguageModel, Reading, State, detached, sequence_losses
from maxup_smoothing.train.maxup import BatchLoss, Reduction, Selection, maxup_loss
from maxup_smoothing.train.perturbations import GaussianNoise
from maxup_smoothing.train.seeds import derive_seed, generator
from maxup_smoothing.train.step import arithmetic

OFFSET, COPIES = range(2)  # what a seed is for
CHECK_EVERY = 50  # steps between two looks at the loss, each of which waits for the device


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One line of ``train.csv``.

    Attributes:
        epoch: Counted from 1.
        lr: Learning rate of its first step.
        loss: Mean of the objective, in nats a token.
        mean_loss: Mean over all copies.
        gap: Mean over the sequences of (worst copy - mean copy); 0 with one copy.
        validation_perplexity: After the epoch, of the averaged weights if they are averaged.
        averaging: 1 if the weights are averaged in the next epoch, else 0.
        tokens_per_second: Of training, without validation.
        seconds: Of training.
    """

    epoch: int
    lr: float
    loss: float
    mean_loss: float
    gap: float
    validation_perplexity: float
    averaging: int
    tokens_per_second: float
    seconds: float


class Trainer:
    """A language model in training: ``epoch`` runs one, ``state`` and ``restore`` carry it over a stop.

    Args:
        model: On its device.
        corpus: The text; its test part is not looked at.
        config: See ``LanguageConfig``.

    Attributes:
        history: Validation perplexity after each finished epoch.
    """

    def __init__(self, model: LanguageModel, corpus: Corpus, config: LanguageConfig) -> None:
        self.model, self.config = model, config
        self.device = next(model.parameters()).device
        text = perplexity.pairs(corpus.train, corpus.eos, self.device)
        self.words_BL, self.next_BL = (perplexity.columns(tokens_N, config.batch_size) for tokens_N in text)
        self.validation = perplexity.pairs(corpus.valid, corpus.eos, self.device)
        self.optimizer = optimizers.build(model, config)
        self.history = list[float]()

    @property
    def finished(self) -> int:
        """Epochs."""
        return len(self.history)

    @property
    def improved(self) -> bool:
        """Whether the last epoch has the lowest validation perplexity so far; of equals the first has."""
        return self.history[-1] < min(self.history[:-1], default=math.inf)

    @property
    def steps(self) -> int:
        """Steps in an epoch, on which the learning rate is planned; a short first window may make one more."""
        return -(-self.words_BL.shape[1] // self.config.bptt)

    def epoch(self, advance: Callable[[int], None] = lambda tokens: None) -> Epoch:
        """Train for one epoch and measure the validation perplexity.

        Args:
            advance: Called with the number of tokens of each step.

        Raises:
            ValueError: If the loss, a weight or the validation perplexity is no longer a finite number.
        """
        start, lr = time.perf_counter(), math.nan
        totals = torch.zeros(3, dtype=torch.float64, device=self.device)
        self.model.train()
        state = self.model.body.start(self.config.batch_size)
        for step, window in enumerate(self._windows()):
            now = min(self.finished * self.steps + step, (self.finished + 1) * self.steps - 1)
            optimizers.set_rate(self.optimizer, optimizers.rate(self.config, now, self.config.epochs * self.steps))
            lr = lr if step else float(self.optimizer.param_groups[0]["lr"])
            sums, state = self._step(window, state, step)
            totals += sums
            if step % CHECK_EVERY == CHECK_EVERY - 1:
                self._require(bool(totals.isfinite().all()), "the loss")
            advance(self.config.batch_size * (window.stop - window.start))
        self._require(bool(totals.isfinite().all()), "the loss")
        seconds = time.perf_counter() - start
        # The loss of a step is that before it: only the weights show what the last one did.
        self._require(structures.is_finite(self.state()), "a weight")
        with self.averaged():
            reached = perplexity.measure(self.model, self.validation, self.config.bptt).perplexity
        self._require(math.isfinite(reached), "the validation perplexity")
        self.history.append(reached)
        optimizers.average_if_stalled(self.optimizer, self.history, self.config.patience)
        loss, mean_loss, gap = (totals / self.words_BL.numel()).tolist()
        return Epoch(
            epoch=self.finished,
            lr=lr,
            loss=loss,
            mean_loss=mean_loss,
            gap=gap,
            validation_perplexity=reached,
            averaging=int(optimizers.averages(self.optimizer)),
            tokens_per_second=self.words_BL.numel() / seconds,
            seconds=seconds,
        )

    def averaged(self) -> AbstractContextManager[None]:
        """Inside, the model is the one to use: its weights are the averaged ones, if they are averaged."""
        return optimizers.averaged(self.model, self.optimizer)

    def state(self) -> dict[str, Any]:
        """All that ``restore`` needs."""
        return {
            "history": list(self.history),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a ``state`` of a run with the same configuration and corpus."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if not structures.is_finite(self.state()):
            raise ValueError("weights that are not finite numbers")
        self.history = [float(value) for value in state["history"]]

    def _windows(self) -> list[slice]:
        """The windows of this epoch. The first length is drawn, so that each epoch cuts the text elsewhere."""
        draw = generator(torch.device("cpu"), self.config.seed, OFFSET, self.finished)
        first = int(torch.randint(1, self.config.bptt + 1, (), generator=draw))
        return list(perplexity.windows(self.words_BL.shape[1], self.config.bptt, first))

    def _step(self, window: slice, state: State, step: int) -> tuple[Tensor, State]:
        """One step; returns loss, mean loss and gap, times the tokens, (3,), and the state to carry on."""
        words_BT, next_BT = self.words_BL[:, window], self.next_BL[:, window]
        self.optimizer.zero_grad(set_to_none=True)
        with arithmetic(self.device, self.config.dtype):
            result = self.loss(words_BT, next_BT, state, derive_seed(self.config.seed, COPIES, self.finished, step))
        result.loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
        self.optimizer.step()
        return (
            words_BT.numel() * torch.stack([result.loss.detach(), result.mean, result.gap]).double(),
            detached(result.output[1]),
        )

    def loss(self, words_BT: Tensor, next_BT: Tensor, state: State, seed: int) -> BatchLoss:
        """The objective of one window; its output holds the logits and the state of the passes with gradient."""
        config = self.config
        return maxup_loss(
            Reading(self.model, words_BT, state),
            sequence_losses,
            GaussianNoise(config.sigma),
            torch.zeros(*words_BT.shape, config.embedding, device=self.device),
            next_BT,
            m=config.m,
            seed=seed,
            reduction=cast(Reduction, config.reduction),
            top_k=config.top_k,
            temperature=config.temperature,
            selection=cast(Selection, config.selection),
        )

    def _require(self, finite: bool, what: str) -> None:
        if not finite:
            kept = f"; what was saved after epoch {self.finished} stays" if self.finished else ""
            raise ValueError(
                f"{what} is not a finite number in epoch {self.finished + 1}{kept}; lower lr (now {self.config.lr}) or "
                f"clip (now {self.config.clip}) and give another --out."
            )
