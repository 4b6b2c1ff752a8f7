"""Networks and data sets with other classes: one message for each cause, and each piece of advice works."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import certify_command
import numpy as np
import onnx
import pytest
import torch
from certify_command import certify
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

from maxup_smoothing.certify.models import loading
from maxup_smoothing.certify.models.adapters import METADATA, ArrayFunction
from maxup_smoothing.certify.models.classes import fitted, moved
from maxup_smoothing.certify.smoothing import SmoothedClassifier
from maxup_smoothing.certify.tables.radius_table import read
from maxup_smoothing.data import registry
from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.checkpoint import Architecture

_here = certify_command.here

SAMPLE = registry.load("fashion-sample", "test")
IMAGES, LABELS = SAMPLE.images[:30, 0], SAMPLE.labels[:30]
MODELS = """
import torch
from torch import nn


def linear(classes):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, classes)).eval()


def one(): return linear(1)
def ten(): return linear(10)
def thousand(): return linear(1000)
def one_as_arrays():
    model = linear(1)
    return lambda x: model(torch.from_numpy(x)).detach().numpy()
def numbers(): return lambda x: linear(10)(torch.from_numpy(x)).argmax(1).numpy()
"""


@pytest.fixture(autouse=True)
def models() -> None:
    Path("sizes.py").write_text(MODELS)


def run(model: str, data: str, *more: str) -> list[int]:
    """The labels of two rows."""
    settings = ["--sigma", "0.25", "--n", "20", "--limit", "2", "--batch-size", "16", "--seed", "1", "--no-check"]
    certify("run", model, "--data", data, *settings, "--out", "a.tsv", "--overwrite", *more)
    return [int(label) for label in read("a.tsv")["label"]]


def write_onnx(path: str, outputs: dict[str, int], classes: Sequence[str] = ()) -> None:
    """An ONNX file with a linear output of each size, whose metadata name the classes as ``certify export`` does."""
    nodes, constants = [helper.make_node("Flatten", ["x"], ["flat"])], []
    for name, size in outputs.items():
        weights = np.random.default_rng(size).normal(size=(784, size)).astype(np.float32)
        constants.append(numpy_helper.from_array(weights, f"w_{name}"))
        nodes.append(helper.make_node("MatMul", ["flat", f"w_{name}"], [name]))
    declared = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name, size in outputs.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 28, 28])]
    graph = helper.make_graph(nodes, "g", inputs, declared, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    if classes:
        helper.set_model_props(model, {METADATA: json.dumps({"classes": list(classes)})})
    onnx.save(model, path)


def save_folder(names: dict[str, int]) -> None:
    """A folder of class folders, one image each of the class that is named."""
    for name, label in names.items():
        Path("folder", name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(SAMPLE.images[SAMPLE.labels == label][0, 0]).save(Path("folder", name, "0.png"))


def test_another_output_of_an_onnx_file_is_named_and_can_be_kept() -> None:
    write_onnx("two.onnx", {"features": 20, "logits": 10})
    with pytest.raises(ValueError, match=r"output logits of the file has 10.*extract_model\(FILE, NEW, \['x'\], \['lo"):
        run("two.onnx", "images.npz")
    onnx.utils.extract_model("two.onnx", "logits.onnx", ["x"], ["logits"])
    assert run("logits.onnx", "images.npz") == LABELS[:2].tolist()


def test_an_npz_without_the_last_class_may_say_all_classes() -> None:
    few = LABELS < 9
    np.savez("few.npz", images=IMAGES[few], labels=LABELS[few])
    with pytest.raises(
        ValueError, match=r"has 10 classes, the data set 9; the largest label is 8; .* as classes in th"
    ):
        run("sizes:ten", "few.npz")
    np.savez("few.npz", images=IMAGES[few], labels=LABELS[few], classes=np.array([str(k) for k in range(10)]))
    assert run("sizes:ten", "few.npz") == LABELS[few][:2].tolist()


def test_labels_that_count_from_1_are_named_and_1_can_be_subtracted() -> None:
    labels = LABELS + 1
    np.savez("from_one.npz", images=IMAGES, labels=labels)
    with pytest.raises(ValueError, match=r"no label is 0 and the largest is 10, so .* count from 1; save labels - 1"):
        run("sizes:ten", "from_one.npz")
    np.savez("from_one.npz", images=IMAGES, labels=labels - 1)
    assert run("sizes:ten", "from_one.npz") == LABELS[:2].tolist()


def test_a_missing_class_folder_may_be_an_empty_one() -> None:
    save_folder({f"c{k}": k for k in (0, 1, 2, 3, 5, 6, 7, 8, 9)})
    with pytest.raises(
        ValueError, match="if some classes have no image, make an empty folder for each of them; if not, pass --clas"
    ):
        run("sizes:ten", "folder")
    Path("folder/c4").mkdir()
    assert run("sizes:ten", "folder") == [0, 1]


def test_the_class_that_a_checkpoint_knows_and_a_folder_lacks_is_named() -> None:
    names = [f"c{k}" for k in range(10)]
    architecture = Architecture(arch="lenet", image_shape=(1, 28, 28), num_classes=10, options={})
    checkpoint.save(Path("own.safetensors"), architecture.build(), architecture, {"config": {}, "classes": names})
    save_folder({name: k for k, name in enumerate(names) if k != 4})
    with pytest.raises(ValueError, match="the data set lacks c4 of the network's classes; make an empty folder"):
        run("own.safetensors", "folder")
    Path("folder/c4").mkdir()
    assert run("own.safetensors", "folder") == [0, 1]


@pytest.mark.parametrize("data", ["fashion-sample", "images.npz", "numbers.npz", "folder"])
def test_a_part_of_the_networks_classes_needs_a_class_map_which_the_manifest_keeps(data: str) -> None:
    np.savez("numbers.npz", images=IMAGES, labels=LABELS)
    names = {"numbers.npz": [str(k) for k in range(10)], "folder": [f"c{k}" for k in range(10)]}
    if data == "folder":
        save_folder({name: k for k, name in enumerate(names["folder"])})
    with pytest.raises(ValueError, match="only some of the network's classes; pass --class-map FILE"):
        run("sizes:thousand", data)
    expected = [0, 1] if data == "folder" else LABELS[:2].tolist()
    lines = [f"{name} {100 + k}\n" for k, name in enumerate(names.get(data, SAMPLE.classes))]
    Path("map.txt").write_text("".join(lines))
    assert run("sizes:thousand", data, "--class-map", "map.txt") == [100 + label for label in expected]
    manifest = json.loads(Path("a.manifest.json").read_text())
    assert manifest["data"]["class_map"] == {line.rpartition(" ")[0]: 100 + k for k, line in enumerate(lines)}
    Path("map.txt").unlink()  # the manifest is enough
    assert "EXACT" in certify("verify", "a.tsv", "--rows", "all")


def test_a_class_map_is_part_of_what_a_table_is_about() -> None:
    Path("map.json").write_text(json.dumps({name: k for k, name in enumerate(SAMPLE.classes)}))
    run("sizes:thousand", "images.npz", "--class-map", "map.json")
    Path("map.json").write_text(json.dumps({name: k + 1 for k, name in enumerate(SAMPLE.classes)}))
    again = ["run", "sizes:thousand", "--data", "images.npz", "--class-map", "map.json", "--sigma", "0.25", "--n", "20"]
    with pytest.raises(ValueError, match=r"certified with data\.class_map"):
        certify(*again, "--limit", "3", "--batch-size", "16", "--seed", "1", "--no-check", "--out", "a.tsv")
    Path("map.json").write_text(json.dumps({name: 991 + k for k, name in enumerate(SAMPLE.classes)}))
    with pytest.raises(ValueError, match=r"has the number 1000 \(Ankle boot\), but sizes:thousand has 1000 classes"):
        run("sizes:thousand", "images.npz", "--class-map", "map.json")


@pytest.mark.parametrize("command", ["predict", "check", "plan"])
def test_every_command_that_opens_images_takes_a_class_map(command: str) -> None:
    Path("map.txt").write_text("".join(f"{k} {k}\n" for k in range(10)))
    more = {
        "predict": ["--n", "20", "--out", "p.tsv"],
        "check": [],
        "plan": ["--pilot-seconds", "0.1", "--radii", "0.1"],
    }
    arguments = [command, "sizes:thousand", "--data", "images.npz", "--class-map", "map.txt", "--limit", "2"]
    certify(*arguments, "--sigma", "0.25", "--batch-size", "16", *more[command])


def test_a_network_that_knows_fewer_classes_takes_a_map_of_many_to_one() -> None:
    np.savez("hundred.npz", images=IMAGES, labels=np.arange(30) % 15)
    with pytest.raises(ValueError, match="the network lacks some classes of the data set; use only images of the"):
        run("sizes:ten", "hundred.npz")
    Path("map.txt").write_text("".join(f"{k} {k % 10}\n" for k in range(15)))
    assert run("sizes:ten", "hundred.npz", "--class-map", "map.txt") == [0, 1]


def test_weights_of_another_project_have_the_classes_of_their_last_layer() -> None:
    network = Architecture(arch="lenet", image_shape=(1, 28, 28), num_classes=12, options={}).build()
    torch.save(network.get_submodule("backbone").state_dict(), "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth has 12 classes, the data set 10; .*--class-map"):
        run("w.pth", "images.npz", "--arch", "lenet")
    Path("map.txt").write_text("".join(f"{k} {k}\n" for k in range(10)))
    assert run("w.pth", "images.npz", "--arch", "lenet", "--class-map", "map.txt") == LABELS[:2].tolist()


@pytest.mark.parametrize("name", ["one", "one_as_arrays"])
def test_one_logit_is_a_sign_where_there_are_two_classes(name: str) -> None:
    np.savez("two.npz", images=IMAGES[LABELS < 2], labels=LABELS[LABELS < 2])
    run(f"sizes:{name}", "two.npz", "--limit", "1")
    manifest = json.loads(Path("a.manifest.json").read_text())
    assert manifest["model"]["logits"].startswith("one, taken as a sign: class 1 where it is above 0")
    assert manifest["classifier"]["num_classes"] == 2
    shape = (1, 28, 28)
    loaded = loading.load(f"sizes:{name}", shape, 2)
    assert isinstance(loaded.model, ArrayFunction) == (name != "one")
    x = torch.rand(8, *shape)
    torch.manual_seed(0)
    z = nn.Sequential(nn.Flatten(), nn.Linear(784, 1))(x)[:, 0]
    assert torch.equal(loaded.model(x).argmax(1), (z > 0).long())
    for data, wanted in (("images.npz", "10 classes"), ("class_0.npz", "1 class;")):
        np.savez("class_0.npz", images=IMAGES, labels=LABELS * 0)
        with pytest.raises(ValueError, match=f"has 1 class or logit, the data set {wanted}"):
            run(f"sizes:{name}", data)


def test_a_tie_of_a_sign_is_class_0_and_a_logit_that_is_no_number_no_class() -> None:
    plain = loading.LoadedModel(model=nn.Flatten(), num_classes=1, sigma=None, source={})
    logits = fitted(plain, "m", 2).model(torch.tensor([[[[0.0]]], [[[torch.nan]]]]))
    assert logits[0].tolist() == [0.0, 0.0]
    assert not logits[1].isfinite().all()


def test_one_class_is_refused_since_every_vote_would_be_for_it() -> None:
    with pytest.raises(ValueError, match="num_classes must be at least 2, got 1"):
        SmoothedClassifier(nn.Sequential(nn.Flatten(), nn.Linear(784, 1)).eval(), 1, 0.25)


def test_classes_in_another_order_than_in_training_are_an_error() -> None:
    architecture = Architecture(arch="lenet", image_shape=(1, 28, 28), num_classes=10, options={})
    names = [str(k) for k in (0, 1, 10, 2, 3, 4, 5, 6, 7, 8)]  # folders as other programs sort them
    checkpoint.save(Path("own.safetensors"), architecture.build(), architecture, {"config": {}, "classes": names})
    save_folder({name: k for k, name in enumerate(names)})
    with pytest.raises(
        ValueError, match=r"was trained with 10 as class 2, but in the data set it is class 9; number th"
    ):
        run("own.safetensors", "folder")
    Path("map.txt").write_text("".join(f"{name} {k}\n" for k, name in enumerate(names)))
    certify("run", "own.safetensors", "--data", "folder", "--sigma", "0.25", "--n", "20", "--batch-size", "16",
            "--no-check", "--class-map", "map.txt", "--out", "b.tsv")  # fmt: skip
    assert read("b.tsv")["label"].tolist() == [0, 1, 3, 4, 5, 6, 7, 8, 9, 2]
    assert json.loads(Path("b.manifest.json").read_text())["notes"]["classes"] == names


def test_a_function_that_returns_classes_needs_their_number() -> None:
    np.savez("alone.npz", images=IMAGES)
    with pytest.raises(ValueError, match=r"returns classes, and their number is not known: .* return logits"):
        run("sizes:numbers", "alone.npz")
    np.savez("alone.npz", images=IMAGES, classes=np.array(SAMPLE.classes))
    assert run("sizes:numbers", "alone.npz") == [-1, -1]


def test_a_verification_does_not_advise_an_option_that_it_lacks() -> None:
    write_onnx("any.onnx", {"logits": 10})
    run("any.onnx", "images.npz")
    model = onnx.load("any.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, "one.onnx")
    with pytest.raises(ValueError, match=r"takes batches of 1 images; the table was certified at 16, so this is not"):
        certify("verify", "a.tsv", "one.onnx")
    assert "EXACT" in certify("verify", "a.tsv", "any.onnx")


def test_names_that_differ_without_another_order_are_taken() -> None:
    loaded = loading.LoadedModel(model=nn.Flatten(), num_classes=2, sigma=None, source={}, classes=("car", "plane"))
    data = dataclasses.replace(SAMPLE, labels=SAMPLE.labels % 2, classes=("automobile", "airplane"))
    assert fitted(loaded, "m", 2, data).notes == (
        "m calls its classes car, plane …, the data set automobile, airplane …: none is called the same, so their "
        "order is not compared; if it is another one, pass --class-map FILE, with a line for each class: its name and "
        "its number in the network",
    )
    numbered = dataclasses.replace(data, classes=("0", "1"))
    assert fitted(loaded, "m", 2, numbered) is loaded


def test_class_names_are_compared_whatever_their_capitals_and_marks() -> None:
    network = ("tench, Tinca tinca", "Great_White-Shark", "crane", "cock", "crane")
    assert moved(network, ("great white shark", "cock", "tench")) == ("tench, Tinca tinca", 0, 2)
    assert moved(network, ("Tench", "great white shark")) is None
    assert moved(network, ("a", "b", "c", "crane")) is None  # two of the network's classes are called so
    assert moved(("Cat", "cat", "dog"), ("cat", "Cat", "dog")) == ("Cat", 0, 1)
    assert moved((), ("a", "b")) is None


NAMES = list(SAMPLE.classes)


def test_labels_in_another_order_than_the_names_in_a_file_are_refused_or_numbered_by_the_names() -> None:
    write_onnx("moved.onnx", {"logits": 10}, [*NAMES[5:], *NAMES[:5]])
    with pytest.raises(ValueError, match=r"moved\.onnx was trained with Sandal as class 0, but in the data set"):
        run("moved.onnx", "images.npz")
    assert run("moved.onnx", "images.npz", "--class-map", "auto") == [(label + 5) % 10 for label in LABELS[:2]]
    manifest = json.loads(Path("a.manifest.json").read_text())
    assert manifest["data"]["class_map"] == {name: (k + 5) % 10 for k, name in enumerate(NAMES)}
    assert "EXACT" in certify("verify", "a.tsv", "--rows", "all")
    assert run("moved.onnx", "images.npz", "--class-map", "auto") == [(label + 5) % 10 for label in LABELS[:2]]


def test_some_of_a_networks_classes_are_found_by_their_names() -> None:
    write_onnx("many.onnx", {"logits": 30}, [f"other {k}" for k in range(20)] + [name.lower() for name in NAMES])
    with pytest.raises(ValueError, match=r"some of the network's classes; pass --class-map auto, which number"):
        run("many.onnx", "images.npz")
    assert run("many.onnx", "images.npz", "--class-map", "auto") == [label + 20 for label in LABELS[:2]]


def test_a_class_map_by_name_needs_names_on_both_sides() -> None:
    with pytest.raises(ValueError, match="sizes:ten does not name its classes; pass --class-map FILE, with a line"):
        run("sizes:ten", "images.npz", "--class-map", "auto")
    write_onnx("few.onnx", {"logits": 9}, NAMES[:9])
    with pytest.raises(ValueError, match=r"few.onnx has no class that is called Ankle boot, its first ones are"):
        run("few.onnx", "images.npz", "--class-map", "auto")
    write_onnx("wrong.onnx", {"logits": 10}, NAMES[:9])  # not a name for each logit
    assert run("wrong.onnx", "images.npz") == LABELS[:2].tolist()


def test_a_class_map_that_says_otherwise_than_the_networks_names_is_told() -> None:
    write_onnx("named.onnx", {"logits": 10}, NAMES)
    data = dataclasses.replace(SAMPLE, labels=(SAMPLE.labels + 1) % 10, classes=(NAMES[-1], *NAMES[:-1]))
    loaded = fitted(loading.load("named.onnx", (1, 28, 28), 0), "named.onnx", 0, data)
    assert loaded.notes == (f"the class map makes {NAMES[0]} class 1, but named.onnx calls its class 0 so",)
