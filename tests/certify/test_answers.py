"""Answers while somebody waits: class and radius that are valid whenever sampling stops, and why it stopped."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from oracles import HalfSpace, Pixel
from torch import Tensor, nn

from maxup_smoothing.certify import smoothing
from maxup_smoothing.certify.engine.answering import Answer, Question
from maxup_smoothing.certify.smoothing import SmoothedClassifier
from maxup_smoothing.certify.statistics.radius import ABSTAIN

DARK, BRIGHT = np.zeros((1, 2, 2), dtype=np.uint8), np.full((1, 2, 2), 255, dtype=np.uint8)
EVEN = np.full((1, 2, 2), 128, dtype=np.uint8)


def g(model: nn.Module | None = None, sigma: float = 0.25, batch_size: int = 128) -> SmoothedClassifier:
    return SmoothedClassifier((model or Pixel()).eval(), 2, sigma, batch_size=batch_size)


def test_an_easy_image_is_proved_in_one_batch() -> None:
    dark, bright = g().answers(np.stack([DARK, BRIGHT]))
    assert (dark.predict, bright.predict) == (0, 1)
    for answer in (dark, bright):
        assert (answer.reason, answer.samples, answer.alpha) == ("proved", 128, 0.001)
        assert 0 < answer.radius < 0.5


def test_a_larger_radius_takes_more_samples() -> None:
    small, large = (g().answer(DARK, radius=radius) for radius in (0.0, 0.45))
    assert large.reason == "proved"
    assert large.radius >= 0.45 > small.radius
    assert large.samples > small.samples


def test_a_radius_beyond_the_true_one_is_given_up() -> None:
    answer = g().answer(DARK, radius=0.55)  # the true one is 128 / 255
    assert answer.reason == "given up"
    assert answer.predict == 0
    assert 0 < answer.radius < 128 / 255


def test_an_image_on_the_boundary_is_an_abstention_when_all_samples_are_drawn() -> None:
    answers = [g(sigma=1.0).answer(EVEN, n=300) for _ in range(5)]
    assert {answer.reason for answer in answers} <= {"samples", "given up"}
    assert {answer.predict for answer in answers} == {ABSTAIN}
    assert {answer.radius for answer in answers} == {0.0}


def test_an_answer_is_the_certificate_of_its_seed() -> None:
    smoothed = g(HalfSpace(torch.ones(1, 2, 2), -2.0))
    answer = smoothed.answer(BRIGHT, radius=0.1)
    again = SmoothedClassifier(HalfSpace(torch.ones(1, 2, 2), -2.0).eval(), 2, 0.25, batch_size=128, seed=answer.seed)
    [proved] = again.certify(BRIGHT, n0=28, n=10_000, procedure="anytime", radii=[0.1], input_ids=[answer.input_id])
    assert (proved.predict, proved.radius, proved.n + 28) == (answer.predict, answer.radius, answer.samples)


def test_each_call_has_noise_of_its_own() -> None:
    smoothed = g()
    assert len({smoothed.answer(DARK).seed for _ in range(20)}) == 20


def test_a_float_image_off_the_grid_loses_its_distance() -> None:
    answer = g().answers(np.full((1, 1, 2, 2), 0.4 / 255))[0]
    again = SmoothedClassifier(Pixel().eval(), 2, 0.25, batch_size=128, seed=answer.seed)
    [dark] = again.certify(DARK, n0=28, n=10_000, procedure="anytime", radii=[0.0], input_ids=[answer.input_id])
    assert answer.predict == 0
    assert answer.radius == pytest.approx(dark.radius - 2 * 0.4 / 255, rel=1e-6)
    assert answer.radius < dark.radius


class Slow(Pixel):
    def forward(self, x_BCHW: Tensor) -> Tensor:
        time.sleep(0.05)
        return super().forward(x_BCHW)


def test_a_deadline_ends_sampling_with_what_is_proved() -> None:
    smoothed = g(Slow(), batch_size=64)
    smoothed.answer(DARK)
    answer = smoothed.answer(DARK, radius=0.49, deadline=0.6)
    assert answer.reason == "deadline"
    assert answer.seconds < 1.5
    assert answer.predict == 0
    assert 0 < answer.radius < 0.49
    nothing = smoothed.answer(DARK, deadline=0.0)
    assert (nothing.reason, nothing.predict, nothing.samples) == ("deadline", ABSTAIN, 0)


def test_threads_take_turns_and_get_their_own_answers() -> None:
    class Alone(Pixel):
        inside = threading.Lock()

        def forward(self, x_BCHW: Tensor) -> Tensor:
            assert self.inside.acquire(blocking=False), "two forward passes at once"
            try:
                return super().forward(x_BCHW)
            finally:
                self.inside.release()

        def __deepcopy__(self, memo: dict[int, object]) -> "Alone":
            return self

    smoothed = g(Alone())
    images = [DARK, BRIGHT] * 10

    def ask(image: np.ndarray) -> Answer:
        return smoothed.answer(image)

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, images))
    assert [answer.predict for answer in found] == [0, 1] * 10
    assert len({answer.seed for answer in found}) == 20


def test_a_model_that_changes_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval()
    smoothed = g(network)
    smoothed.answer(DARK)
    smoothed.base._model[1].bias.data += torch.tensor([0.0, 5.0])  # type: ignore[index]
    smoothed.answer(DARK)  # not looked at within the minute
    monkeypatch.setattr(smoothing, "_LOOK_EVERY", 0.0)
    with pytest.raises(ValueError, match="f has changed while it ran"):
        smoothed.answer(DARK)


def test_answer_takes_one_image() -> None:
    with pytest.raises(ValueError, match="answer takes one image, got 2; pass several to answers"):
        g().answer(np.stack([DARK, BRIGHT]))
    with pytest.raises(ValueError, match="radii must lie between 0 and"):
        g().answer(DARK, radius=99.0)
    assert g().answers(np.zeros((0, 1, 2, 2), dtype=np.uint8)) == []


def asked(smoothed: SmoothedClassifier, found: dict[str, Answer], name: str, **options: float) -> Question:
    settings = {"radius": 0.0, "n0": 28, "n": 10_000, "alpha": 0.001, **options}
    deadline = float(settings.pop("deadline", 60.0))
    sampling = smoothed.anytime_sampling(**settings)  # type: ignore[arg-type]

    def deliver(answer: Answer) -> None:
        found[name] = answer

    return smoothed.question(DARK, sampling, asked=time.monotonic(), deadline=deadline, deliver=deliver)


def test_an_easy_image_that_comes_later_is_answered_before_a_hard_one() -> None:
    smoothed, found = g(Slow(), batch_size=64), dict[str, Answer]()
    waiting = [asked(smoothed, found, "hard", radius=0.49, deadline=60.0)]
    passes = 0

    class Live(Iterator[Question]):
        def __next__(self) -> Question:
            if waiting:
                return waiting.pop()
            raise StopIteration

    def before_round() -> None:
        nonlocal passes
        passes += 1
        if passes == 3:
            waiting.append(asked(smoothed, found, "easy"))

    smoothed.serve(Live(), before_round)
    assert list(found) == ["easy", "hard"]
    assert found["easy"].reason == "proved"
    assert found["hard"].samples > found["easy"].samples
    assert found["easy"].seed != found["hard"].seed


def test_each_question_has_a_deadline_and_settings_of_its_own() -> None:
    smoothed, found = g(Slow(), batch_size=64), dict[str, Answer]()
    questions = [
        asked(smoothed, found, "never", deadline=-1.0),
        asked(smoothed, found, "soon", radius=0.49, deadline=0.7),
        asked(smoothed, found, "sure", alpha=1e-6),
        asked(smoothed, found, "later", radius=0.4),
    ]
    smoothed.serve(iter(questions))
    assert {name: answer.reason for name, answer in found.items()} == {
        "never": "deadline",
        "soon": "deadline",
        "sure": "proved",
        "later": "proved",
    }
    assert (found["never"].samples, found["never"].predict) == (0, ABSTAIN)
    assert found["sure"].alpha == 1e-6
    assert found["later"].radius >= 0.4
    assert list(found).index("soon") < list(found).index("later") or found["later"].seconds < 0.7
