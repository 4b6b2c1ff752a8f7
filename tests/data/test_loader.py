"""Training images from disk: crops that depend on seed, epoch and image alone."""

# Shapes: B images of a batch, C channels, S side of a crop.

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import photograph, save, zoo
from PIL import Image
from torch import Tensor

from maxup_smoothing.data import loader
from maxup_smoothing.data.dataset import Dataset
from maxup_smoothing.data.formats import folder
from maxup_smoothing.data.lazy import LazyImages
from maxup_smoothing.data.loader import Loader, crop_box, uniform_draws
from maxup_smoothing.data.preprocessing import Preprocessing, turned
from maxup_smoothing.data.runtime import console

HOW = Preprocessing(resize=32, crop=28)
ORDER = [[3, 0, 11, 7], [5, 5, 1], [2]]


def read(root: Path, how: Preprocessing = HOW) -> tuple[LazyImages, Dataset]:
    dataset = folder.read(root, "train", preprocessing=how)
    assert isinstance(dataset.images, LazyImages)
    return dataset.images, dataset


def batches(root: Path, order: list[list[int]] = ORDER, seed: int = 1, epoch: int = 2, **options: Any) -> list[Tensor]:
    images, dataset = read(root)
    with Loader(images, dataset.labels, size=16, **options) as crops:
        found = list(crops.batches(order, seed=seed, epoch=epoch))
    for indices, (x_BCSS, y_B) in zip(order, found, strict=True):
        assert x_BCSS.dtype == torch.uint8
        assert x_BCSS.shape == (len(indices), 3, 16, 16)
        assert x_BCSS.is_contiguous(memory_format=torch.channels_last)
        assert y_B.tolist() == dataset.labels[indices].tolist()
    return [x_BCSS for x_BCSS, _ in found]


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(tmp_path: Path, workers: int) -> None:
    zoo(tmp_path)
    for mine, theirs in zip(batches(tmp_path), batches(tmp_path, workers=workers, prefetch=1), strict=True):
        assert torch.equal(mine, theirs)


def test_a_crop_depends_on_seed_epoch_and_image_alone(tmp_path: Path) -> None:
    zoo(tmp_path)
    first = torch.cat(batches(tmp_path))
    alone = torch.cat(batches(tmp_path, [[index] for batch in ORDER for index in batch]))
    assert torch.equal(first, alone)
    assert torch.equal(first[4], first[5])
    for other in (batches(tmp_path, seed=3), batches(tmp_path, epoch=3)):
        assert (torch.cat(other) != first).flatten(1).any(1).all()


def test_what_is_drawn_stays_what_it_is() -> None:
    # Weights of a resumed run depend on it.
    assert uniform_draws(1, 2, 3)[:2] == [0.7533191645081069, 0.4785488898092053]
    draws = np.array([uniform_draws(0, 0, index) for index in range(2000)])
    assert draws.min() >= 0
    assert draws.max() < 1
    # Each column's mean is normal about 1/2 with deviation 1/sqrt(12 * 2000): 5 of these, for 22 columns, 1e-5.
    assert abs(draws.mean(0) - 0.5).max() < 5 / math.sqrt(12 * 2000)


def test_a_box_lies_in_the_image_with_the_area_and_the_shape_that_were_asked_for() -> None:
    inside = 0
    for index in range(500):
        draws = uniform_draws(0, 0, index)
        left, top, right, bottom = crop_box(500, 375, draws, (0.25, 1.0), (3 / 4, 4 / 3))
        across, down = right - left, bottom - top
        assert 0 <= left < right <= 500
        assert 0 <= top < bottom <= 375
        assert 0.24 < across * down / (500 * 375) <= 1
        assert 0.74 < across / down < 1.35
        inside += right == 500
    assert inside < 60  # places are spread
    assert crop_box(10, 1000, uniform_draws(0, 0, 0), (0.9, 1.0), (0.9, 1.1)) == (0, 494, 10, 505)
    assert crop_box(1000, 10, uniform_draws(0, 0, 0), (0.9, 1.0), (0.9, 1.1)) == (494, 0, 505, 10)
    assert crop_box(1, 1, uniform_draws(0, 0, 0), (0.25, 1.0), (3 / 4, 4 / 3)) == (0, 0, 1, 1)


def test_a_jpeg_that_is_decoded_at_half_its_size_gives_nearly_the_same_crop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        save(tmp_path / "a" / f"{number}.jpg", photograph(number, 500, 375))
    images, dataset = read(tmp_path)
    sizes, original = list[tuple[int, int]](), loader._decoded

    def watched(image: Image.Image, factor: int) -> Image.Image:
        found = original(image, factor)
        sizes.append(found.size)
        return found

    monkeypatch.setattr(loader, "_decoded", watched)
    with Loader(images, dataset.labels, size=64) as crops:
        reduced = next(crops.batches([range(4)], seed=0, epoch=0))[0]
    assert all(width <= 250 for width, _ in sizes)
    monkeypatch.setattr(loader, "_decoded", lambda image, factor: original(image, 1))
    with Loader(images, dataset.labels, size=64) as crops:
        whole = next(crops.batches([range(4)], seed=0, epoch=0))[0]
    assert (reduced.int() - whole.int()).abs().double().mean() < 1
    assert (reduced.int() - whole.int()).abs().max() < 12


@pytest.mark.parametrize("rotation", [2, 3, 4, 5, 6, 7, 8])
def test_a_turned_picture_is_cropped_as_it_is_looked_at(tmp_path: Path, rotation: int) -> None:
    save(tmp_path / "a" / "1.png", photograph(0, 60, 40), rotation)
    images, dataset = read(tmp_path)
    shape = 2 / 3 if rotation >= 5 else 3 / 2
    with Loader(images, dataset.labels, size=40, scale=(1.0, 1.0), ratio=(shape, shape)) as crops:
        found = next(crops.batches([[0]], seed=0, epoch=0))[0][0].numpy()
    with Image.open(tmp_path / "a" / "1.png") as image:
        whole = np.asarray(turned(image).resize((40, 40), Image.Resampling.BILINEAR))
    np.testing.assert_allclose(found.astype(int), whole.transpose(2, 0, 1).astype(int), atol=1)


def test_gray_images_stay_gray(tmp_path: Path) -> None:
    zoo(tmp_path)
    images, dataset = read(tmp_path, Preprocessing(resize=32, grayscale=True))
    with Loader(images, dataset.labels, size=16) as crops:
        assert next(crops.batches([range(12)], seed=0, epoch=0))[0].shape == (12, 1, 16, 16)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path, workers: int) -> None:
    (zoo(tmp_path) / "cat" / "03.webp").write_bytes(b"RIFF")
    with pytest.raises(ValueError, match=r"^[^\n]*cat.03\.webp: not a readable image [^\n]*replace or remove it\.$"):
        batches(tmp_path, workers=workers)


@pytest.mark.parametrize("workers", [0, 2])
def test_files_that_cannot_be_read_are_skipped_and_counted_where_that_is_asked_for(
    tmp_path: Path, workers: int
) -> None:
    root = zoo(tmp_path)
    (root / "cat" / "03.webp").write_bytes(b"RIFF")
    (root / "cat" / "04.jpg").write_bytes(b"")
    (root / "dog" / "06.webp").write_bytes(b"")
    images, dataset = read(root)
    with Loader(images, dataset.labels, size=16, workers=workers, skip_unreadable=True) as crops:
        (x_BCSS, y_B), _ = crops.batches([[2, 11, 7], [3]], seed=0, epoch=0)
        assert crops.unreadable == {2, 3, 11}
        assert y_B.tolist() == [0, 0, 1]  # image 4 for 2, and image 0 for 11
        (again, _), *_ = crops.batches([[7, 4]], seed=0, epoch=0)
        assert torch.equal(again[0], x_BCSS[2])
        assert crops.unreadable == {2, 3, 11}


def test_an_image_that_is_held_out_never_takes_anothers_place(tmp_path: Path) -> None:
    root = zoo(tmp_path)
    (root / "cat" / "03.webp").write_bytes(b"")
    (root / "dog" / "06.webp").write_bytes(b"")
    images, dataset = read(root)
    trained = [1, 2, 6, 7, 11]
    with Loader(images, dataset.labels, size=16, skip_unreadable=True, among=trained) as crops:
        (x_BCSS, y_B), _ = crops.batches([[2, 11], [6]], seed=0, epoch=0)
    assert y_B.tolist() == [1, 0]  # image 6 for 2, image 1 for 11
    draws = uniform_draws(0, 0, 2)
    with images.source.opened(6) as image:
        box = crop_box(*image.size, draws, (0.25, 1.0), (3 / 4, 4 / 3))
        wanted = image.convert("RGB").resize((16, 16), Image.Resampling.BILINEAR, box=box, reducing_gap=2.0)
    np.testing.assert_array_equal(x_BCSS[0].permute(1, 2, 0).numpy(), np.asarray(wanted))


def test_a_folder_without_a_readable_file_is_refused(tmp_path: Path) -> None:
    for number in range(3):
        save(tmp_path / "a" / f"{number}.png", photograph(0, 9, 9)).write_bytes(b"")
    images, dataset = read(tmp_path)
    crops = Loader(images, dataset.labels, size=16, skip_unreadable=True)
    with pytest.raises(ValueError, match="none of the images can be read"):
        list(crops.batches([[1]], seed=0, epoch=0))


def test_an_epoch_that_was_left_does_not_reach_into_the_next(tmp_path: Path) -> None:
    images, dataset = read(zoo(tmp_path))
    order = [[number] for number in range(12)]
    with Loader(images, dataset.labels, size=16, workers=2) as crops:
        first = crops.batches(order, seed=0, epoch=0)
        next(first)
        second = [x_BCSS for x_BCSS, _ in crops.batches(order, seed=0, epoch=1)]
    with Loader(images, dataset.labels, size=16) as crops:
        for mine, (theirs, _) in zip(second, crops.batches(order, seed=0, epoch=1), strict=True):
            assert torch.equal(mine, theirs)


KILLED = """
import os, signal, sys, time
from pathlib import Path
from typing import Any
from maxup_smoothing.data.formats import folder
from maxup_smoothing.data.loader import Loader
from maxup_smoothing.data.preprocessing import Preprocessing
from maxup_smoothing.data.runtime import console

def main():
    dataset = folder.read(Path(sys.argv[1]), "train", preprocessing=Preprocessing(resize=32))
    with Loader(dataset.images, dataset.labels, size=16, workers=1) as crops:
        for number, _ in enumerate(crops.batches([[k % 12] for k in range(5000)], seed=0, epoch=0)):
            if number == 30:
                os.kill(crops._loader._iterator._workers[0].pid, signal.SIGKILL)
            time.sleep(0.001)

console.run(main)
"""


def test_a_worker_that_was_killed_is_told_in_one_line(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, zoo(tmp_path)], capture_output=True, text=True)
    assert done.returncode == console.USAGE_ERROR
    assert done.stderr.startswith("error: a process that decodes images has died (")
    assert done.stderr.count("\n") == 1
    assert "use fewer workers" in done.stderr


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"size": 0}, "size and prefetch must be at least 1"),
        ({"workers": -1}, "workers at least 0"),
        ({"prefetch": 0}, "prefetch must be at least 1"),
        ({"scale": (0.0, 1.0)}, "scale must be two parts of an image's area"),
        ({"scale": (0.5, 1.5)}, "scale must be"),
        ({"ratio": (2.0, 1.0)}, "ratio must be two positive numbers"),
        ({"ratio": (1.0, math.inf)}, "ratio must be"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path: Path, options: dict[str, object], match: str) -> None:
    images, dataset = read(zoo(tmp_path))
    with pytest.raises(ValueError, match=match):
        Loader(images, dataset.labels, **{"size": 16, **options})  # type: ignore[arg-type]
