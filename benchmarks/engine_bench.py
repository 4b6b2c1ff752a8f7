"""How many noisy copies a second does certification classify, and how close is that to the bare forward pass?

Side by side, interleaved: the loop that everyone copies (one image, batches of 1,000, randn, votes counted in Python);
randomized smoothing of the Adversarial Robustness Toolbox, if it is installed; this engine; and the limit, the same
network on inputs that are ready.
"""

import importlib.util
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import report
from certify.classifier import BaseClassifier
from certify.engine import Item, count_votes
from certify.noise import ESTIMATION, NoiseSource
from certify.noise.floating import FloatNoise
from certify.tuning import fastest_batch_size
from train import models

SIGMA, CLASSES = 0.5, 10
MODELS = {"lenet": (1, 28, 28), "resnet20": (3, 32, 32), "resnet110": (3, 32, 32)}


def plain_loop(model: nn.Module, image_CHW: Tensor, n: int) -> int:
    """Votes as in the script that this research field copies."""
    counts, left = np.zeros(CLASSES, dtype=int), n
    with torch.no_grad():
        while left > 0:
            size = min(1000, left)
            left -= size
            batch = image_CHW.repeat((size, 1, 1, 1))
            predictions = model(batch + torch.randn_like(batch) * SIGMA).argmax(1)
            for index in predictions.cpu().numpy():
                counts[index] += 1
    return int(counts.sum())


def toolbox(model: nn.Module, image_CHW: Tensor, shape: tuple[int, int, int], n: int) -> int:
    """The same with the Adversarial Robustness Toolbox."""
    from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing

    smoothed = PyTorchRandomizedSmoothing(
        model=model, loss=None, input_shape=shape, nb_classes=CLASSES, sample_size=n, scale=SIGMA, device_type="cpu"
    )
    smoothed.predict(image_CHW[None].numpy(), batch_size=1000)
    return n


def engine(classifier: BaseClassifier, noise: NoiseSource, images: Tensor, n: int) -> int:
    """This engine, on several images at once."""
    each = -(-n // len(images))
    items = [Item(image, number, ESTIMATION, 0, each) for number, image in enumerate(images)]
    return int(count_votes(classifier, noise, items).sum())


def forward(classifier: BaseClassifier, x_BCHW: Tensor, n: int) -> int:
    """The limit: forward passes on a ready batch."""
    done = 0
    while done < n:
        classifier.classify(x_BCHW)
        done += len(x_BCHW)
    return done


def main() -> None:
    """Measure and print."""
    options = report.arguments(__doc__)
    results: dict[str, Any] = {}
    for name, shape in MODELS.items():
        model = models.build(name, shape, CLASSES).eval().requires_grad_(False)
        size = fastest_batch_size(model, CLASSES, shape, torch.device("cpu"), "float32")
        classifier = BaseClassifier(model, CLASSES, batch_size=size, image_shape=shape)
        images = torch.randint(256, (4, *shape), dtype=torch.uint8)
        # About a second of the plain loop on a slow machine.
        n = {"lenet": 8000, "resnet20": 1000, "resnet110": 250}[name] // (2 if options.quick else 1)
        x_BCHW = classifier.empty_batch(shape).normal_(0.5, SIGMA)
        ways: dict[str, Callable[[], int]] = {
            "plain loop": partial(plain_loop, model, images[0] / 255, n),
            "engine, float32": partial(engine, classifier, FloatNoise(SIGMA, 0), images, n),
            "forward alone, float32": partial(forward, classifier, x_BCHW, n),
        }
        if importlib.util.find_spec("art") is not None:
            ways["Adversarial Robustness Toolbox"] = partial(toolbox, model, images[0] / 255, shape, n)
        rates = report.interleaved(ways, 3 if options.quick else 9)
        print(f"{name}, {'x'.join(map(str, shape))}, batches of {size}")
        print(report.table(rates, "samples/s", "plain loop"), end="\n\n")
        results[name] = {"batch_size": size, "samples_per_second": rates}
    report.finish(results, options.json)


if __name__ == "__main__":
    main()
