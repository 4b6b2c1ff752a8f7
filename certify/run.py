"""Certifying or predicting a data set: from a classifier and images to a table that survives anything."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from certify.classifier import BaseClassifier
from certify.engine import Item, count_votes
from certify.noise import ESTIMATION, PREDICTION, SELECTION, NoiseSource
from certify.predictions import PredictionRow, PredictionTable
from certify.procedures import Certificate, certificate, prediction
from certify.radius import ABSTAIN
from certify.table import ABSTAINED, CERTIFIED, INVALID, RadiusTable, Row
from data.dataset import Dataset

GROUP_SAMPLES = 4096  # small samples of several inputs are drawn at once, in batches filled from all of them


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Cohen's CERTIFY with a fixed number of samples: its settings.

    Attributes:
        sigma: Standard deviation of the noise in [0, 1] pixel units.
        n0: Selection samples for each input.
        n: Estimation samples for each input.
        alpha: Failure probability of each certificate.
    """

    sigma: float
    n0: int
    n: int
    alpha: float

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {"procedure": "fixed", "bound": "clopper-pearson", **vars(self)}


@dataclass(frozen=True, kw_only=True)
class PredictionSampling:
    """Cohen's PREDICT: its settings.

    Attributes:
        sigma: Standard deviation of the noise in [0, 1] pixel units.
        n: Samples for each input.
        alpha: Probability, at most, of a class that is not the smoothed classifier's.
    """

    sigma: float
    n: int
    alpha: float

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {"procedure": "predict", **vars(self)}


def certify_dataset(
    classifier: BaseClassifier,
    noise: NoiseSource,
    dataset: Dataset,
    indices: Sequence[int],
    sampling: Sampling,
    table: RadiusTable,
    report: Callable[[int, int], None] = lambda samples, rows: None,
) -> None:
    """Certify the images that ``table`` does not have yet; each row is on disk before the next image begins.

    Args:
        classifier: The base classifier f.
        noise: Where noisy copies come from.
        dataset: Images and labels.
        indices: Which of them, in this order.
        sampling: See ``Sampling``.
        table: Open for writing, with a manifest that describes all of the above.
        report: Called with the numbers of samples drawn and of rows finished since the last call.
    """
    todo = [index for index in indices if index not in table.done]
    for group in _groups(todo, max(1, GROUP_SAMPLES // sampling.n0)):
        start = time.perf_counter()
        items = [_item(dataset, index, SELECTION, sampling.n0) for index in group]
        selections = count_votes(classifier, noise, items, lambda samples: report(samples, 0))
        share = (time.perf_counter() - start) / len(group)  # of the selection, for the column `time`
        for index, selection_V in zip(group, selections, strict=True):
            start = time.perf_counter()
            item = _item(dataset, index, ESTIMATION, sampling.n)
            [estimation_V] = count_votes(classifier, noise, [item], lambda samples: report(samples, 0))
            error = noise.probability_error(dataset.images[index].size)
            proved = certificate(selection_V, estimation_V, sampling.alpha, sampling.sigma, error)
            row = _row(index, int(dataset.labels[index]), proved, sampling, share + time.perf_counter() - start)
            table.append(row)
            report(0, 1)


def predict_dataset(
    classifier: BaseClassifier,
    noise: NoiseSource,
    dataset: Dataset,
    indices: Sequence[int],
    sampling: PredictionSampling,
    table: PredictionTable,
    report: Callable[[int, int], None] = lambda samples, rows: None,
) -> None:
    """PREDICT for the images that ``table`` does not have yet; rows are on disk before the next few images begin.

    Args:
        classifier: The base classifier f.
        noise: Where noisy copies come from.
        dataset: Images and labels.
        indices: Which of them, in this order.
        sampling: See ``PredictionSampling``.
        table: Open for writing, with a manifest that describes all of the above.
        report: Called with the numbers of samples drawn and of rows finished since the last call.
    """
    todo = [index for index in indices if index not in table.done]
    for group in _groups(todo, max(1, GROUP_SAMPLES // sampling.n)):
        start = time.perf_counter()
        items = [_item(dataset, index, PREDICTION, sampling.n) for index in group]
        counts = count_votes(classifier, noise, items, lambda samples: report(samples, 0))
        share = (time.perf_counter() - start) / len(group)
        for index, votes_V in zip(group, counts, strict=True):
            label, predict = int(dataset.labels[index]), prediction(votes_V, sampling.alpha)
            table.append(
                PredictionRow(
                    idx=index,
                    label=label,
                    predict=predict,
                    correct=predict == label,
                    seconds=share,
                    n=sampling.n,
                    sigma=sampling.sigma,
                    alpha=sampling.alpha,
                    counts=_sparse(votes_V),
                )
            )
            report(0, 1)


def _groups(indices: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for start in range(0, len(indices), size):
        yield indices[start : start + size]


def _item(dataset: Dataset, index: int, stage: int, samples: int) -> Item:
    return Item(torch.from_numpy(dataset.images[index]), index, stage, 0, samples)


def _row(index: int, label: int, proved: Certificate, sampling: Sampling, seconds: float) -> Row:
    return Row(
        idx=index,
        label=label,
        predict=proved.predict,
        radius=proved.radius,
        correct=proved.predict == label,
        seconds=seconds,
        n0=sampling.n0,
        n=sampling.n,
        n_a=proved.n_a,
        p_a_lower=proved.p_a_lower,
        sigma=sampling.sigma,
        alpha=sampling.alpha,
        status=ABSTAINED if proved.predict == ABSTAIN else CERTIFIED,
        counts=_sparse(proved.counts),
    )


def _sparse(votes_V: NDArray[np.int64]) -> dict[int, int]:
    counts = {number: int(count) for number, count in enumerate(votes_V[:-1]) if count}
    return {**counts, INVALID: int(votes_V[-1])} if votes_V[-1] else counts
