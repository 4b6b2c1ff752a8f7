"""Forward passes for which memory does not suffice: fewer rows at a time, and the same votes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from little_memory import IMAGES, Small, votes
from oracles import Pixel
from torch import Tensor, nn

from maxup_smoothing.certify.engine.datasets import predict_dataset
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.models.memory import in_parts
from maxup_smoothing.certify.models.tuning import fastest_batch_size
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.statistics.prediction import PredictionSampling
from maxup_smoothing.certify.tables.prediction_table import PredictionTable
from maxup_smoothing.data.dataset import Dataset
from maxup_smoothing.data.runtime.memory import is_out_of_memory
from maxup_smoothing.data.runtime.user_code import ModelError


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
@pytest.mark.parametrize("procedure", [{}, {"procedure": "anytime", "tolerance": 0.2, "n": 3000}])
@pytest.mark.parametrize(("most", "left"), [(31, 25), (1, 1)])
def test_where_memory_runs_out_fewer_rows_go_through_and_the_votes_are_the_same(
    error: type[BaseException], procedure: dict[str, Any], most: int, left: int
) -> None:
    told: list[int] = []
    classifier = BaseClassifier(Small(most, error, after=12), 2, batch_size=100)
    classifier.on_smaller = lambda: told.append(classifier.micro_batch)
    assert votes(classifier, **procedure) == votes(BaseClassifier(Pixel().eval(), 2, batch_size=100), **procedure)
    assert classifier.micro_batch == told[-1] == left
    assert told[0] == 50


def test_no_row_mixes_votes_of_two_batch_sizes() -> None:
    class Size(nn.Module):
        """Another class for another number of rows, as rounding may have it: all rows but one would be torn."""

        seen = 0

        def forward(self, x_BCHW: Tensor) -> Tensor:
            Size.seen += 1
            if Size.seen > 5 and len(x_BCHW) > 16:
                raise torch.OutOfMemoryError
            return nn.functional.one_hot(torch.full((len(x_BCHW),), int(len(x_BCHW) > 16)), 2).float()

    for row in votes(BaseClassifier(Size().eval(), 2, batch_size=32), n=64):
        assert sorted(row[3]) == [0, 0, 64]


def test_parts_have_one_size() -> None:
    sizes: list[int] = []

    def double(x_BCHW: Tensor) -> Tensor:
        sizes.append(len(x_BCHW))
        return 2 * x_BCHW.flatten(1)

    x_BCHW = torch.arange(11.0).reshape(11, 1, 1, 1)
    for rows in range(1, 13):
        assert torch.equal(in_parts(double, x_BCHW, rows), 2 * x_BCHW.flatten(1))
    assert sizes[:11] == [1] * 11
    assert sizes[11:17] == [2] * 6


@pytest.mark.parametrize("error", [RuntimeError("shape mismatch"), ValueError("memory"), KeyError("out of memory")])
def test_an_error_of_another_kind_is_not_taken_for_lack_of_memory(error: Exception) -> None:
    class Broken(nn.Module):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            raise error

    assert not is_out_of_memory(error)
    classifier = BaseClassifier(Broken().eval(), 2, batch_size=8)
    with pytest.raises(ModelError, match=f"{type(error).__name__}.*{error.args[0]}"):
        classifier.classify(torch.zeros(8, 1, 2, 2))
    assert classifier.micro_batch == 8


def test_memory_that_does_not_do_is_one_line_with_the_fix() -> None:
    with pytest.raises(ValueError, match=r"memory ran out at 1 rows, the fewest .*; pass --dtype bfloat16"):
        BaseClassifier(Small(0), 2, batch_size=8).classify(torch.zeros(8, 1, 2, 2))
    fixed = BaseClassifier(Small(4), 2, batch_size=8, smallest_batch=8)  # an ONNX file, an exported program
    with pytest.raises(ValueError, match="memory ran out at 8 rows, the fewest that the model takes; export it"):
        fixed.classify(torch.zeros(8, 1, 2, 2))
    compiled = BaseClassifier(Small(4), 2, batch_size=8)
    compiled.compiled = None
    with pytest.raises(ValueError, match="a compiled network takes no other; pass --compile off"):
        compiled.classify(torch.zeros(8, 1, 2, 2))


def test_the_batch_size_that_is_measured_is_one_that_fits() -> None:
    assert fastest_batch_size(BaseClassifier(Small(100), 2), (1, 2, 2)) in (32, 64)
    with pytest.raises(ValueError, match="out of memory at a batch of 32; pass a smaller --batch-size"):
        fastest_batch_size(BaseClassifier(Small(8), 2), (1, 2, 2))


def test_predict_draws_again_what_memory_cut_short(tmp_path: Path) -> None:
    data = Dataset(name="d", split="test", images=IMAGES.numpy(), labels=np.zeros(5, np.int64), classes=("a", "b"))
    sampling, found = PredictionSampling(sigma=0.5, n=300, alpha=0.01), []
    for model in (Small(20, after=9), Pixel().eval()):
        with PredictionTable.open(tmp_path / f"{type(model).__name__}.tsv", {}) as table:
            predict_dataset(
                BaseClassifier(model, 2, batch_size=64), ExactNoise(0.5, 1), data, range(5), sampling, table
            )
            found.append([(row.predict, row.counts) for row in table.done.values()])
    assert found[0] == found[1]
