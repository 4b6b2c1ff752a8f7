"""PREDICT that stops as soon as the votes decide: its error, by exact dynamic programming, and its answers."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from oracles import Pixel
from scipy import stats
from shared_runs import COMMAND, SEED, here, run
from table_lines import lines

from maxup_smoothing.certify.engine.scheduler import predict_inputs
from maxup_smoothing.certify.engine.votes import Item, count_votes
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise import PREDICTION
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.smoothing import SmoothedClassifier
from maxup_smoothing.certify.statistics.prediction import PredictionSampling, prediction, schedule
from maxup_smoothing.certify.statistics.radius import ABSTAIN

_here = here
Looks = tuple[tuple[int, float], ...]


def settings(n: int, alpha: float) -> PredictionSampling:
    return PredictionSampling(sigma=0.5, n=n, alpha=alpha, procedure="sequential")


def of_two(looks: Looks, p: float) -> tuple[float, float]:
    """The exact probability of a wrong answer for two classes, where the first has probability p <= 1/2; and the mean
    number of samples."""
    law, drawn, wrong, samples = np.ones(1), 0, 0.0, 0.0
    for n, level in looks:
        samples += law.sum() * (n - drawn)
        law = np.convolve(law, stats.binom.pmf(np.arange(n - drawn + 1), n - drawn, p))
        drawn, first = n, np.arange(n + 1)
        answers = np.array([prediction(np.array([k, n - k, 0]), level) for k in first])
        wrong += law[answers == 0].sum()
        law = np.where(answers == ABSTAIN, law, 0.0)
    return wrong, samples


def of_equals(looks: Looks, classes: int) -> float:
    """The same for so many classes whose probabilities are equal but for a trifle, by their sorted votes."""
    law, answered = {(0,) * classes: 1.0}, 0.0
    for drawn in range(1, looks[-1][0] + 1):
        new = defaultdict[tuple[int, ...], float](float)
        for votes, weight in law.items():
            for count, times in Counter(votes).items():
                grown = list(votes)
                grown[grown.index(count)] += 1
                new[tuple(sorted(grown, reverse=True))] += weight * times / classes
        law = new
        for n, level in looks:
            if n == drawn:
                decided = [votes for votes in law if prediction(np.array([*votes, 0]), level) != ABSTAIN]
                answered += sum(law.pop(votes) for votes in decided)
    return answered * (classes - 1) / classes


@pytest.mark.parametrize(("n", "alpha"), [(1000, 0.001), (100, 0.05), (20, 0.01), (11, 0.001), (300, 0.3)])
def test_the_error_for_two_classes_is_at_most_alpha(n: int, alpha: float) -> None:
    looks = settings(n, alpha).schedule
    assert looks[-1][0] == n
    assert sum(level for _, level in looks) <= alpha
    for p in (0.1, 0.3, 0.45, 0.49, 0.4999, 0.5):
        assert of_two(looks, p)[0] <= alpha


@pytest.mark.parametrize(("classes", "n", "alpha"), [(3, 60, 0.3), (10, 36, 0.5)])
def test_the_error_for_more_classes_is_at_most_alpha(classes: int, n: int, alpha: float) -> None:
    looks = settings(n, alpha).schedule
    assert len(looks) == 8
    assert 0.001 < of_equals(looks, classes) <= alpha


def test_looking_with_all_of_alpha_each_time_errs_too_often() -> None:
    looks = settings(1000, 0.001).schedule
    assert of_two(tuple((n, 0.001) for n, _ in looks), 0.5)[0] > 0.003


def test_unanimous_votes_decide_at_the_first_look() -> None:
    looks = settings(1000, 0.001).schedule
    first, level = looks[0]
    assert prediction(np.array([first, 0, 0]), level) == 0
    assert prediction(np.array([first - 1, 0, 0]), level) == ABSTAIN
    assert (len(looks), first) == (14, 14)
    means = [round(of_two(looks, 1 - p)[1]) for p in (1.0, 0.95, 0.8)]
    assert means == [14, 22, 57]  # as the docstring of `schedule` says


def test_few_samples_are_one_look() -> None:
    assert schedule(11, 0.001).looks == (11,)
    assert settings(11, 0.001).schedule == ((11, 0.001),)


def test_answers_are_those_of_the_rule_on_the_same_stream() -> None:
    images = torch.randint(0, 256, (12, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    f, noise, sampling = BaseClassifier(Pixel().eval(), 2, batch_size=8), ExactNoise(0.5, 3), settings(400, 0.01)
    found = {idx: answer for idx, answer, _ in predict_inputs(f, noise, enumerate(images), sampling)}
    assert list(found) == list(range(12))
    assert {answer.n for answer in found.values()} >= {sampling.schedule[0][0], 400}, "easy ones and hard ones"
    for idx, image_CHW in enumerate(images):
        for n, level in sampling.schedule:
            [votes_V] = count_votes(f, noise, [Item(image_CHW, idx, PREDICTION, 0, n)])
            if (expected := prediction(votes_V, level)) != ABSTAIN or n == 400:
                break
        assert (found[idx].predict, found[idx].n) == (expected, n)
        assert (found[idx].counts_V == votes_V).all()


def test_the_library_predicts_with_fewer_samples() -> None:
    images = np.stack([np.zeros((1, 2, 2), dtype=np.uint8), np.full((1, 2, 2), 255, dtype=np.uint8)])
    g = SmoothedClassifier(Pixel().eval(), 2, 0.25, batch_size=4, seed=1)
    classes = g.predict(images, procedure="sequential")
    assert (classes == g.predict(images)).all()
    assert (classes != ABSTAIN).all()
    with pytest.raises(ValueError, match="procedure must be one of fixed, sequential, got 'anytime'"):
        g.predict(images, procedure="anytime")


def test_the_command_writes_the_samples_of_each_image(capsys: pytest.CaptureFixture[str]) -> None:
    command = [part for part in COMMAND if part not in ("--n0", "20")]
    command = ["predict", *command[1:-1], "p.tsv", *SEED, "--procedure", "sequential"]
    assert run(*command, "--limit", "10") == 0
    assert "median" in capsys.readouterr().out
    assert run(*command) == 0, "it goes on"
    header, *rows = lines("p.tsv")
    samples = [int(row[header.index("n")]) for row in rows]
    assert len(samples) == 24
    assert min(samples) < 200
    sampling = json.loads(Path("p.manifest.json").read_text())["sampling"]
    assert sampling["procedure"] == "predict-sequential"
    assert {n for n, _ in sampling["looks"]} >= set(samples)
    assert run(*[part for part in command if part not in ("--procedure", "sequential")]) == 2, "of another procedure"
