"""Where images wait: one thread answers them, and those in hand share forward passes."""

import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

from numpy.typing import NDArray

from maxup_smoothing.certify.engine.answering import Answer, Question
from maxup_smoothing.certify.serving.counters import Counters
from maxup_smoothing.certify.smoothing import SmoothedClassifier
from maxup_smoothing.certify.statistics.procedure import Sampling
from maxup_smoothing.data.runtime import console

#: Selection samples. With the first look at the votes they fill a batch of 128.
N0 = 28


class Failed(Exception):
    """The network cannot answer; the message says why."""


class Desk(Iterator[Question]):
    """Answers for images, in a thread of its own.

    Args:
        smoothed: Who answers.
        counters: Told of rounds and answers.

    Attributes:
        failure: Why the network could not answer at the last try; None if it could.
    """

    def __init__(self, smoothed: SmoothedClassifier, counters: Counters) -> None:
        self._smoothed, self._counters = smoothed, counters
        self._waiting: deque[tuple[Question, Future[Answer]]] = deque()
        self._in_hand: set[Future[Answer]] = set()
        self._changed = threading.Condition()
        self._open = True
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._work, name="certify-answers", daemon=True)
        self._thread.start()

    def ask(self, image_CHW: NDArray[Any], sampling: Sampling, asked: float, deadline: float) -> Future[Answer]:
        """The answer for an image, once it is known.

        Args:
            image_CHW: uint8, or float64 in [0, 1].
            sampling: Of ``SmoothedClassifier.anytime_sampling``.
            asked: When its request came, in the time of ``time.monotonic``.
            deadline: Seconds from then.
        """
        future: Future[Answer] = Future()

        def deliver(answer: Answer) -> None:
            self._counters.answered(answer.reason, answer.samples, time.monotonic() - asked)
            self.failure = None
            self._in_hand.discard(future)
            future.set_result(answer)

        question = self._smoothed.question(image_CHW, sampling, asked=asked, deadline=deadline, deliver=deliver)
        with self._changed:
            self._waiting.append((question, future))
            self._changed.notify()
        return future

    def __next__(self) -> Question:
        """The next question that somebody still waits for."""
        with self._changed:
            while self._waiting:
                question, future = self._waiting.popleft()
                if future.set_running_or_notify_cancel():
                    self._in_hand.add(future)
                    return question
        raise StopIteration

    def close(self) -> None:
        """Answer what waits, and end the thread."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while self._something_waits():
            try:
                self._smoothed.serve(self, self._counters.round_begun)
            except Exception as error:  # whatever the model's code or a lost device raises
                self.failure = console.one_line(error, 500) if isinstance(error, ValueError) else type(error).__name__
                print(f"error: the network cannot answer: {self.failure}", file=sys.stderr, flush=True)
                while self._in_hand:
                    self._in_hand.pop().set_exception(Failed(self.failure))

    def _something_waits(self) -> bool:
        """Wait until something does, or, without anything, until the end."""
        with self._changed:
            while self._open and not self._waiting:
                self._changed.wait()
            return bool(self._waiting)
