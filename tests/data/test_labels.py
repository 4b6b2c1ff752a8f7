"""Files of labels beside flat folders of images, and ImageNet's layouts."""

from pathlib import Path

import numpy as np
import pytest
from pictures import photograph, save

from maxup_smoothing.data import class_map, labels, registry
from maxup_smoothing.data.dataset import Dataset
from maxup_smoothing.data.preprocessing import Preprocessing

NAMES = [f"ILSVRC2012_val_{number:08}.JPEG" for number in (1, 2, 3, 4)]
HOW = Preprocessing(resize=16)


def flat(folder: Path, names: list[str] = NAMES) -> Path:
    for number, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(number, 20, 24).save(path, "JPEG")
    return folder


def load(folder: Path, text: str, name: str = "val.txt", split: str = "val") -> Dataset:
    file = folder.parent / name
    file.write_text(text)
    return registry.load(str(folder), split, preprocessing=HOW, labels=file)


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"{name} {label}\n" for name, label in zip(NAMES, (2, 0, 1, 0), strict=True)),
        "".join(f"val/{name}\t{label}\n" for name, label in zip(NAMES[::-1], (0, 1, 0, 2), strict=True)),
        "filename,label\n" + "".join(f"{name},{label}\r\n" for name, label in zip(NAMES, (2, 0, 1, 0), strict=True)),
        "".join(f"{Path(name).stem} {label}\n" for name, label in zip(NAMES, (2, 0, 1, 0), strict=True)),
        "2\n0\n1\n0\n",
        "\ufeff2\n0\n\n1\n0",
    ],
)
def test_numbers_are_labels_by_name_or_in_the_order_of_names(tmp_path: Path, text: str) -> None:
    dataset = load(flat(tmp_path / "val"), text)
    np.testing.assert_array_equal(dataset.labels, [2, 0, 1, 0])
    assert (dataset.num_classes, dataset.split) == (3, "folder")


def test_names_of_classes_are_sorted_and_a_class_map_numbers_them_as_the_network(tmp_path: Path) -> None:
    text = "ImageId,PredictionString\n"  # Kaggle's LOC_val_solution.csv: each box is a synset and four numbers
    for name, synset in zip(NAMES, ("n03995372", "n01440764", "n02012849", "n01440764"), strict=True):
        text += f"{Path(name).stem},{synset} 85 1 499 272 {synset} 1 2 3 4 \n"
    dataset = load(flat(tmp_path / "val"), text, "LOC_val_solution.csv")
    assert dataset.classes == ("n01440764", "n02012849", "n03995372")
    np.testing.assert_array_equal(dataset.labels, [2, 0, 1, 0])
    (tmp_path / "synset_words.txt").write_text("n03995372 x\nn02012849 crane\nn01440764 tench, Tinca tinca\n")
    found, _ = class_map.renumbered(dataset, class_map.read(tmp_path / "synset_words.txt"))
    np.testing.assert_array_equal(found.labels, [0, 2, 1, 2])


def test_names_may_have_blanks_and_quotes(tmp_path: Path) -> None:
    names = ["my cat.jpg", "your dog, old.jpg"]
    dataset = load(flat(tmp_path / "x", names), '"my cat.jpg",house cat\nyour dog, old.jpg;golden retriever\n')
    assert dataset.classes == ("golden retriever", "house cat")
    np.testing.assert_array_equal(dataset.labels, [1, 0])


def test_beside_class_folders_of_training_the_flat_split_has_their_numbers(tmp_path: Path) -> None:
    root = tmp_path / "imagenet"
    for synset in ("n01440764", "n02012849", "n03126707"):
        save(root / "train" / synset / "1.png", photograph(1, 20, 20))
    flat(root / "val")
    plain = registry.load(str(root), "val", preprocessing=HOW)
    assert not plain.labelled
    assert plain.num_classes == 3
    file = tmp_path / "val.txt"
    file.write_text("".join(f"{name} n03126707\n" for name in NAMES))
    dataset = registry.load(str(root), "val", preprocessing=HOW, labels=file)
    assert (dataset.split, dataset.classes[2]) == ("val", "n03126707")
    np.testing.assert_array_equal(dataset.labels, [2] * 4)
    file.write_text("1\n0\n0\n2\n")
    np.testing.assert_array_equal(registry.load(str(root), "test", preprocessing=HOW, labels=file).labels, [1, 0, 0, 2])
    file.write_text("".join(f"{name} n99999999\n" for name in NAMES))
    with pytest.raises(ValueError, match=r"n99999999 must be one of the class folders .* such as n01440764"):
        registry.load(str(root), "val", preprocessing=HOW, labels=file)
    with pytest.raises(ValueError, match="has class folders, which say the labels of their images; leave --labels out"):
        registry.load(str(root), "train", preprocessing=HOW, labels=file)


def test_a_folder_with_a_flat_val_alone_is_found(tmp_path: Path) -> None:
    flat(tmp_path / "imagenet" / "val")
    dataset = load(tmp_path / "imagenet", "1\n0\n0\n2\n")
    assert (dataset.split, len(dataset.images)) == ("val", 4)


def test_the_development_kits_numbers_are_no_networks_and_said_to_be_none(tmp_path: Path) -> None:
    dataset = load(flat(tmp_path / "val"), "490\n361\n1\n1000\n", "ILSVRC2012_validation_ground_truth.txt")
    np.testing.assert_array_equal(dataset.labels, [490, 361, 1, 1000])
    assert "development kit numbers the classes from 1 in an order of its own" in dataset.notes[0]
    found, _ = class_map.renumbered(dataset, {"490": 65, "361": 970, "1": 230, "1000": 809})
    np.testing.assert_array_equal(found.labels, [65, 970, 230, 809])


def test_labels_of_images_that_are_not_there_are_counted(tmp_path: Path) -> None:
    dataset = load(flat(tmp_path / "val"), "".join(f"ILSVRC2012_val_{k:08}.JPEG 0\n" for k in range(1, 8)))
    assert dataset.notes[0].endswith("3 labels are of images that are not there: " + ", ".join(
        f"ILSVRC2012_val_{k:08}.JPEG" for k in (5, 6, 7)
    ) + ".")  # fmt: skip


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is empty; a file of labels is"),
        ("1\n0\n2\n", "has 3 labels for 4 images; without names there must be one for each"),
        (f"{NAMES[0]} 1\n{NAMES[1]} 2\n", r"has no label for ILSVRC2012_val_00000003\.JPEG, ILSVRC2012_val_00000004"),
        ("a.JPEG 1\n", r"has no label for .* \(its first name is a\.JPEG\)"),
        (f"{NAMES[0]} 1\n{NAMES[0]} 2\n", "line 2: ILSVRC2012_val_00000001.JPEG has the labels 1 and 2"),
        (f"{NAMES[0]}\n", "line 1: 'ILSVRC2012_val_00000001.JPEG' is not a name and a label"),
    ],
)
def test_a_file_that_does_not_label_each_image_once_is_refused(tmp_path: Path, text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        load(flat(tmp_path / "val"), text)


def test_a_file_of_other_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match=r"val\.txt is not text; expected a line an image"):
        labels.read(tmp_path / "val.txt", NAMES, None)
    with pytest.raises(ValueError, match="fashion-sample is not a folder of images, and says its labels itself"):
        registry.load("fashion-sample", "test", labels=tmp_path / "val.txt")
