"""Run folders whose accuracy on test images was measured by `python -m train.evaluate`, without noise."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from maxup_smoothing.analysis.runs.folders import TrainedFolder, load_trained, read_object
from maxup_smoothing.data.runtime.untrusted import read_bytes

ACCURACY = "test.json"
EVALUATE = "measure its accuracy with `python -m train.evaluate {folder}`"
_PREDICTIONS, _COLUMNS = "test_predictions.tsv", ["idx", "label", "predict", "correct"]
_LARGEST = 100_000_000


@dataclass(frozen=True, eq=False)
class Predictions:
    """Of each test image in order: its class, int64, (images,), and whether the prediction was right, bool."""

    labels: NDArray[np.int64]
    correct: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class AccuracyFolder(TrainedFolder):
    """What training and evaluation left.

    Attributes:
        name: As shown.
        test: test.json as it was read.
        right: Test images that were classified rightly.
        images: All of them, at least 1.
        predictions: Image by image; None where test.json knows of none.
    """

    name: str
    test: Mapping[str, Any]
    right: int
    images: int
    predictions: Predictions | None

    @property
    def dataset(self) -> str:
        """The data whose test images were classified."""
        return str(self.test.get("dataset") or self.config.get("dataset", "unknown"))

    def warnings(self) -> list[str]:
        """What a reader must know before using the numbers."""
        found = super().warnings()
        planned, epoch = self.config.get("epochs"), self.test.get("epoch")
        if planned is not None and isinstance(epoch, int) and epoch < planned:
            found.append(f"evaluated after epoch {epoch} of {planned}, from {self.test.get('checkpoint')}")
        trained = self.config.get("dataset")
        if trained is not None and trained != self.dataset:
            found.append(f"trained on {trained}, evaluated on {self.dataset}")
        return found


def load_accuracy(path: Path, name: str) -> AccuracyFolder:
    """Read a run folder with test.json.

    Raises:
        ValueError: If a file is missing or damaged, or the predictions are not those of test.json.
        OSError: If one cannot be read.
    """
    trained, remedy = load_trained(path), EVALUATE.format(folder=path)
    test = read_object(path / ACCURACY, remedy)
    right, images = test.get("right"), test.get("images")
    if type(right) is not int or type(images) is not int or not 0 <= right <= images or not 0 < images < 10**9:
        raise ValueError(f"{path / ACCURACY} must tell how many of how many images are right; {remedy}.")
    predictions = None
    if "predictions_sha256" in test:
        predictions = _predictions(path / _PREDICTIONS, test["predictions_sha256"], remedy)
        if (int(predictions.correct.sum()), len(predictions.correct)) != (right, images):
            raise ValueError(f"{path / _PREDICTIONS} and {ACCURACY} count different images; {remedy}.")
    return AccuracyFolder(name=name, test=test, right=right, images=images, predictions=predictions, **vars(trained))


def _predictions(path: Path, sha256: object, remedy: str) -> Predictions:
    if not path.is_file():
        raise ValueError(f"{path.parent} has no {path.name}: {remedy}.")
    content = read_bytes(path, _LARGEST)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path} is not the file that {ACCURACY} was written with; {remedy}.")
    try:
        if content.partition(b"\n")[0].decode().split("\t") != _COLUMNS:
            raise ValueError(f"its columns must be {', '.join(_COLUMNS)}")
        table = pd.read_csv(io.BytesIO(content), sep="\t", dtype=np.int64)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path} is damaged ({error}); {remedy}.") from None
    if table["idx"].tolist() != list(range(len(table))):
        raise ValueError(f"{path} is damaged: idx must count the images from 0; {remedy}.")
    return Predictions(table["label"].to_numpy(), (table["predict"] == table["label"]).to_numpy())
