"""Certifying or predicting a data set: from a classifier and images to a table that survives anything."""

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from maxup_smoothing.certify.engine.guard import Oversight, paced
from maxup_smoothing.certify.engine.scheduler import certify_inputs
from maxup_smoothing.certify.engine.votes import Item, count_votes
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise import PREDICTION, NoiseSource
from maxup_smoothing.certify.statistics.certificate import prediction, require_predictable
from maxup_smoothing.certify.statistics.procedure import Sampling
from maxup_smoothing.certify.statistics.radius import is_right
from maxup_smoothing.certify.tables.prediction_table import PredictionRow, PredictionTable
from maxup_smoothing.certify.tables.radius_table import RadiusTable, row_of, sparse
from maxup_smoothing.data.dataset import Dataset

GROUP_SAMPLES = 4096  # small samples of several inputs are drawn at once, in batches filled from all of them


@dataclass(frozen=True, kw_only=True)
class PredictionSettings:
    """Cohen's PREDICT and its settings, before the noise is known.

    Attributes:
        n: Samples for each input.
        alpha: Probability, at most, of a class that is not the smoothed classifier's.
    """

    n: int
    alpha: float

    def at(self, sigma: float) -> "PredictionSampling":
        """These settings for a noise.

        Raises:
            ValueError: If one of them is out of range, or n samples always abstain.
        """
        require_predictable(sigma, self.n, self.alpha)
        return PredictionSampling(sigma=sigma, n=self.n, alpha=self.alpha)


@dataclass(frozen=True, kw_only=True)
class PredictionSampling(PredictionSettings):
    """Cohen's PREDICT, its settings, and the noise.

    Attributes:
        sigma: Standard deviation of the noise in [0, 1] pixel units.
    """

    sigma: float

    @property
    def expected(self) -> int:
        """Samples of an input."""
        return self.n

    def describe(self) -> dict[str, Any]:
        """For the manifest."""
        return {"procedure": "predict", "sigma": self.sigma, "n": self.n, "alpha": self.alpha}


def certify_dataset(
    classifier: BaseClassifier,
    noise: NoiseSource,
    dataset: Dataset,
    indices: Iterable[int],
    sampling: Sampling,
    table: RadiusTable,
    report: Callable[[int, int], None] = lambda samples, rows: None,
    oversight: Oversight | None = None,
) -> None:
    """Certify the images that ``table`` does not have yet; each row is on disk before the next round of samples begins.

    Args:
        classifier: The base classifier f.
        noise: Where noisy copies come from.
        dataset: Images and labels.
        indices: Which of them, begun in this order, each asked for when there is room for it; with a procedure that
            stops early, hard ones are finished later.
        sampling: The procedure.
        table: Open for writing, with a manifest that describes all of the above.
        report: Called with the numbers of samples drawn and of rows finished since the last call.
        oversight: May end the run early, between rounds with all rows on disk.
    """
    todo = ((index, torch.from_numpy(dataset.images[index])) for index in indices if index not in table.done)
    finished = certify_inputs(classifier, noise, todo, sampling, lambda samples: report(samples, 0), oversight)
    for index, proved, seconds in finished:
        label = int(dataset.labels[index])
        table.append(
            row_of(proved, index, label, n0=sampling.n0, sigma=sampling.sigma, alpha=sampling.alpha, seconds=seconds)
        )
        report(0, 1)


def predict_dataset(
    classifier: BaseClassifier,
    noise: NoiseSource,
    dataset: Dataset,
    indices: Iterable[int],
    sampling: PredictionSampling,
    table: PredictionTable,
    report: Callable[[int, int], None] = lambda samples, rows: None,
    oversight: Oversight | None = None,
) -> None:
    """PREDICT for the images that ``table`` does not have yet; rows are on disk before the next few images begin.

    Args:
        classifier: The base classifier f.
        noise: Where noisy copies come from.
        dataset: Images and labels.
        indices: Which of them, in this order, each asked for when there is room for it.
        sampling: See ``PredictionSampling``.
        table: Open for writing, with a manifest that describes all of the above.
        report: Called with the numbers of samples drawn and of rows finished since the last call.
        oversight: May end the run early, between rounds with all rows on disk.
    """
    todo, oversight = (index for index in indices if index not in table.done), oversight or Oversight()
    size = max(1, GROUP_SAMPLES // sampling.n)
    while oversight.go_on() and (group := list(itertools.islice(todo, size))):
        start = time.perf_counter()
        items = [_item(dataset, index, PREDICTION, sampling.n) for index in group]
        counts = _votes(classifier, noise, items, lambda samples: report(samples, 0), oversight)
        share = (time.perf_counter() - start) / len(group)
        for index, votes_V in zip(group, counts, strict=True):
            label, predict = int(dataset.labels[index]), prediction(votes_V, sampling.alpha)
            table.append(
                PredictionRow(
                    idx=index,
                    label=label,
                    predict=predict,
                    correct=is_right(predict, label),
                    seconds=share,
                    n=sampling.n,
                    sigma=sampling.sigma,
                    alpha=sampling.alpha,
                    counts=sparse(votes_V),
                )
            )
            report(0, 1)


def _votes(
    classifier: BaseClassifier,
    noise: NoiseSource,
    items: Sequence[Item],
    advance: Callable[[int], None],
    oversight: Oversight,
) -> NDArray[np.int64]:
    """The votes of items, all by the same number of rows at a time; see ``certify.models.memory``."""
    total = sum(item.stop - item.start for item in items)
    while True:
        rows = classifier.micro_batch
        votes = count_votes(classifier, noise, items, paced(total, advance, oversight))
        if classifier.micro_batch == rows:
            return votes
        advance(-total)


def _item(dataset: Dataset, index: int, stage: int, samples: int) -> Item:
    return Item(torch.from_numpy(dataset.images[index]), index, stage, 0, samples)
