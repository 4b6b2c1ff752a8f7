"""Certifying or predicting a data set: from a classifier and images to a table that survives anything."""

from collections.abc import Callable, Iterable

import torch

from maxup_smoothing.certify.engine.guard import Oversight
from maxup_smoothing.certify.engine.scheduler import certify_inputs, predict_inputs
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise import NoiseSource
from maxup_smoothing.certify.statistics.prediction import PredictionSampling
from maxup_smoothing.certify.statistics.procedure import Sampling
from maxup_smoothing.certify.statistics.radius import is_right
from maxup_smoothing.certify.tables.prediction_table import PredictionRow, PredictionTable
from maxup_smoothing.certify.tables.radius_table import RadiusTable, row_of, sparse
from maxup_smoothing.data.dataset import Dataset


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
    """PREDICT for the images that ``table`` does not have yet; each row is on disk before the next round of samples.

    Args:
        classifier: The base classifier f.
        noise: Where noisy copies come from.
        dataset: Images and labels.
        indices: Which of them, begun in this order, each asked for when there is room for it.
        sampling: How to sample.
        table: Open for writing, with a manifest that describes all of the above.
        report: Called with the numbers of samples drawn and of rows finished since the last call.
        oversight: May end the run early, between rounds with all rows on disk.
    """
    todo = ((index, torch.from_numpy(dataset.images[index])) for index in indices if index not in table.done)
    finished = predict_inputs(classifier, noise, todo, sampling, lambda samples: report(samples, 0), oversight)
    for index, answer, seconds in finished:
        label = int(dataset.labels[index])
        table.append(
            PredictionRow(
                idx=index,
                label=label,
                predict=answer.predict,
                correct=is_right(answer.predict, label),
                seconds=seconds,
                n=answer.n,
                sigma=sampling.sigma,
                alpha=sampling.alpha,
                counts=sparse(answer.counts_V),
            )
        )
        report(0, 1)
