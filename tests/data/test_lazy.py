"""Images that are decoded when they are asked for."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import photograph, save, zoo
from PIL import Image

from maxup_smoothing.data import lazy, registry, seen
from maxup_smoothing.data.formats import folder
from maxup_smoothing.data.lazy import LazyImages
from maxup_smoothing.data.preprocessing import Preprocessing

HOW = Preprocessing(resize=32, crop=28)


def images_of(root: Path, **options: Any) -> LazyImages:
    found = folder.read(root, "test", **options).images
    assert isinstance(found, LazyImages)
    return found


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the images that are opened."""
    names, original = list[str](), Image.open

    def watched(path: Any, *rest: Any, **more: Any) -> Any:
        names.append(Path(path).name)
        return original(path, *rest, **more)

    monkeypatch.setattr(Image, "open", watched)
    return names


def test_only_the_images_that_are_asked_for_are_opened(tmp_path: Path, opened: list[str]) -> None:
    dataset = folder.read(zoo(tmp_path), "test", preprocessing=HOW)
    assert dataset.fingerprint
    assert dataset.described()
    assert len(dataset.images) == 12
    assert not opened
    dataset.images[[2, 7]]
    dataset.images[7]  # still in the cache
    assert opened == ["03.webp", "02.jpg"]


def test_they_are_indexed_as_an_array_is(tmp_path: Path) -> None:
    images = images_of(zoo(tmp_path), preprocessing=HOW)
    array = np.asarray(images)
    assert (images.shape, images.dtype, images.ndim, len(images)) == (array.shape, array.dtype, 4, 12)
    for index in (
        3,
        -1,
        np.int64(5),
        slice(None, 5),
        slice(8, 2, -2),
        [4, 0, 4],
        np.array([1, 2]),
        np.arange(12) > 9,
        [],
    ):
        np.testing.assert_array_equal(images[index], array[index])
    np.testing.assert_array_equal(np.stack(list(images)), array)
    assert images[0].flags.writeable  # as torch wants it
    images[0][:] = 0
    np.testing.assert_array_equal(images[0], array[0])
    for wrong in (12, -13, [12]):
        with pytest.raises(IndexError):
            images[wrong]
    with pytest.raises(TypeError, match="a number, a slice, or a sequence"):
        images[0, 0]


def test_the_cache_keeps_to_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]) -> None:
    monkeypatch.setattr(lazy, "_CACHE", 3 * 3 * 28 * 28)
    images = images_of(zoo(tmp_path), preprocessing=HOW)
    for index in (0, 1, 2, 0, 3, 0, 1):
        images[index]
    assert opened == ["01.jpg", "02.png", "03.webp", "04.jpg", "02.png"]


def test_the_fingerprint_tells_what_an_index_means(tmp_path: Path) -> None:
    root = zoo(tmp_path / "a")
    first = folder.read(root, "test", preprocessing=HOW).fingerprint
    assert folder.read(zoo(tmp_path / "b"), "test", preprocessing=HOW).fingerprint == first  # wherever it is
    assert folder.read(root, "test", preprocessing=Preprocessing(resize=32, crop=27)).fingerprint != first
    assert folder.read(root, "test", preprocessing=Preprocessing(resize=33, crop=28)).fingerprint != first
    other = Preprocessing(resize=32, crop=28, interpolation="bicubic")
    assert folder.read(root, "test", preprocessing=other).fingerprint != first
    path = root / "cat" / "02.png"
    path.rename(root / "cat" / "02x.png")
    assert folder.read(root, "test", preprocessing=HOW).fingerprint != first
    (root / "cat" / "02x.png").rename(path)
    assert folder.read(root, "test", preprocessing=HOW).fingerprint == first
    path.write_bytes(path.read_bytes() + b"\0")
    assert folder.read(root, "test", preprocessing=HOW).fingerprint != first


def test_an_image_that_is_not_the_recorded_one_is_refused_by_name(tmp_path: Path) -> None:
    images = images_of(zoo(tmp_path), preprocessing=HOW)
    digests = images.digests([0, 8])
    assert list(digests) == [0, 8]
    again = images_of(tmp_path, preprocessing=HOW).expecting(digests)
    np.testing.assert_array_equal(again[8], images[8])
    path = tmp_path / "dog" / "03.bmp"
    content = bytearray(path.read_bytes())
    content[-400:-200] = bytes(200)  # of the same size
    path.write_bytes(content)
    changed = images_of(tmp_path, preprocessing=HOW).expecting(digests)
    changed[0]
    with pytest.raises(ValueError, match=r"03\.bmp has other pixels than the image 8 that was certified"):
        changed[8]


def test_a_large_folder_of_one_size_is_the_same_array_lazily(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    for number in range(6):
        image = photograph(number, 20, 20)
        save(tmp_path / "ab"[number % 2] / f"{number}.png", image.convert("L") if number < 3 else image)
    whole = folder.read(tmp_path, "test")
    assert isinstance(whole.images, np.ndarray)
    assert isinstance(folder.read(tmp_path, "test", lazy=True).images, np.ndarray)  # it is small
    monkeypatch.setattr(lazy, "LARGE", 6 * 3 * 400 - 1)
    opened.clear()
    found = folder.read(tmp_path, "test", lazy=True)
    assert found.images.shape == (6, 3, 20, 20)
    assert found.described()["fingerprint_of"] == lazy.NAMES_AND_SIZES
    assert len(opened) < 6
    np.testing.assert_array_equal(np.asarray(found.images), whole.images)
    # A manifest of before has the fingerprint of all pixels.
    assert found.described(whole.described()) == whole.described()
    assert found.described(found.described()) == found.described()
    np.testing.assert_array_equal(seen.hashes(found.images, [1, 4]), seen.hashes(whole.images)[[1, 4]])


def test_a_large_folder_of_gray_images_has_one_channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lazy, "LARGE", 0)
    for number in range(3):
        save(tmp_path / f"{number}.png", photograph(number, 20, 20).convert("L"))
    found = folder.read(tmp_path, "test", lazy=True)
    assert found.images.shape == (3, 1, 20, 20)
    np.testing.assert_array_equal(np.asarray(found.images), folder.read(tmp_path, "test").images)


def test_an_image_of_another_size_in_a_large_folder_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lazy, "LARGE", 0)
    save(tmp_path / "1.png", photograph(1, 20, 20))
    save(tmp_path / "2.png", photograph(2, 20, 21))
    images = images_of(tmp_path, lazy=True)
    images[0]
    with pytest.raises(
        ValueError, match=r"got 20x20 in .*1\.png and 20x21 in .*2\.png; resize or crop .* pass --resize"
    ):
        images[1]


def test_they_travel_to_other_processes(tmp_path: Path) -> None:
    images = images_of(zoo(tmp_path), preprocessing=HOW)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(images))[3], images[3])


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "not a readable image"),
        (lambda path: path.write_bytes(b""), "not a readable image"),
        (lambda path: path.write_bytes(b"GIF89a" + bytes(50)), "not a readable image"),
        (lambda path: path.write_text("<svg/>"), "not a readable image"),
        (
            lambda path: save(path, Image.fromarray(np.zeros((40, 40), np.uint16))),
            "expected 8 bits per channel, got mode I;16",
        ),
        (lambda path: save(path, Image.new("RGBA", (40, 40), (1, 2, 3, 4))), "has transparent pixels; flatten it"),
    ],
)
def test_a_file_that_is_no_usable_image_is_refused_by_name_when_it_is_used(
    tmp_path: Path, spoil: Any, match: str
) -> None:
    spoil(save(tmp_path / "a" / "bad.png", photograph(1, 40, 40)))
    save(tmp_path / "a" / "good.png", photograph(2, 40, 40))
    images = images_of(tmp_path, preprocessing=HOW)
    images[1]
    with pytest.raises(ValueError, match=rf"a.bad\.png: {match}"):
        images[0]


def test_a_link_to_nowhere_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")
    save(tmp_path / "b.png", photograph(2, 40, 40))
    with pytest.raises(ValueError, match=r"a\.png: no regular file"):
        images_of(tmp_path, preprocessing=HOW)[0]


def test_training_images_need_not_be_like_those_of_other_splits(tmp_path: Path) -> None:
    for half, size in (("train", (40, 50)), ("test", (60, 33))):
        save(tmp_path / half / "a" / "1.png", photograph(1, *size))
    assert registry.load(str(tmp_path), "train", preprocessing=HOW).images.shape == (1, 3, 28, 28)
