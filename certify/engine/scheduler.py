"""Certify many inputs together: each round fills batches with the samples that the inputs in hand need next."""

# Shapes: K classes; V = K + 1 kinds of vote, the last for logits that were not finite.

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maxup_smoothing.certify.engine.guard import Oversight, paced
from maxup_smoothing.certify.engine.votes import Item, count_votes
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise import ESTIMATION, PREDICTION, SELECTION, NoiseSource
from maxup_smoothing.certify.statistics.certificate import Certificate, Look, certificate_of, look_at
from maxup_smoothing.certify.statistics.prediction import PredictionSampling, prediction
from maxup_smoothing.certify.statistics.procedure import Sampling
from maxup_smoothing.certify.statistics.radius import ABSTAIN

# Samples of a round, at least: that many batches, so that the padding of the last is nothing. A kill loses the round
# and the looks of inputs that are not finished.
_BATCHES, _SAMPLES = 16, 4096
_BATCHES_WAITED_FOR = 4  # the same while somebody waits for each input


class Trial(Protocol):
    """One input on its way to an answer: the samples that it needs next, and its votes so far."""

    finished: bool

    @property
    def drawn(self) -> int:
        """Samples so far."""

    def requests(self) -> list[tuple[int, int, int]]:
        """Samples up to the next look, as (stage, start, stop)."""

    def add(self, votes: Sequence[NDArray[np.int64]]) -> None:
        """Take the votes (V,) of each request, in their order, and look at them."""


T = TypeVar("T", bound=Trial)


class Certification:
    """The votes of an input that is to be certified.

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
    def drawn(self) -> int:
        """Samples so far, those of the selection included."""
        return self._looks[-1].n + self._sampling.n0 if self._looks else 0

    def requests(self) -> list[tuple[int, int, int]]:
        """Samples up to the next look, as (stage, start, stop); the selection stage comes with the first of them."""
        stop, _ = self._sampling.schedule[len(self._looks)]
        estimation = (ESTIMATION, self._looks[-1].n if self._looks else 0, stop)
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


class Prediction:
    """The votes of an input whose class is to be predicted.

    Attributes:
        predict: The class, or ``ABSTAIN``.
        n: Samples so far.
        counts_V: int64, (K + 1,), the votes.
    """

    def __init__(self, sampling: PredictionSampling, num_classes: int) -> None:
        self._schedule, self._looks = sampling.schedule, 0
        self.predict, self.n, self.finished = ABSTAIN, 0, False
        self.counts_V = np.zeros(num_classes + 1, dtype=np.int64)

    @property
    def drawn(self) -> int:
        """Samples so far."""
        return self.n

    def requests(self) -> list[tuple[int, int, int]]:
        """Samples up to the next look, as (stage, start, stop)."""
        return [(PREDICTION, self.n, self._schedule[self._looks][0])]

    def add(self, votes: Sequence[NDArray[np.int64]]) -> None:
        """Take the votes (V,) up to the next look, and look at all so far."""
        self.counts_V = self.counts_V + votes[0]
        self.n, level = self._schedule[self._looks]
        self._looks += 1
        self.predict = prediction(self.counts_V, level)
        self.finished = self.predict != ABSTAIN or self._looks == len(self._schedule)


def certify_inputs(
    classifier: BaseClassifier,
    noise: NoiseSource,
    inputs: Iterable[tuple[int, Tensor]],
    sampling: Sampling,
    advance: Callable[[int], None] = lambda samples: None,
    oversight: Oversight | None = None,
) -> Iterator[tuple[int, Certificate, float]]:
    """Certify inputs; see ``run_trials`` for the order in which samples are drawn.

    Args:
        classifier: The base classifier f.
        noise: Where noisy copies come from.
        inputs: (input_id, image (C, H, W)) with different numbers; read as they are needed.
        sampling: The procedure.
        advance: Called with the number of samples of each batch; a negative one if some must be drawn again.
        oversight: Asked before each round, and told of each batch. If it wants no more inputs, those that are begun are
            finished.

    Yields:
        (input_id, certificate, seconds of its share of the rounds), in the order of the inputs: a table that is cut off
        holds the first of them, and not the easiest, whose certified accuracy would be too high.
    """

    def begin(input_id: int, image_CHW: Tensor) -> Certification:
        return Certification(sampling, noise.probability_error(image_CHW.numel()))

    for input_id, trial, seconds in run_trials(classifier, noise, inputs, begin, advance, oversight):
        yield input_id, trial.certificate(), seconds


def predict_inputs(
    classifier: BaseClassifier,
    noise: NoiseSource,
    inputs: Iterable[tuple[int, Tensor]],
    sampling: PredictionSampling,
    advance: Callable[[int], None] = lambda samples: None,
    oversight: Oversight | None = None,
) -> Iterator[tuple[int, Prediction, float]]:
    """PREDICT for inputs. The arguments are those of ``certify_inputs``.

    Yields:
        (input_id, its finished prediction, seconds of its share of the rounds), in the order of the inputs.
    """

    def begin(input_id: int, image_CHW: Tensor) -> Prediction:
        return Prediction(sampling, classifier.num_classes)

    return run_trials(classifier, noise, inputs, begin, advance, oversight)


def run_trials(
    classifier: BaseClassifier,
    noise: NoiseSource,
    inputs: Iterable[tuple[int, Tensor]],
    begin: Callable[[int, Tensor], T],
    advance: Callable[[int], None] = lambda samples: None,
    oversight: Oversight | None = None,
    trials: dict[int, T] | None = None,
    waited_for: bool = False,
) -> Iterator[tuple[int, T, float]]:
    """Sample inputs until all are finished; an easy one costs its share of a batch.

    A round takes the inputs that have most samples first, so that few are ever half done. It is then filled up with new
    ones.

    Args:
        classifier: The base classifier f.
        noise: Where noisy copies come from.
        inputs: See ``certify_inputs``.
        begin: From an input's number and image (C, H, W) to a trial without votes.
        advance: See ``certify_inputs``.
        oversight: See ``certify_inputs``.
        trials: An empty dict, which holds the trials of inputs that are not yet yielded, for who leaves in between.
        waited_for: Somebody waits for each input: rounds are short, and take the inputs that have fewest samples first.

    Yields:
        (input_id, its finished trial, seconds of its share of the rounds), in the order of the inputs.
    """
    waiting, oversight = iter(inputs), oversight or Oversight()
    most = max(_SAMPLES, _BATCHES * classifier.batch_size)
    if waited_for:
        most = _BATCHES_WAITED_FOR * classifier.batch_size

    images: dict[int, Tensor] = {}
    trials = {} if trials is None else trials
    seconds: dict[int, float] = {}
    begun: deque[int] = deque()
    while True:
        chosen: dict[int, list[int]] = {}  # for each input, the numbers of its items
        items: list[Item] = []
        open_ids = [input_id for input_id in begun if not trials[input_id].finished]
        candidates = iter(sorted(open_ids, key=lambda input_id: trials[input_id].drawn * (1 if waited_for else -1)))
        drawn, more = 0, oversight.go_on()
        while drawn < most:
            input_id = None if waited_for else next(candidates, None)
            if input_id is None and more and (new := next(waiting, None)) is not None:
                input_id, image_CHW = new
                images[input_id] = image_CHW
                trials[input_id] = begin(input_id, image_CHW)
                seconds[input_id] = 0.0
                begun.append(input_id)
            if input_id is None and (input_id := next(candidates, None)) is None:
                break
            requests = trials[input_id].requests()
            chosen[input_id] = [len(items) + number for number in range(len(requests))]
            items += [Item(images[input_id], input_id, *request) for request in requests]
            drawn += sum(stop - start for _, start, stop in requests)
        if not items:
            return
        start, rows = time.perf_counter(), classifier.micro_batch
        votes = count_votes(classifier, noise, items, paced(drawn, advance, oversight))
        if classifier.micro_batch != rows:  # memory ran out: it is another f from here on, see certify.models.memory
            lost = drawn
            for input_id in [*open_ids, *(input_id for input_id in chosen if input_id not in open_ids)]:
                lost += trials[input_id].drawn
                trials[input_id] = begin(input_id, images[input_id])
            advance(-lost)
            continue
        a_sample = (time.perf_counter() - start) / drawn
        for input_id, own in chosen.items():
            trials[input_id].add([votes[number] for number in own])
            seconds[input_id] += a_sample * sum(items[number].stop - items[number].start for number in own)
        while begun and trials[begun[0]].finished:
            input_id = begun.popleft()
            yield input_id, trials.pop(input_id), seconds.pop(input_id)
            del images[input_id]
