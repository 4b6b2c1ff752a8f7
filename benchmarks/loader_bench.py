"""How many training images a second come from JPEG files to a float batch on the device, against the plain way?

The plain way decodes each file in full, cuts out the same random part, resizes it, and makes floats of it, as
torchvision's ImageFolder with RandomResizedCrop and ToTensor does. Both run in a DataLoader with 0, 1 and 2 workers, on
the same files, interleaved. The files are made of one photograph, matplotlib's portrait of Grace Hopper: parts of it at
the sizes named below. They were written just before, so that the disk is not measured.

Then a ResNet-18 of timm or torchvision, whichever is installed, is trained with Gaussian noise on squares of 64 pixels:
from the files of the smallest size, and from the same pictures in memory, cropped and resized once.
"""

# Shapes: B images of a batch, S side of a crop.

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import matplotlib.cbook
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks import report
from maxup_smoothing.data.formats import folder
from maxup_smoothing.data.lazy import Files, LazyImages
from maxup_smoothing.data.loader import Loader, crop_box, uniform_draws
from maxup_smoothing.data.preprocessing import Preprocessing
from maxup_smoothing.train import models, objectives
from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.loop import Trainer

SIZES = {"500x375": (500, 375), "1024x768": (1024, 768), "2048x1536": (2048, 1536)}
SCALE, RATIO, SIDE, BATCH, WORKERS = (0.25, 1.0), (3 / 4, 4 / 3), 128, 32, (0, 1, 2)
TARGET, OF_MEMORY = 1.5, 0.9
TRAINED, NETWORKS = 64, ("timm:resnet18", "torchvision:resnet18")
IN_MEMORY = "training from memory"


def photographs(root: Path, size: tuple[int, int], count: int) -> LazyImages:
    """JPEG files of that size, every third one upright."""
    rng = np.random.default_rng(0)
    with Image.open(cast(BinaryIO, matplotlib.cbook.get_sample_data("grace_hopper.jpg"))) as image:
        portrait = image.convert("RGB")
    for number in range(count):
        width, height = size if number % 3 else size[::-1]
        part = min(portrait.width / width, portrait.height / height) * rng.uniform(0.7, 1.0)
        left, top = (int(rng.uniform(0, w - part * s)) for w, s in zip(portrait.size, (width, height), strict=True))
        box = (left, top, left + part * width, top + part * height)
        picture = portrait.resize((width, height), Image.Resampling.LANCZOS, box=box)
        grain = rng.normal(0, 3, (height, width, 1))  # what a sensor adds, and enlarging takes away
        pixels = (np.asarray(picture) + grain).round().clip(0, 255).astype(np.uint8)
        path = root / str(number % 2) / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path, quality=90)
    images = folder.read(root, "train", preprocessing=Preprocessing(resize=SIDE)).images
    assert isinstance(images, LazyImages)
    return images


class Plain:
    """One image as it is usually read, in the same part of it; a data set of torch's DataLoader."""

    def __init__(self, images: LazyImages) -> None:
        assert isinstance(images.source, Files)
        self.paths = [images.source.name(index) for index in range(len(images))]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Its crop, float32 in [0, 1], (3, S, S)."""
        with Image.open(self.paths[index]) as file:
            image = file.convert("RGB")
        box = crop_box(*image.size, uniform_draws(0, 0, index), SCALE, RATIO)
        crop = image.crop(box).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(crop)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)


def ways(images: LazyImages, device: torch.device) -> dict[str, Callable[[], int]]:
    """Ours and the plain way, each with 0, 1 and 2 workers that live on."""
    order = np.arange(len(images)).reshape(-1, BATCH)
    found: dict[str, Callable[[], int]] = {}
    for workers in WORKERS:
        labels = np.zeros(len(images), dtype=np.int64)
        ours = Loader(images, labels, size=SIDE, workers=workers, scale=SCALE, ratio=RATIO)
        plain: DataLoader[Tensor] = DataLoader(
            Plain(images),  # type: ignore[arg-type]  # whatever has items will do
            batch_size=BATCH,
            num_workers=workers,
            persistent_workers=workers > 0,
        )

        def run_ours(loader: Loader = ours) -> int:
            moved = (x_BCSS.to(device) for x_BCSS, _ in loader.batches(order, seed=0, epoch=0))
            return _finished((x_BCSS.to(torch.float32).div_(255) for x_BCSS in moved), device)

        def run_plain(loader: DataLoader[Tensor] = plain) -> int:
            return _finished((x_BCSS.to(device) for x_BCSS in loader), device)

        found |= {_name("plain", workers): run_plain, _name("this loader", workers): run_ours}
    return found


def _finished(batches: Iterable[Tensor], device: torch.device) -> int:
    total = sum(len(x_BCSS) for x_BCSS in batches)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return total


def _name(way: str, workers: int) -> str:
    return f"{way}, {workers} worker{'' if workers == 1 else 's'}"


def summed_up(rates: dict[str, list[float]], sizes: Sequence[int]) -> str:
    """The table of one size, and whether the target is met with each number of workers."""
    lines = [f"mean size of a file: {np.mean(sizes) / 1000:.0f} kB", report.table(rates, "images/s", _name("plain", 0))]
    for workers in WORKERS:
        ratio = report.median_ratio(rates, _name("this loader", workers), _name("plain", workers))
        lines.append(f"{_name('this loader', workers)}: {ratio:.2f} times the plain way (target {TARGET})")
    return "\n".join(lines)


def trainings(images: LazyImages, device: torch.device) -> dict[str, Callable[[], int]]:
    """An epoch of training from memory, and from disk with 0, 1 and 2 workers.

    Raises:
        ValueError: If neither library is installed; with what to install.
    """
    stored = torch.from_numpy(np.asarray(LazyImages(images.source, Preprocessing(resize=TRAINED))))
    labels = np.arange(len(images)) % 2
    found = {IN_MEMORY: _training(stored, labels, None, device)}
    for workers in WORKERS:
        pictures = LazyImages(images.source, Preprocessing(resize=TRAINED))
        loader = Loader(pictures, labels, size=TRAINED, workers=workers, pin_memory=device.type == "cuda")
        found[_name("training from disk", workers)] = _training(pictures, labels, loader, device)
    return found


def _training(
    images: LazyImages | Tensor, labels: NDArray[np.int64], loader: Loader | None, device: torch.device
) -> Callable[[], int]:
    """An epoch of a trainer of its own."""
    config = TrainConfig(
        dataset="photographs",
        arch=_network(),
        objective="gaussian",
        sigma=0.25,
        epochs=1000,
        batch_size=BATCH,
        lr=0.001,
        resize=TRAINED,
        crop=TRAINED,
        augment=("crop", "flip") if loader is None else ("random_resized_crop", "flip"),
        probe=1,
    )
    torch.manual_seed(0)
    model = models.build(config.arch, (3, TRAINED, TRAINED), 2).to(device)
    trainer = Trainer(model, objectives.build(config), images, torch.from_numpy(labels), config, loader=loader)

    def epoch() -> int:
        trainer.epoch()
        return len(labels)

    return epoch


def _network() -> str:
    """The first of the networks that can be built here."""
    for name in NETWORKS:
        try:
            models.build(name, (3, TRAINED, TRAINED), 2)
        except ValueError as error:
            refused = error
        else:
            return name
    raise refused


def compared_with_memory(images: LazyImages, repetitions: int, device: torch.device) -> dict[str, list[float]]:
    """Measure training, and print whether the target is met with each number of workers; empty without a network."""
    try:
        ways = trainings(images, device)
    except ValueError as error:
        print(f"training is not measured: {error}\n")
        return {}
    rates = report.interleaved(ways, repetitions)
    print(f"{_network()} on {TRAINED}x{TRAINED} pixels")
    print(report.table(rates, "images/s", IN_MEMORY))
    for way in list(rates)[1:]:
        print(f"{way}: {report.median_ratio(rates, way, IN_MEMORY):.2f} of memory's rate (target {OF_MEMORY})")
    print()
    return rates


def main() -> None:
    """Measure and print."""
    options = report.arguments(__doc__)
    count, repetitions = (3 * BATCH, 3) if options.quick else (8 * BATCH, 9)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    results = {}
    with tempfile.TemporaryDirectory() as name:
        pictures = {text: photographs(Path(name) / text, size, count) for text, size in SIZES.items()}
        for text, images in pictures.items():
            rates = report.interleaved(ways(images, device), repetitions)
            assert isinstance(images.source, Files)
            print(f"photographs of {text}, crops of {SIDE}x{SIDE}")
            print(summed_up(rates, images.source.sizes) + "\n")
            results[text] = rates
        results["training"] = compared_with_memory(next(iter(pictures.values())), repetitions, device)
    report.finish(results, options.json)


if __name__ == "__main__":
    main()
