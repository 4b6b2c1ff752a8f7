"""Class maps: which class of a data set is which of a network."""

import json
from pathlib import Path

import numpy as np
import pytest

from maxup_smoothing.data import class_map
from maxup_smoothing.data.dataset import Dataset, from_arrays


def animals(labels: list[int]) -> Dataset:
    images = np.zeros((len(labels), 2, 2), np.uint8)
    classes = ["a cat", "dog", "emu"]
    return from_arrays(images, np.array(labels), source="s", name="animals", split="file", classes=classes)


@pytest.mark.parametrize("text", ["a cat 281\ndog\t207\n\n", '{"a cat": 281, "dog": 207}', "0 281\n1 207\n"])
def test_labels_become_the_numbers_of_the_network(tmp_path: Path, text: str) -> None:
    path = tmp_path / "map"
    path.write_text(text)
    found, used = class_map.renumbered(animals([1, 0, 1]), class_map.read(path))
    np.testing.assert_array_equal(found.labels, [207, 281, 207])
    assert used == {"a cat": 281, "dog": 207}
    assert (found.classes[281], found.classes[207], found.classes[0]) == ("a cat", "dog", "0")
    again, _ = class_map.renumbered(animals([1, 0, 1]), used)  # as a manifest has it
    np.testing.assert_array_equal(again.labels, found.labels)


def test_a_name_wins_over_a_number_and_other_names_may_be_there() -> None:
    dataset = from_arrays(
        np.zeros((2, 2, 2), np.uint8), np.array([0, 1]), source="s", name="n", split="file", classes=["1", "0"]
    )
    found, _ = class_map.renumbered(dataset, {"0": 5, "1": 6, "moose": 7})
    np.testing.assert_array_equal(found.labels, [6, 5])


def test_several_classes_may_have_one_number() -> None:
    found, _ = class_map.renumbered(animals([0, 1, 2]), {"a cat": 0, "dog": 0, "emu": 1})
    np.testing.assert_array_equal(found.labels, [0, 0, 1])
    assert found.classes == ("a cat/dog", "emu")


def test_a_class_with_images_must_be_in_the_map() -> None:
    with pytest.raises(ValueError, match="has no number for emu of animals; add a line for each"):
        class_map.renumbered(animals([0, 2]), {"a cat": 0, "dog": 1})
    class_map.renumbered(animals([0, 1]), {"a cat": 0, "dog": 1})
    unlabelled = from_arrays(np.zeros((1, 2, 2), np.uint8), None, source="s", name="n", split="file")
    with pytest.raises(ValueError, match="has no labels that --class-map could number"):
        class_map.renumbered(unlabelled, {"0": 1})


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (b"cat\n", "line 1: 'cat' is not a name and a number"),
        (b"cat 1\ncat 2\n", "line 2: cat is there twice"),
        (b"cat -1\n", "line 1"),
        (b"cat 99999999999999999999\n", "line 1"),
        (b"cat 9999999\n", "cat must have the number of a class of the network"),
        (b'{"cat": "1"}', "cat must have the number of a class"),
        (b'{"cat": true}', "cat must have the number of a class"),
        (b'{"cat": 1, "cat": 2}', "is not JSON"),
        (b"\xff\xfe", "is not text"),
        (b"", "names no class"),
    ],
)
def test_a_file_that_is_no_class_map_is_refused(tmp_path: Path, content: bytes, match: str) -> None:
    path = tmp_path / "map"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=match):
        class_map.read(path)


INDEX = {"0": ["n01440764", "tench"], "1": ["n02012849", "crane"], "2": ["n03126707", "crane"]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("synset_words.txt", "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\n"),
        ("LOC_synset_mapping.txt", "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane 2\n"),
        ("imagenet_synsets.txt", "n01440764\nn02012849\nn03126707"),
        ("synsets.csv", "n01440764,tench\nn02012849,crane\nn03126707,crane\n"),
        ("imagenet_class_index.json", json.dumps(INDEX)),
        ("list.json", json.dumps(["n01440764", "n02012849", "n03126707"])),
        ("class_to_idx.json", json.dumps({"n01440764": 0, "n02012849": 1, "n03126707": 2})),
        (
            "config.json",
            json.dumps({"model_type": "x", "id2label": {"0": "n01440764", "1": "n02012849", "2": "n03126707"}}),
        ),
        (
            "stale.json",  # transformers keeps what it had filled in before id2label was set
            json.dumps(
                {
                    "label2id": {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2},
                    "id2label": {"0": "n01440764", "1": "n02012849", "2": "n03126707"},
                }
            ),
        ),
        ("label2id.json", json.dumps({"label2id": {"n03126707": 2, "n01440764": 0, "n02012849": 1}})),
    ],
)
def test_a_list_of_the_networks_classes_is_a_map(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    found = class_map.read(tmp_path / name)
    assert [found[synset] for synset in ("n01440764", "n02012849", "n03126707")] == [0, 1, 2]
    assert "crane" not in found  # it would be two classes


def test_names_beside_synsets_serve_folders_that_are_called_by_them(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(json.dumps(INDEX))
    assert class_map.read(tmp_path / "index.json") == {
        "n01440764": 0, "tench": 0, "n02012849": 1, "n03126707": 2,
    }  # fmt: skip


def test_a_synset_with_a_number_in_every_line_is_that_number(tmp_path: Path) -> None:
    (tmp_path / "map.txt").write_text("n01440764 7\nn02012849 3\n")
    assert class_map.read(tmp_path / "map.txt") == {"n01440764": 7, "n02012849": 3}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ('{"0": "cat", "2": "dog"}', "the numbers of the classes must go from 0 on without gaps"),
        ('{"0": "1", "1": "0"}', "0 must have the number of a class"),
        ('["cat", 3]', "a list of classes must hold names"),
        ('["cat", "cat"]', "cat is there twice"),
        ("n01440764 a\nn01440764 b\n", "n01440764 is there twice"),
        ("[]", "names no class"),
        ("{}", "names no class"),
    ],
)
def test_a_list_of_classes_that_says_two_things_is_refused(tmp_path: Path, content: str, match: str) -> None:
    (tmp_path / "map").write_text(content)
    with pytest.raises(ValueError, match=match):
        class_map.read(tmp_path / "map")
