"""From a name to a dataset."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from places import SHARED

from maxup_smoothing.data import official, registry
from maxup_smoothing.data.dataset import from_arrays
from maxup_smoothing.data.samples import make

DATA = SHARED / "data"
SAMPLE = Path(registry.__file__).parent / "samples" / "fashion_sample.npz"


def need(path: Path) -> Path:
    if not path.exists():
        pytest.skip(f"{path.name} not found: the full datasets are not part of the repository")
    return path


def test_the_sample_loads_without_files_or_network() -> None:
    for split, size in (("train", 8_000), ("test", 2_000)):
        dataset = registry.load("fashion-sample", split)
        assert dataset.images.shape == (size, 1, 28, 28)
        np.testing.assert_array_equal(np.bincount(dataset.labels), [size // 10] * 10)
        assert dataset.classes[9] == "Ankle boot"
        assert (dataset.name, dataset.split) == ("fashion-sample", split)


def test_the_sample_is_the_first_images_of_each_class_of_the_official_set() -> None:
    path = need(DATA / "fashion_mnist.npz")
    with np.load(SAMPLE, allow_pickle=False) as sample, np.load(path, allow_pickle=False) as full:
        for split, count in (("train", 800), ("test", 200)):
            index, labels = sample[f"{split}_index"], full[f"y_{split}"]
            seen = np.zeros(10, dtype=int)
            expected = []
            for i, label in enumerate(labels):
                seen[label] += 1
                if seen[label] <= count:
                    expected.append(i)
            np.testing.assert_array_equal(index, expected)
            np.testing.assert_array_equal(sample[f"x_{split}"], full[f"x_{split}"][index])
            np.testing.assert_array_equal(sample[f"y_{split}"], labels[index])


def test_making_a_sample_is_repeatable_and_needs_enough_images() -> None:
    images = np.arange(6 * 4, dtype=np.uint8).reshape(6, 2, 2)
    full = {
        split: from_arrays(images, np.array([1, 0, 1, 0, 1, 1]), source="", name="toy", split=split)
        for split in ("train", "test")
    }
    content = make.archive(full, {"train": 2, "test": 1})
    assert content == make.archive(full, {"train": 2, "test": 1})
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        assert arrays["train_index"].tolist() == [0, 1, 2, 3]
        assert arrays["test_index"].tolist() == [0, 1]
        assert arrays["y_train"].tolist() == [1, 0, 1, 0]
        np.testing.assert_array_equal(arrays["x_train"], images[:4])
        assert arrays["classes"].tolist() == ["0", "1"]
    with pytest.raises(ValueError, match="expected 3 examples of class 0, got 2"):
        make.archive(full, {"train": 3})


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_the_official_test_sets_have_their_fingerprints(name: str) -> None:
    need(DATA / f"{name.replace('-', '_')}.npz")
    dataset = registry.load(name, "test", DATA)
    assert dataset.images.shape == (10_000, 1, 28, 28)
    assert dataset.classes == official.CLASSES[name]


def test_cifar10_has_its_fingerprint_and_its_class_names(tmp_path: Path) -> None:
    strips = sorted(need(DATA / "cifar10").glob("test_*.webp"))
    with np.load(DATA / "cifar10" / "labels.npz", allow_pickle=False) as arrays:
        labels, classes = arrays["y_test"], arrays["classes"]
    images = np.concatenate([np.asarray(Image.open(path).convert("RGB")).reshape(-1, 32, 32, 3) for path in strips])
    # The binary version by its description, so that reader, order and fingerprint are checked together.
    records = np.hstack([labels.astype(np.uint8)[:, None], images.transpose(0, 3, 1, 2).reshape(-1, 3072)])
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    (folder / "test_batch.bin").write_bytes(records.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(classes) + "\n\n")
    dataset = registry.load("cifar10", "test", tmp_path)
    np.testing.assert_array_equal(dataset.images, images.transpose(0, 3, 1, 2))
    assert dataset.classes == official.CLASSES["cifar10"] == tuple(classes)


def test_data_that_only_bears_a_well_known_name_is_refused(tmp_path: Path) -> None:
    x, y = np.zeros((10_000, 2, 2), np.uint8), np.zeros(10_000, np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    with pytest.raises(ValueError, match=r"mnist\.npz: mnist has 60000 train images, this holds 10000; .* its path"):
        registry.load("mnist", "train", tmp_path)
    with pytest.raises(ValueError, match=r"mnist\.npz: the images or labels are not those of mnist \(test\)"):
        registry.load("mnist", "test", tmp_path)
    assert registry.load(str(tmp_path / "mnist.npz"), "test").num_classes == 1


def test_cifar100_is_found_under_the_root_and_counted(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "fine_label_names.txt").write_text("\n".join(official.CLASSES["cifar100"]))
    (folder / "test.bin").write_bytes((b"\0\x63" + bytes(3072)) * 10_000)
    dataset = registry.load("cifar100", "test", tmp_path)
    assert dataset.num_classes == 100
    assert set(dataset.labels) == {99}
    (folder / "test.bin").write_bytes((b"\0\x63" + bytes(3072)) * 9)
    with pytest.raises(ValueError, match="cifar100 has 10000 test images, this holds 9"):
        registry.load("cifar100", "test", tmp_path)


def test_a_path_is_loaded_by_what_it_is(tmp_path: Path) -> None:
    archive = tmp_path / "mine.npz"
    np.savez(archive, images=np.zeros((2, 4, 4), np.uint8), labels=np.array([0, 1]))
    (tmp_path / "images" / "cat").mkdir(parents=True)
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "images" / "cat" / "1.png")
    assert registry.load(str(archive), "test").name == str(archive)
    assert registry.load(str(archive), "test").split == "file"
    assert registry.load(str(tmp_path / "images"), "test").split == "folder"


def test_an_unknown_name_is_refused_with_the_nearest_and_all_forms() -> None:
    with pytest.raises(
        ValueError, match=r"unknown dataset 'cifar-10'; did you mean cifar10\? Valid: fashion-sample, mnist"
    ):
        registry.load("cifar-10", "test")
    with pytest.raises(ValueError, match=r"unknown dataset 'qqqq'; Valid: .* \.npz file, or the path of a folder"):
        registry.load("qqqq", "test")
    with pytest.raises(FileNotFoundError, match=r"qqqq\.npz: no such file"):
        registry.load("qqqq.npz", "test")


def test_an_unknown_split_or_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fashion-sample has the splits train and test, got split='val'"):
        registry.load("fashion-sample", "val")
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder; the data root must be an existing folder"):
        registry.load("mnist", "test", tmp_path / "nowhere")


def test_the_registered_names() -> None:
    assert registry.names() == ("fashion-sample", "mnist", "fashion-mnist", "cifar10", "cifar100")
    assert {name: len(classes) for name, classes in official.CLASSES.items()} == {
        "fashion-sample": 10, "mnist": 10, "fashion-mnist": 10, "cifar10": 10, "cifar100": 100,
    }  # fmt: skip
    assert list(official.CLASSES["cifar100"]) == sorted(set(official.CLASSES["cifar100"]))
