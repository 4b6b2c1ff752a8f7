"""Folders of class folders."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from maxup_smoothing.data.dataset import UNLABELLED
from maxup_smoothing.data.formats import folder

RGB = np.random.default_rng(0).integers(0, 256, (6, 5, 4, 3), dtype=np.uint8)
GRAY = RGB[..., 0]


def save(path: Path, pixels: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three dogs and two cats, written in no particular order."""
    save(tmp_path / "dog" / "b.png", RGB[4])
    save(tmp_path / "cat" / "2.bmp", RGB[1])
    save(tmp_path / "dog" / "c.PNG", RGB[5])
    save(tmp_path / "dog" / "a.png", RGB[3])
    save(tmp_path / "cat" / "1.png", RGB[0])
    return tmp_path


def test_classes_and_files_come_in_the_order_of_their_names(root: Path) -> None:
    (root / "README.txt").write_text("not a class")
    (root / "cat" / "notes.txt").write_text("not an image")
    (root / ".thumbnails").mkdir()
    dataset = folder.read(root, "test")
    np.testing.assert_array_equal(dataset.images, RGB[[0, 1, 3, 4, 5]].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(dataset.labels, [0, 0, 1, 1, 1])
    assert dataset.classes == ("cat", "dog")
    assert (dataset.name, dataset.split) == (str(root), "folder")


def test_grayscale_images_keep_one_channel(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", GRAY[0])
    save(tmp_path / "b" / "1.png", GRAY[1])
    np.testing.assert_array_equal(folder.read(tmp_path, "test").images, GRAY[:2, None])


def test_one_colour_image_makes_all_of_them_rgb(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", GRAY[0])
    save(tmp_path / "b" / "1.png", RGB[1])
    images = folder.read(tmp_path, "test").images
    np.testing.assert_array_equal(images[0], np.stack([GRAY[0]] * 3))
    np.testing.assert_array_equal(images[1], RGB[1].transpose(2, 0, 1))


def test_palette_bilevel_and_opaque_images_are_converted_without_loss(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    bits = GRAY[0] > 127
    Image.fromarray(RGB[0]).quantize(256).save(tmp_path / "a" / "1.png")
    Image.fromarray(RGB[1]).convert("RGBA").save(tmp_path / "a" / "2.png")
    Image.fromarray(bits).save(tmp_path / "a" / "3.png")
    images = folder.read(tmp_path, "test").images
    np.testing.assert_array_equal(images[0], RGB[0].transpose(2, 0, 1))
    np.testing.assert_array_equal(images[1], RGB[1].transpose(2, 0, 1))
    np.testing.assert_array_equal(images[2, 0], 255 * bits)


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".webp", ".tif", ".ppm"])
def test_the_usual_formats_are_read(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / "a" / f"1{suffix}", RGB[0])
    assert folder.read(tmp_path, "test").images.shape == (1, 3, 5, 4)


def test_train_and_test_folders_are_splits(tmp_path: Path) -> None:
    save(tmp_path / "train" / "a" / "1.png", RGB[0])
    save(tmp_path / "train" / "b" / "1.png", RGB[1])
    save(tmp_path / "test" / "a" / "1.png", RGB[2])
    save(tmp_path / "test" / "b" / "1.png", RGB[3])
    dataset = folder.read(tmp_path, "test", name="mine")
    np.testing.assert_array_equal(dataset.images, RGB[2:4].transpose(0, 3, 1, 2))
    assert (dataset.name, dataset.split, dataset.classes) == ("mine", "test", ("a", "b"))
    assert folder.read(tmp_path, "train").split == "train"
    with pytest.raises(ValueError, match="has the splits train and test, got split='val'"):
        folder.read(tmp_path, "val")


def test_a_split_that_is_not_there_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "train" / "a" / "1.png", RGB[0])
    with pytest.raises(ValueError, match="has the splits train, got split='test'"):
        folder.read(tmp_path, "test")


def test_splits_with_different_classes_are_refused(tmp_path: Path) -> None:
    for path in ("train/a", "train/b", "train/c", "test/a", "test/c"):
        save(tmp_path / path / "1.png", RGB[0])
    with pytest.raises(ValueError, match="the same class folders; b in only one"):
        folder.read(tmp_path, "test")


def test_classes_named_train_and_test_are_classes(tmp_path: Path) -> None:
    for path in ("train", "test", "bus"):
        save(tmp_path / path / "1.png", RGB[0])
    assert folder.read(tmp_path, "test").classes == ("bus", "test", "train")


def test_a_folder_without_class_folders_and_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no class folders and no images; put the images of each class"):
        folder.read(tmp_path, "test")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        folder.read(tmp_path / "nowhere", "test")


def test_an_empty_class_is_refused(root: Path) -> None:
    (root / "emu" / "inner").mkdir(parents=True)
    (root / "emu" / "notes.txt").write_text("no image")
    with pytest.raises(ValueError, match="emu: no images in this class"):
        folder.read(root, "test")


def test_images_of_different_sizes_are_refused_and_both_are_named(root: Path) -> None:
    save(root / "dog" / "b.png", RGB[0, :, :3])
    with pytest.raises(ValueError, match=r"got 4x5 in .*cat.1\.png and 3x5 in .*dog.b\.png; resize or crop"):
        folder.read(root, "test")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
def test_a_truncated_image_is_refused_by_name(root: Path, suffix: str) -> None:
    path = root / "cat" / f"cut.{suffix}"
    big = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    save(path, big)
    content = path.read_bytes()
    for end in (0, 10, len(content) // 2):
        path.write_bytes(content[:end])
        with pytest.raises(ValueError, match=rf"cut\.{suffix}: not a readable image"):
            folder.read(root, "test")


def test_a_png_with_a_damaged_chunk_is_refused(root: Path) -> None:
    path = root / "cat" / "1.png"
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 6] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"1\.png: not a readable image"):
        folder.read(root, "test")


def test_transparent_pixels_are_refused(root: Path) -> None:
    alpha = np.dstack([RGB[0], np.full((5, 4), 255, np.uint8)])
    alpha[2, 3, 3] = 254
    save(root / "cat" / "1.png", alpha)
    with pytest.raises(ValueError, match=r"1\.png: has transparent pixels; flatten"):
        folder.read(root, "test")


def test_more_than_8_bits_are_refused(root: Path) -> None:
    save(root / "cat" / "1.png", GRAY[0].astype(np.uint16) * 257)
    with pytest.raises(ValueError, match=r"1\.png: expected 8 bits per channel, got mode I;16"):
        folder.read(root, "test")


@pytest.mark.parametrize("limit", [10, 15])  # 20 pixels: an error above twice the limit, a warning above it
def test_a_decompression_bomb_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit - 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as a user may have set: it must be an error even then
        with pytest.raises(ValueError, match=r"1\.png: the image is suspiciously large"):
            folder.read(root, "test")


def test_images_alone_have_no_labels(tmp_path: Path) -> None:
    save(tmp_path / "b.png", RGB[1])
    save(tmp_path / "a.png", RGB[0])
    for dataset in (folder.read(tmp_path, "test"), folder.read_file(tmp_path / "a.png")):
        assert not dataset.labelled
        assert set(dataset.labels) == {UNLABELLED}
        assert dataset.num_classes == 0
        np.testing.assert_array_equal(dataset.images[0], RGB[0].transpose(2, 0, 1))


def test_an_empty_folder_is_a_class_without_an_image(root: Path) -> None:
    (root / "cow").mkdir()
    dataset = folder.read(root, "test")
    assert dataset.classes == ("cat", "cow", "dog")
    np.testing.assert_array_equal(dataset.labels, [0, 0, 2, 2, 2])
    assert dataset.notes == (f"{root}: 1 of 3 classes have no image: cow.",)


def test_folders_that_are_all_empty_are_refused(tmp_path: Path) -> None:
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match="all 1 class folders are empty"):
        folder.read(tmp_path, "test")


def test_files_that_are_passed_over_are_counted_by_class_and_reason(root: Path) -> None:
    save(root / "cat" / "more" / "3.png", RGB[2])
    save(root / "cat" / "more" / "again" / "4.png", RGB[2])
    (root / "dog" / "anim.GIF").write_bytes(b"GIF89a")
    (root / "dog" / "._a.png").write_bytes(b"resource fork")
    (root / "dog" / ".hidden.png").write_bytes(b"a draft")
    (root / "dog" / "Thumbs.db").write_bytes(b"thumbnails")
    (root / "__MACOSX" / "dog").mkdir(parents=True)
    (root / "__MACOSX" / "dog" / "._b.png").write_bytes(b"resource fork")
    save(root / "loose.png", RGB[2])
    dataset = folder.read(root, "test")
    assert dataset.classes == ("cat", "dog")
    np.testing.assert_array_equal(dataset.images, RGB[[0, 1, 3, 4, 5]].transpose(0, 3, 1, 2))
    (note,) = dataset.notes
    assert note.startswith(f"{root}: files passed over: 7 (cat 2 in folders inside it, dog 2 of the operating system, ")
    assert "1 hidden" in note
    assert "1 with the ending .gif" in note
    assert note.endswith("beside the class folders 1 images).")


def test_a_jpeg_may_be_called_jfif(tmp_path: Path) -> None:
    Image.fromarray(RGB[0]).save(tmp_path / "1.JFIF", format="JPEG")
    assert len(folder.read(tmp_path, "test").images) == 1


def test_numbered_folders_come_in_the_order_of_their_numbers_with_a_note(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        save(tmp_path / str(number) / "1.png", RGB[number % 6])
    dataset = folder.read(tmp_path, "test")
    assert dataset.classes == ("1", "2", "10")
    np.testing.assert_array_equal(dataset.images, RGB[[1, 2, 4]].transpose(0, 3, 1, 2))
    (note,) = dataset.notes
    assert "in the order of their numbers, 1, 2, 10; sorted as text" in note


@pytest.mark.parametrize("spelling", ["val", "valid", "validation"])
def test_validation_images_are_a_split_and_stand_for_missing_test_images(tmp_path: Path, spelling: str) -> None:
    for half in ("train", spelling):
        save(tmp_path / half / "a" / "1.png", RGB[0])
        save(tmp_path / half / "b" / "1.png", RGB[1])
    for asked in ("val", "valid", "validation"):
        dataset = folder.read(tmp_path, asked)
        assert (dataset.split, dataset.notes) == ("val", ())
    dataset = folder.read(tmp_path, "test")
    assert dataset.split == "val"
    assert dataset.notes == (f"{tmp_path} has no split test; its split {spelling} is used instead.",)
    save(tmp_path / "test" / "a" / "1.png", RGB[2])
    save(tmp_path / "test" / "b" / "1.png", RGB[3])
    assert folder.read(tmp_path, "test").split == "test"
    save(tmp_path / "val-2" / "a" / "1.png", RGB[2])
    (tmp_path / "val-2").rename(tmp_path / ("val" if spelling != "val" else "valid"))
    with pytest.raises(ValueError, match="which mean the same; keep one"):
        folder.read(tmp_path, "test")


def test_splits_whose_images_differ_in_channels_or_size_are_refused_before_training(tmp_path: Path) -> None:
    for half in ("train", "test"):
        save(tmp_path / half / "a" / "1.png", GRAY[0])
        save(tmp_path / half / "b" / "1.png", GRAY[1])
    assert folder.read(tmp_path, "train").images.shape[1] == 1
    save(tmp_path / "test" / "b" / "1.png", RGB[1])
    with pytest.raises(ValueError, match=r"images of train are gray, but .*test.b.1\.png has colours"):
        folder.read(tmp_path, "train")
    save(tmp_path / "train" / "a" / "1.png", RGB[1])
    assert folder.read(tmp_path, "train").images.shape[1] == 3
    save(tmp_path / "test" / "b" / "1.png", GRAY[1])
    with pytest.raises(ValueError, match=r"images of train have colours, but those of .*test are gray"):
        folder.read(tmp_path, "train")
    save(tmp_path / "test" / "a" / "1.png", RGB[1, :3])
    with pytest.raises(ValueError, match=r"images of train are 4x5, but .*test.a.1\.png is 4x3"):
        folder.read(tmp_path, "train")


def test_a_split_may_be_images_alone(tmp_path: Path) -> None:
    save(tmp_path / "train" / "a" / "1.png", RGB[0])
    save(tmp_path / "train" / "b" / "1.png", RGB[1])
    save(tmp_path / "test" / "1.png", RGB[2])
    dataset = folder.read(tmp_path, "test")
    assert not dataset.labelled
    assert (dataset.split, dataset.classes) == ("test", ("a", "b"))
    assert folder.read(tmp_path, "train").labelled
