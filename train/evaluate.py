"""Test accuracy of a trained classifier, with an exact interval.

    python -m train.evaluate runs/cifar10_maxup_cutout                  its last epoch
    python -m train.evaluate runs/cifar10_maxup_cutout/best.safetensors the epoch that was best on held-out images

Run it once, at the end: whoever chooses an epoch, a recipe or a seed by what it prints has no test images left. The
numbers go to test.json beside the checkpoint. The class predicted for each image goes to test_predictions.tsv, so that
`python -m analysis results` can compare two classifiers image by image. For a classifier that was trained with noise
this is the accuracy without noise; `certify run` certifies it.
"""

# Shapes: N images, B of them in a pass, each C x H x W.

import hashlib
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from scipy.stats import binomtest
from torch import nn

from maxup_smoothing.data import preprocessing, registry, seen
from maxup_smoothing.data.dataset import Dataset, listed
from maxup_smoothing.data.runtime import console
from maxup_smoothing.data.runtime.atomic import file_sha256, write_atomically
from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.run_folder import RunFolder

BATCH = 500
PREDICTIONS = "test_predictions.tsv"

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command(help=console.manual(__doc__))
def main(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a checkpoint in one.")],
    confidence: Annotated[float, typer.Option(help="Of the two-sided Clopper-Pearson interval.")] = 0.95,
    data_root: Annotated[
        Path | None, typer.Option(envvar="DATA_ROOT", help="Where data sets lie; otherwise they are downloaded.")
    ] = None,
) -> None:
    """Measure the accuracy of RUN on the test split of its dataset."""
    path = run / "checkpoint.safetensors" if run.is_dir() else run
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}.")
    # A training would replace the checkpoint meanwhile, and a second test its files.
    with RunFolder(path.parent).held("copy the checkpoint elsewhere"):
        loaded = checkpoint.load(path)
        dataset = _test_split(path, loaded, data_root)
        _warn_of_trained(path.parent, dataset)
        predicted = predict(loaded.model, dataset, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        right = int((predicted == dataset.labels).sum())
        result = accuracy(right, len(dataset.labels), confidence)
        lines = predictions_text(dataset.labels, predicted).encode()
        described = {
            **result,
            "dataset": dataset.name,
            "split": dataset.split,
            "fingerprint": dataset.fingerprint,
            "checkpoint": path.name,
            "checkpoint_sha256": file_sha256(path),
            "epoch": loaded.metadata.get("epoch"),
            "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
            "predictions_sha256": hashlib.sha256(lines).hexdigest(),
            "torch": torch.__version__,
        }
        out = path.parent / "test.json"
        write_atomically(path.parent / PREDICTIONS, lines)  # first: test.json, by its hash, vouches for it
        write_atomically(out, json.dumps(described, indent=1).encode() + b"\n")
    print(
        f"{dataset.name}, {dataset.split}: {right} of {len(dataset.labels)} right, accuracy {result['accuracy']:.4f}, "
        f"{100 * confidence:g} % interval {result['lower']:.4f} to {result['upper']:.4f}: {out}"
    )


def accuracy(right: int, images: int, confidence: float) -> dict[str, Any]:
    """The share of right answers and its two-sided Clopper-Pearson interval.

    Over test images drawn at random the interval covers the accuracy of this one network with probability at least
    ``confidence``. What another training seed gives it does not say.
    """
    interval = binomtest(right, images).proportion_ci(confidence, method="exact")
    return {
        "right": right,
        "images": images,
        "accuracy": right / images,
        "lower": float(interval.low),
        "upper": float(interval.high),
        "confidence": confidence,
    }


@torch.inference_mode()
def predict(model: nn.Module, dataset: Dataset, device: torch.device) -> NDArray[np.int64]:
    """The class that ``model`` gives each image, in float32 and evaluation mode; int64, (N,)."""
    model = model.to(device).eval()
    images, found = dataset.images, list[torch.Tensor]()
    with console.Meter("test", "images", len(images), len(images), "images") as meter:
        for first in range(0, len(images), BATCH):
            x_BCHW = torch.from_numpy(images[first : first + BATCH])
            found.append(model(x_BCHW.to(device).float() / 255).argmax(1).cpu())
            meter.advance(len(x_BCHW), len(x_BCHW))
    return torch.cat(found).numpy()


def predictions_text(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> str:
    """A line an image: its index, class and predicted class, and whether they are the same."""
    rows = enumerate(zip(labels.tolist(), predicted.tolist(), strict=True))
    lines = [f"{idx}\t{label}\t{predict}\t{int(predict == label)}\n" for idx, (label, predict) in rows]
    return "".join(["idx\tlabel\tpredict\tcorrect\n", *lines])


def _warn_of_trained(folder: Path, dataset: Dataset) -> None:
    trained = seen.read(folder)
    if trained is not None and (known := int(np.isin(seen.hashes(dataset.images), trained).sum())):
        print(
            f"warning: {known} of the {len(dataset.images)} test images of {dataset.name} are trained on; accuracy on "
            "them says nothing about others.",
            file=sys.stderr,
        )


def _test_split(path: Path, loaded: checkpoint.Checkpoint, data_root: Path | None) -> Dataset:
    name = loaded.metadata.get("config", {}).get("dataset")
    if not isinstance(name, str):
        raise ValueError(f"{path} does not say on what it was trained; give a checkpoint of `python -m train`.")
    found = {key: loaded.metadata["config"].get(key) for key in ("resize", "crop", "interpolation")}
    found = {key: value for key, value in found.items() if value}
    how = preprocessing.recorded(found, str(path)) if found.keys() & {"resize", "crop"} else None
    dataset = registry.load(name, "test", data_root, preprocessing=how, lazy=how is not None)
    for note in dataset.notes:
        print(console.one_line(f"note: {note}"), file=sys.stderr)
    if dataset.split not in ("test", "val"):
        raise ValueError(f"{name} has no test split, only the images that {path} was trained on; give it one.")
    shape, classes = loaded.architecture.image_shape, loaded.architecture.num_classes
    if dataset.images.shape[1:] != shape or dataset.num_classes != classes:
        raise ValueError(
            f"{path} takes images of shape {shape} in {classes} classes, {name} has {dataset.images.shape[1:]} in "
            f"{dataset.num_classes}; use the dataset that it was trained on."
        )
    told = loaded.metadata.get("classes")
    if isinstance(told, list) and told != list(dataset.classes) and set(told) == set(dataset.classes):
        raise ValueError(
            f"{path} was trained with the classes {listed(told)}, in this order, but {name} has "
            f"{listed(dataset.classes)}; number the classes as in training."
        )
    return dataset


if __name__ == "__main__":
    console.run(app)
