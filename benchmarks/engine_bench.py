"""How many noisy copies a second does certification classify, and how close is that to the bare forward pass?

Side by side, interleaved: the loop that everyone copies (one image, batches of 1,000, randn, votes counted in Python);
randomized smoothing of the Adversarial Robustness Toolbox, if it is installed; this engine with exact noise; and the
limit, the same network on inputs that are ready. On a CUDA device if there is one; ResNet-50 only there, unless
``--networks`` asks for it.
"""

import importlib.util
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks import report
from maxup_smoothing.certify.engine.votes import Item, count_votes
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.models.tuning import fastest_batch_size
from maxup_smoothing.certify.noise import ESTIMATION
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.train import models

SIGMA, CLASSES = 0.5, 10
SHAPES = {
    "lenet": (1, 28, 28),
    "resnet20": (3, 32, 32),
    "resnet110": (3, 32, 32),
    "resnet50": (3, 224, 224),
}
#: About half a second of the plain loop: on two cores, on a CUDA device.
SAMPLES = {"lenet": (4000, 400_000), "resnet20": (500, 100_000), "resnet110": (125, 20_000), "resnet50": (10, 2000)}


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


def toolbox(model: nn.Module, image_CHW: Tensor, n: int) -> int:
    """The same with the Adversarial Robustness Toolbox."""
    from art.estimators.certification.randomized_smoothing import PyTorchRandomizedSmoothing

    smoothed = PyTorchRandomizedSmoothing(
        model=model,
        loss=None,
        input_shape=tuple(image_CHW.shape),
        nb_classes=CLASSES,
        sample_size=n,
        scale=SIGMA,
        device_type="gpu" if image_CHW.is_cuda else "cpu",
    )
    smoothed.predict(image_CHW[None].cpu().numpy(), batch_size=1000)
    return n


def engine(classifier: BaseClassifier, images: Tensor, n: int) -> int:
    """This engine, on several images at once; as many samples as fill whole batches."""
    each = -(-n // (classifier.batch_size * len(images))) * classifier.batch_size
    items = [Item(image, number, ESTIMATION, 0, each) for number, image in enumerate(images)]
    return int(count_votes(classifier, ExactNoise(SIGMA, seed=0), items).sum())


def forward(classifier: BaseClassifier, x_BCHW: Tensor, n: int) -> int:
    """The limit: forward passes on a ready batch."""
    done = 0
    while done < n:
        classifier.classify(x_BCHW)
        done += len(x_BCHW)
    if x_BCHW.is_cuda:
        torch.cuda.synchronize()
    return done


def ways(name: str, n: int, device: torch.device, dtypes: tuple[str, ...]) -> dict[str, Callable[[], int]]:
    """All ways to classify n noisy copies with a network of that name."""
    shape = SHAPES[name]
    model = models.build(name, shape, CLASSES).eval().requires_grad_(False).to(device)
    images = torch.randint(256, (4, *shape), dtype=torch.uint8)
    image_CHW = images[0].to(device) / 255
    found: dict[str, Callable[[], int]] = {"plain loop": partial(plain_loop, model, image_CHW, n)}
    if importlib.util.find_spec("art") is not None:
        found["Adversarial Robustness Toolbox"] = partial(toolbox, model, image_CHW, n)
    for dtype, compile in itertools.product(dtypes, (False, True)):
        classifier = BaseClassifier(model, CLASSES, device=device, dtype=dtype, image_shape=shape)
        size = fastest_batch_size(classifier, shape)
        classifier = classifier.resized(size)
        if compile:
            classifier.compile(shape)
        if compile and classifier.compiled is not None:
            print(f"{name}, {dtype}: not compiled, since {classifier.compiled}")
            continue
        text = f"{dtype}, batch {size}{', compiled' * compile}"
        found[f"engine: {text}"] = partial(engine, classifier, images, n)
        x_BCHW = classifier.empty_batch(shape).normal_(0.5, SIGMA)
        found[f"forward alone: {text}"] = partial(forward, classifier, x_BCHW, n)
    return found


def main() -> None:
    """Measure and print."""
    options = report.arguments(__doc__, SHAPES)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    fast_bfloat16 = device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    dtypes = ("float32", "bfloat16") if fast_bfloat16 else ("float32",)
    if not fast_bfloat16:
        print("bfloat16 is not measured: this CPU has no instructions for it\n")
    results: dict[str, Any] = {}
    usual = [name for name in SHAPES if name != "resnet50" or device.type == "cuda"]
    for name in options.networks or usual:
        n = SAMPLES[name][device.type == "cuda"] * (1 if options.quick else 2)
        rates = report.interleaved(ways(name, n, device, dtypes), 3 if options.quick else 9)
        print(f"{name}, {'x'.join(map(str, SHAPES[name]))}")
        print(report.table(rates, "samples/s", "plain loop"))
        for way in rates:
            if way.startswith("engine"):
                share = report.median_ratio(rates, way, way.replace("engine", "forward alone"))
                print(f"{way} reaches {share:.2f} of its forward pass alone")
        print()
        results[name] = rates
    report.finish({"samples_per_second": results}, options.json)


if __name__ == "__main__":
    main()
