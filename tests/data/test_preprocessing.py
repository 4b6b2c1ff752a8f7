"""Pictures of any size as a network takes them: one rule, the same pixels everywhere."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import photograph, save, zoo
from PIL import Image, ImageOps

from maxup_smoothing.data import preprocessing, registry
from maxup_smoothing.data.formats import folder
from maxup_smoothing.data.preprocessing import Preprocessing

HOW = Preprocessing(resize=32, crop=28)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(60, 40), (40, 61), (50, 50), (33, 90)])
def test_the_shorter_side_is_resized_and_the_centre_cut_out(size: tuple[int, int], interpolation: str) -> None:
    image = photograph(0, *size)
    found = Preprocessing(resize=32, crop=27, interpolation=interpolation).apply(image, "x")
    # torchvision's Resize(32) and CenterCrop(27), whose arithmetic this is.
    width, height = size
    wanted = (32, int(32 * height / width)) if width <= height else (int(32 * width / height), 32)
    resized = np.asarray(image.resize(wanted, Image.Resampling[interpolation.upper()]))
    top, left = round((resized.shape[0] - 27) / 2.0), round((resized.shape[1] - 27) / 2.0)
    np.testing.assert_array_equal(found, resized[top : top + 27, left : left + 27].transpose(2, 0, 1))
    assert found.flags.c_contiguous


def test_without_a_crop_it_is_a_square_of_the_shorter_side() -> None:
    assert Preprocessing(resize=20).apply(photograph(0, 60, 40), "x").shape == (3, 20, 20)
    assert Preprocessing(resize=20).described() == Preprocessing(resize=20, crop=20).described()
    assert str(HOW) == "shorter side resized to 32 (bilinear), centre of 28x28 pixels, RGB"


def test_without_resizing_the_pixels_are_those_that_are_stored(tmp_path: Path) -> None:
    image = photograph(0, 9, 7)
    save(tmp_path / "a" / "1.png", image)
    found = folder.read(tmp_path, "test", preprocessing=Preprocessing(crop=5)).images[0]
    np.testing.assert_array_equal(found, np.asarray(image)[1:6, 2:7].transpose(2, 0, 1))


@pytest.mark.parametrize("rotation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_a_picture_is_turned_as_its_tag_says(tmp_path: Path, rotation: int, ending: str) -> None:
    path = save(tmp_path / "a" / f"1.{ending}", photograph(rotation, 48, 40), rotation)
    with Image.open(path) as image:
        wanted = HOW.apply(ImageOps.exif_transpose(image).convert("RGB"), "x")
    np.testing.assert_array_equal(folder.read(tmp_path, "test", preprocessing=HOW).images[0], wanted)


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr", "RGBA", "LA"])
def test_every_mode_of_eight_bits_becomes_rgb_or_gray(tmp_path: Path, mode: str) -> None:
    image = photograph(3, 40, 36).convert("L" if mode == "LA" else "RGB").convert(mode)
    path = save(tmp_path / "a" / ("1.jpg" if mode in ("CMYK", "YCbCr") else "1.png"), image)
    with Image.open(path) as stored:
        for gray in (False, True):
            how = Preprocessing(resize=32, crop=28, grayscale=gray)
            found = folder.read(tmp_path, "test", preprocessing=how).images
            assert found.shape == (1, 1 if gray else 3, 28, 28)
            first = stored.convert("L" if stored.mode in ("1", "L", "LA") else "RGB")
            np.testing.assert_array_equal(found[0], how.apply(first.convert("L" if gray else "RGB"), "x"))


def test_pixels_of_a_folder_are_these_on_every_machine(tmp_path: Path) -> None:
    # Lossless files alone: what a JPEG or WebP decodes to is their libraries' affair. Made with Pillow 13.0.
    for number, size in enumerate([(60, 40), (41, 67)]):
        pixels = np.random.default_rng(number).integers(0, 256, (*size, 3), dtype=np.uint8)
        save(tmp_path / "a" / f"{number}.png", Image.fromarray(pixels))
    found = [
        hashlib.sha256(np.asarray(folder.read(tmp_path, "test", preprocessing=how).images).tobytes()).hexdigest()[:16]
        for how in (HOW, Preprocessing(resize=32, crop=28, interpolation="bicubic"))
    ]
    assert found == ["abb0ab3547de7723", "a90f841d05433aa8"]


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({}, "need resize or crop"),
        ({"resize": 0}, "resize must be a whole number of pixels from 1 to 4096, got 0"),
        ({"resize": 5000}, "resize must be a whole number of pixels from 1 to 4096, got 5000"),
        ({"crop": -1}, "crop must be a whole number"),
        ({"crop": True}, "crop must be a whole number"),
        ({"resize": 32.0}, "resize must be a whole number"),
        ({"resize": 28, "crop": 32}, "crop must be at most resize, the shorter side, got crop 32 and resize 28"),
        ({"resize": 28, "interpolation": "cubic"}, "interpolation must be one of nearest, box, bilinear"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(values: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        Preprocessing(**values)
    if values:
        with pytest.raises(ValueError, match=rf"m\.json: {match.partition(', got')[0]}"):
            preprocessing.recorded(values, "m.json")


def test_a_rule_that_was_recorded_is_read_back() -> None:
    for how in (HOW, Preprocessing(crop=5, grayscale=True), Preprocessing(resize=9, interpolation="bicubic")):
        found = preprocessing.recorded(how.described(), "m")
        assert found is not None
        assert found.described() == how.described()
    assert preprocessing.recorded(None, "m") is None
    for strange in ([1], {"resize": 3, "size": 4}, {"resize": 3, "grayscale": "no"}):
        with pytest.raises(ValueError, match=r"^m: "):
            preprocessing.recorded(strange, "m")


def test_an_image_smaller_than_the_crop_is_refused_by_name(tmp_path: Path) -> None:
    save(tmp_path / "a" / "small.png", photograph(0, 20, 30))
    images = folder.read(tmp_path, "test", preprocessing=Preprocessing(crop=24)).images
    with pytest.raises(
        ValueError, match=r"small\.png: the image is 20x30, smaller than the crop of 24; pass --resize 24"
    ):
        images[0]


def test_a_strip_does_not_fill_the_memory(tmp_path: Path) -> None:
    save(tmp_path / "a" / "strip.png", Image.new("RGB", (20_000, 1)))
    images = folder.read(tmp_path, "test", preprocessing=Preprocessing(resize=256, crop=224)).images
    with pytest.raises(ValueError, match=r"strip\.png: the image of 20000x1 is far too long"):
        images[0]


def test_a_photograph_of_24_megapixels_is_taken_where_it_is_made_smaller(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", Image.new("RGB", (6000, 4000), (1, 2, 3)))
    found = folder.read(tmp_path, "test", preprocessing=HOW).images[0]
    assert (found[:, 5, 5] == [1, 2, 3]).all()
    with pytest.raises(ValueError, match="suspiciously large"):
        folder.read(tmp_path, "test")


def test_images_of_arrays_are_resized_too_and_gray_ones_stay_gray() -> None:
    plain = registry.load("fashion-sample", "test")
    found = registry.load("fashion-sample", "test", preprocessing=Preprocessing(resize=32))
    assert found.images.shape == (2000, 1, 32, 32)
    wanted = Image.fromarray(np.asarray(plain.images)[7, 0]).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(found.images[7], np.asarray(wanted)[None])
    assert found.fingerprint != plain.fingerprint
    assert found.described()["preprocessing"]["grayscale"] is True


def test_a_zoo_of_pictures_is_read(tmp_path: Path) -> None:
    dataset = folder.read(zoo(tmp_path), "test", preprocessing=HOW)
    assert dataset.images.shape == (12, 3, 28, 28)
    assert dataset.classes == ("cat", "dog")
    np.testing.assert_array_equal(dataset.labels, [0] * 6 + [1] * 6)
    assert np.asarray(dataset.images).std(axis=(1, 2, 3)).min() > 5
