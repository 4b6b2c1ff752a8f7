"""Answers while somebody waits: images that come at any time share forward passes, and each has its own deadline."""

# Shapes: C channels, H height, W width.

import math
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from maxup_smoothing.certify.engine.guard import Oversight
from maxup_smoothing.certify.engine.scheduler import Certification, run_trials
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise import NoiseSource
from maxup_smoothing.certify.noise.source import noise_source
from maxup_smoothing.certify.statistics.certificate import Certificate
from maxup_smoothing.certify.statistics.procedure import Sampling
from maxup_smoothing.certify.statistics.radius import ABSTAIN

_ID = 0  # of each image under its own seed


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is known of one image when sampling stops.

    Attributes:
        predict: The class of the smoothed classifier, or ``ABSTAIN`` (-1) if none is proved.
        radius: l2 radius, in [0, 1] pixel units, within which the class cannot change; 0.0 for an abstention.
        alpha: Probability, at most, that class or radius are wrong.
        samples: Noisy copies that were classified for this image.
        seconds: From the call to the answer.
        reason: Why sampling stopped: "proved" (the radius asked for), "given up" (more samples would hardly prove it),
            "samples" (all n were drawn), or "deadline".
        seed: Seed of the noise, drawn from the operating system for each image, so that nobody can choose an image for
            its noise.
        input_id: Number of the image under that seed.
    """

    predict: int
    radius: float
    alpha: float
    samples: int
    seconds: float
    reason: str
    seed: int
    input_id: int


@dataclass(frozen=True, kw_only=True)
class Question:
    """An image that somebody waits for.

    Attributes:
        image_CHW: uint8, or float32 in [0, 1], as the noise takes it.
        moved: l2 distance from the image that was sent.
        sampling: The procedure "anytime" with the radius to be proved.
        until: Its deadline, in the time of ``time.monotonic``; one more forward pass may end after it.
        asked: When it was asked.
        deliver: Called once with the answer.
    """

    image_CHW: Tensor
    moved: float
    sampling: Sampling
    until: float = math.inf
    asked: float = field(default_factory=time.monotonic)
    deliver: Callable[[Answer], None]


def answer_all(
    classifier: BaseClassifier,
    noise: str,
    questions: Iterator[Question],
    before_round: Callable[[], None] = lambda: None,
) -> None:
    """Answer questions until there are none.

    Args:
        classifier: The base classifier f.
        noise: Name of the source of noise.
        questions: Asked for more before each round and after each batch, also after it had none.
        before_round: Called before each round of samples; it may raise.
    """
    answering = _Answering(noise, questions, before_round)
    with suppress(_Answering.Over):
        answering.batch_done(0.0)
        for input_id, _, _ in run_trials(
            classifier,
            answering,
            answering,
            answering.begin,
            oversight=answering,
            trials=answering.trials,
            waited_for=True,
        ):
            answering.forget(input_id)


class _Trial(Certification):
    """An image whose sampling also ends when its time is over."""

    def __init__(self, question: Question, error: float, ended: Callable[[], None]) -> None:
        super().__init__(question.sampling, error)
        self._until, self._ended, self.decided = question.until, ended, False

    def add(self, votes: Sequence[NDArray[np.int64]]) -> None:
        """Take the votes of each request, look at them, and look at the clock."""
        super().add(votes)
        self.decided = self.finished
        self.finished = self.finished or time.monotonic() > self._until
        if self.finished:
            self._ended()


class _Answering(Oversight, Iterator[tuple[int, Tensor]]):
    """The questions in hand, each answered as soon as its votes decide or its time is over.

    It is what ``run_trials`` asks for inputs and for noise, of which each image has its own.
    """

    class Over(Exception):
        """There are no more questions."""

    def __init__(self, noise: str, questions: Iterator[Question], before_round: Callable[[], None]) -> None:
        self._name, self._questions, self._before_round = noise, questions, before_round
        self._open: dict[int, Question] = {}
        self._waiting: deque[int] = deque()
        self._asked: dict[int, Question] = {}  # with those that are answered and still in hand
        self._seeds: dict[int, int] = {}
        self._sources: dict[int, NoiseSource] = {}
        self._count = 0
        self.trials: dict[int, _Trial] = {}

    def _take(self) -> None:
        while (question := next(self._questions, None)) is not None:
            self._open[self._count] = self._asked[self._count] = question
            self._seeds[self._count] = secrets.randbits(64)
            self._waiting.append(self._count)
            self._count += 1

    def __next__(self) -> tuple[int, Tensor]:
        """The next image that has no answer yet, for now."""
        self._take()
        while self._waiting:
            input_id = self._waiting.popleft()
            if input_id in self._open:
                return input_id, self._open[input_id].image_CHW
            self.forget(input_id)
        raise StopIteration

    def begin(self, input_id: int, image_CHW: Tensor) -> _Trial:
        """An image without votes."""
        question = self._asked[input_id]
        source = noise_source(self._name, question.sampling.sigma, self._seeds[input_id])
        self._sources[input_id] = source
        return _Trial(question, source.probability_error(image_CHW.numel()), lambda: self._end(input_id))

    def forget(self, input_id: int) -> None:
        """Nothing more is drawn for this image."""
        del self._asked[input_id], self._seeds[input_id]
        self._sources.pop(input_id, None)

    def go_on(self) -> bool:
        """Called before each round."""
        if self._open:
            self._before_round()
        return True

    def batch_done(self, seconds: float) -> None:
        """Called after each batch: answers those whose time is over.

        Raises:
            Over: If no question is left.
        """
        self._take()
        now = time.monotonic()
        for input_id in [input_id for input_id, question in self._open.items() if now > question.until]:
            self._end(input_id)
        if not self._open:
            raise self.Over

    def _end(self, input_id: int) -> None:
        if (question := self._open.pop(input_id, None)) is not None:
            question.deliver(_answer(question, self.trials.get(input_id), self._seeds[input_id]))

    def fill(self, out_BCHW: Tensor, image_CHW: Tensor, *, input_id: int, stage: int, start: int) -> None:
        """Write noisy copies of an image, from its own source."""
        self._sources[input_id].fill(out_BCHW, image_CHW, input_id=_ID, stage=stage, start=start)

    def probability_error(self, dimension: int) -> float:
        """The largest one of the sources; each trial has that of its own."""
        return max((source.probability_error(dimension) for source in self._sources.values()), default=0.0)

    def describe(self) -> dict[str, Any]:
        """The name of the sources."""
        return {"source": self._name}


def _answer(question: Question, trial: _Trial | None, seed: int) -> Answer:
    """What an image's votes prove, if it has any."""
    predict, radius, samples, reason, sampling = ABSTAIN, 0.0, 0, "deadline", question.sampling
    if trial is not None and trial.drawn:
        proved = moved_by(question.moved, trial.certificate())
        predict, radius, samples = proved.predict, proved.radius, trial.drawn
        if trial.decided:
            wanted = sampling.to_decide[0]
            enough = predict != ABSTAIN and radius >= wanted
            reason = "proved" if enough else "samples" if samples == sampling.n0 + sampling.most else "given up"
    return Answer(
        predict=predict,
        radius=radius,
        alpha=sampling.alpha,
        samples=samples,
        seconds=time.monotonic() - question.asked,
        reason=reason,
        seed=seed,
        input_id=_ID,
    )


def moved_by(distance: float, proved: Certificate) -> Certificate:
    """The certificate of an input at that l2 distance from the certified one: the ball around it inside the ball.

    Beyond the radius nothing is proved, and the result is an abstention.
    """
    if distance == 0:
        return proved
    radius = float(np.nextafter(proved.radius - distance, 0.0))
    if radius <= 0:
        return replace(proved, predict=ABSTAIN, radius=0.0)
    return replace(proved, radius=radius)
