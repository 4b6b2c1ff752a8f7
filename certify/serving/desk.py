"""Where images wait: one thread takes those of equal settings together, so that they share forward passes."""

import sys
import threading
import time
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.certify.serving.counters import Counters
from maxup_smoothing.certify.smoothing import Answer, SmoothedClassifier
from maxup_smoothing.data.runtime import console

#: Selection samples. With the first look at the votes they fill a batch of 128.
N0 = 28
_MOST = 64  # images of a group


@dataclass(frozen=True)
class Settings:
    """What an answer is to prove, and at what cost; see ``SmoothedClassifier.answers``."""

    radius: float
    n: int
    alpha: float


@dataclass
class _Waiting:
    image_CHW: NDArray[Any]
    settings: Settings
    until: float
    begun: float
    answer: Future[Answer] = field(default_factory=Future)


class Failed(Exception):
    """The network cannot answer; the message says why."""


class Desk:
    """Answers for images, in a thread of its own, by groups of equal settings.

    Args:
        smoothed: Who answers.
        counters: Told of groups and answers.

    Attributes:
        failure: Why the network could not answer the last group; None if it could.
    """

    def __init__(self, smoothed: SmoothedClassifier, counters: Counters) -> None:
        self._smoothed, self._counters = smoothed, counters
        self._waiting: deque[_Waiting] = deque()
        self._changed = threading.Condition()
        self._open = True
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._work, name="certify-answers", daemon=True)
        self._thread.start()

    def ask(self, image_CHW: NDArray[Any], settings: Settings, begun: float, deadline: float) -> Future[Answer]:
        """The answer for an image, once it is known.

        Args:
            image_CHW: uint8, or float64 in [0, 1].
            settings: What it is to prove.
            begun: When its request came, in the time of ``time.monotonic``.
            deadline: Seconds from then.
        """
        one = _Waiting(image_CHW, settings, begun + deadline, begun)
        with self._changed:
            self._waiting.append(one)
            self._changed.notify()
        return one.answer

    def close(self) -> None:
        """Answer what waits, and end the thread."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while found := self._group():
            group = [one for one in found if one.answer.set_running_or_notify_cancel()]
            try:
                if group:
                    self._answer(group)
                    self.failure = None
            except Exception as error:  # whatever the model's code or a lost device raises
                text = console.one_line(error, 500) if isinstance(error, ValueError) else type(error).__name__
                self.failure = text
                print(f"error: the network cannot answer: {text}", file=sys.stderr, flush=True)
                for one in group:
                    if not one.answer.done():
                        one.answer.set_exception(Failed(text))

    def _group(self) -> list[_Waiting]:
        """The oldest that waits, and all of its settings; empty when there is nothing more to do."""
        with self._changed:
            while self._open and not self._waiting:
                self._changed.wait()
            group: list[_Waiting] = []
            others: deque[_Waiting] = deque()
            for one in self._waiting:
                same = not group or (one.settings, one.image_CHW.dtype) == (group[0].settings, group[0].image_CHW.dtype)
                (group if same and len(group) < _MOST else others).append(one)
            self._waiting = others
            return group

    def _answer(self, group: list[_Waiting]) -> None:
        begun = time.monotonic()
        settings = group[0].settings
        self._counters.grouped(len(group))

        def deliver(number: int, answer: Answer) -> None:
            one = group[number]
            self._counters.answered(answer.reason, answer.samples, time.monotonic() - one.begun)
            one.answer.set_result(answer)

        self._smoothed.answers(
            np.stack([one.image_CHW for one in group]),
            radius=settings.radius,
            n0=N0,
            n=settings.n,
            alpha=settings.alpha,
            deadline=[one.until - begun for one in group],
            deliver=deliver,
        )
