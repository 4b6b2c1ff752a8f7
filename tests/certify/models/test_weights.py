"""Weights of other projects: containers, prefixes, several sets, and the normalisation that a file stores."""

import argparse
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from maxup_smoothing.certify.models import loading
from maxup_smoothing.certify.models.contents import weights_hash
from maxup_smoothing.certify.models.normalizations import normalize_option
from maxup_smoothing.certify.models.weights import Undecided
from maxup_smoothing.train import checkpoint, models
from maxup_smoothing.train.checkpoint import Architecture

SHAPE = (1, 28, 28)
State = dict[str, Tensor]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return models.build("small", SHAPE, 10).get_submodule("backbone").eval()


def named(state: State, prefix: str) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def load(file: str = "w.pth", **options: Any) -> loading.LoadedModel:
    return loading.load(file, SHAPE, 10, arch="small", **options)


def same(loaded: loading.LoadedModel, expected: nn.Module, mean: float = 0.0, std: float = 1.0) -> bool:
    x = torch.rand(3, *SHAPE)
    return torch.equal(loaded.model(x), expected((x - torch.tensor(mean)) / torch.tensor(std)))


PREFIXES = ["", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.", "backbone.", "1."]
PREFIXES += ["model._orig_mod.", "module.encoder.", "_fsdp_wrapped_module."]
CONTAINERS = ["state_dict", "model_state_dict", "model", "params", "net", "ema", "state_dict_ema", "model_ema"]
CONTAINERS += ["ema_state_dict", "weights", "module"]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_words_before_the_names_are_peeled(prefix: str) -> None:
    torch.save({"state_dict": named(network().state_dict(), prefix)}, "w.pth")
    assert same(load(), network())


@pytest.mark.parametrize("container", CONTAINERS)
def test_the_usual_containers_are_opened(container: str) -> None:
    beside = {"epoch": 3, "loss": torch.tensor(0.3), "optimizer_state_dict": {"state": {0: {"step": torch.ones(3)}}}}
    torch.save({container: network().state_dict(), **beside}, "w.pth")
    loaded = load()
    assert same(loaded, network())
    assert ("weights" in loaded.source) == ("ema" in container)


@pytest.mark.parametrize("file", ["w.pth", "w.ckpt", "w.bin", "w.pth.tar", "w.pt", "w.safetensors"])
def test_files_of_every_usual_ending_are_read(file: str) -> None:
    state = named(network().state_dict(), "model.")
    if file.endswith(".safetensors"):
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, file, metadata={"format": "pt"})
    else:
        torch.save({"nested": {"state_dict": state}}, file)
    assert same(load(file), network())
    with pytest.raises(ValueError, match="holds weights only; name their architecture with --arch NAME"):
        loading.load(file, SHAPE, 10)


class Settings:
    """An object of a training script."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("owned",)


def test_objects_beside_the_weights_are_passed_over_and_run_no_code() -> None:
    beside = {"hyper_parameters": argparse.Namespace(lr=0.1, nested={"x": argparse.Namespace()}), "callbacks": {}}
    torch.save({"state_dict": named(network().state_dict(), "model."), **beside}, "w.ckpt")
    assert same(load("w.ckpt"), network())
    torch.save({"state_dict": network().state_dict(), "args": Settings()}, "w.ckpt")
    with pytest.raises(ValueError, match="holds more than weights"):
        load("w.ckpt")
    assert not Path("owned").exists()


def test_a_whole_pickled_model_is_named_as_such() -> None:
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), "w.pth")
    with pytest.raises(ValueError, match=r"holds a whole pickled model \(torch\.nn\.modules\.container\.Sequential\)"):
        load()
    torch.save({"model": nn.Linear(2, 3)}, "w.pth")
    with pytest.raises(ValueError, match=r"holds more than weights \(torch\.nn\.modules\.linear\.Linear\)"):
        load()


def test_the_hash_of_such_weights_is_that_of_the_network_as_it_is_built() -> None:
    state = network().state_dict()
    torch.save({"state_dict": named(state, "module.")}, "w.pth")
    built = models.build("small", SHAPE, 10, mean=(0.5,), std=(0.25,))
    built.get_submodule("backbone").load_state_dict(state)
    assert weights_hash(load(normalize="0.5/0.25").model) == weights_hash(built)


BOTH = {
    "timm": ("state_dict", "state_dict_ema"),
    "model_ema": ("model", "model_ema"),
    "ema": ("model", "ema"),
    "params": ("params", "params_ema"),
    "teacher": ("student", "teacher"),
}


@pytest.mark.parametrize("case", BOTH)
def test_of_two_sets_of_weights_the_user_chooses(case: str) -> None:
    raw, averaged = BOTH[case]
    torch.save({raw: network(1).state_dict(), averaged: network(2).state_dict()}, "w.pth")
    with pytest.raises(Undecided, match=re.escape(f"{raw}, {averaged}; say which with --weights ema or raw")):
        load()
    for wanted, seed, name in (("ema", 2, averaged), ("raw", 1, raw), (averaged, 2, averaged), (raw, 1, raw)):
        loaded = load(weights=wanted)
        assert same(loaded, network(seed))
        assert loaded.source["weights"] == name
        assert any(f"the weights {name} are used" in note for note in loaded.notes)
    with pytest.raises(ValueError, match="names none of them"):
        load(weights="swa")


def test_two_sets_under_two_prefixes_are_two_sets() -> None:
    both = {**named(network(1).state_dict(), "model."), **named(network(2).state_dict(), "model_ema.")}
    torch.save({"state_dict": both}, "w.ckpt")
    with pytest.raises(Undecided, match=r"state_dict\.model, state_dict\.model_ema"):
        load("w.ckpt")
    assert same(load("w.ckpt", weights="ema"), network(2))


def test_three_sets_are_chosen_by_their_names() -> None:
    torch.save({name: network(seed).state_dict() for seed, name in enumerate(("a", "b", "b_ema"))}, "w.pth")
    with pytest.raises(Undecided, match="--weights a or b or b_ema"):
        load()
    assert same(load(weights="b"), network(1))
    with pytest.raises(ValueError, match="names several of them"):
        load(weights="raw")


def test_one_set_needs_no_choice_and_takes_no_other() -> None:
    state = network().state_dict()
    torch.save({"model": state, "state_dict": state}, "w.pth")  # twice the same
    assert same(load(), network())
    torch.save({"state_dict_ema": state}, "w.pth")
    assert load().source["weights"] == "state_dict_ema"
    with pytest.raises(ValueError, match="--weights 'raw' names none of them"):
        load(weights="raw")


NORMALIZED = ["0.mean 0.std", "normalize.mean normalize.std", "mean std", "normalizer.new_mean normalizer.new_std"]
NORMALIZED += ["means sds", "pixel_mean pixel_std", "module.0.mean module.0.std", "norm.mu norm.sigma"]


@pytest.mark.parametrize("names", NORMALIZED)
@pytest.mark.parametrize("shape", [(1,), (1, 1, 1), (1, 1, 1, 1), ()])
def test_a_stored_normalisation_is_used(names: str, shape: tuple[int, ...]) -> None:
    mean, std = names.split()
    prefix = "module.1." if mean.startswith("module") else "1."
    stored = {mean: torch.full(shape, 0.3), std: torch.full(shape, 0.4)}
    torch.save({**stored, **named(network().state_dict(), prefix)}, "w.pth")
    loaded = load(otherwise="0.5/0.5")
    assert same(loaded, network(), 0.3, 0.4)
    assert loaded.source["normalize_from"] == f"{mean} and {std}"
    assert any("its normalisation is used" in note for note in loaded.notes)
    assert same(load(normalize="0.3/0.4"), network(), 0.3, 0.4)
    with pytest.raises(ValueError, match=r"stores the normalisation 0\.3.*; leave --normalize out"):
        load(normalize="none")


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"0.mean": torch.zeros(3), "0.std": torch.ones(3)}, "does not fit images of 1 channels"),
        ({"0.mean": torch.zeros(1), "0.std": torch.zeros(1)}, "does not fit"),
        ({"0.mean": torch.zeros(1)}, r"left over 0\.mean"),
        ({"0.running_mean": torch.zeros(1), "0.running_var": torch.ones(1)}, r"left over 0\.running_mean, 0\.running"),
        (
            {"0.mean": torch.zeros(1), "0.std": torch.ones(1), "2.mean": torch.ones(1), "2.std": torch.ones(1)},
            "several",
        ),
    ],
)
def test_a_stored_normalisation_that_cannot_be_used_is_refused(stored: State, message: str) -> None:
    torch.save({**stored, **named(network().state_dict(), "1.")}, "w.pth")
    with pytest.raises(ValueError, match=message):
        load()


def advised(message: str) -> str:
    """The value of --normalize that a message recommends."""
    return message.split("pass --normalize ")[1].rstrip(".").split(",")[0]


def test_a_normalisation_of_pixels_up_to_255_is_told_in_ours_and_the_advice_works() -> None:
    stored = {"pixel_mean": torch.tensor([123.675]), "pixel_std": torch.tensor([58.395])}
    torch.save({**stored, **named(network().state_dict(), "backbone.")}, "w.pth")
    with pytest.raises(ValueError, match="for pixels from 0 to 255") as found:
        load()
    assert load(normalize=advised(str(found.value))).source["normalize"][0] == pytest.approx([0.485])


@pytest.mark.parametrize("beside", [{"mean": [0.3], "std": [0.4]}, {"config": {"mean": 0.3, "std": 0.4}}])
def test_numbers_beside_the_weights_are_asked_about_and_the_advice_works(beside: dict[str, Any]) -> None:
    torch.save({"state_dict": network().state_dict(), **beside}, "w.pth")
    with pytest.raises(ValueError, match="holds a mean and a standard deviation beside its weights") as found:
        load()
    assert same(load(normalize=advised(str(found.value))), network(), 0.3, 0.4)
    assert same(load(normalize="none"), network())


def test_what_is_missing_left_over_or_of_another_shape_is_named() -> None:
    state = network().state_dict()
    first, last = next(iter(state)), list(state)[-1]
    torch.save({name: value for name, value in state.items() if name != first} | {"head.extra": torch.ones(3)}, "w.pth")
    with pytest.raises(
        ValueError, match=rf"not those of small with 10 classes: missing {first}; left over head\.extra"
    ):
        load()
    torch.save({**state, "criterion.weight": torch.ones(3)}, "w.pth")
    with pytest.raises(ValueError, match=r"left over criterion\.weight; save the network's state_dict\(\) alone"):
        load()
    torch.save({**state, last: torch.ones(11)}, "w.pth")
    with pytest.raises(ValueError, match=rf"{last} is \(11,\), here \(10,\)"):
        load()
    torch.save({**state, last: state[last].to(torch.complex64)}, "w.pth")
    with pytest.raises(ValueError, match=rf"{last} is complex64"):
        load()


def test_a_checkpoint_of_ours_says_itself_what_it_is() -> None:
    architecture = Architecture(arch="small", image_shape=SHAPE, num_classes=10, options={})
    checkpoint.save(Path("ours.safetensors"), architecture.build(), architecture, {"config": {}})
    for options in ({"arch": "small"}, {"weights": "ema"}):
        with pytest.raises(ValueError, match=r"ours\.safetensors also describes its model"):
            loading.load("ours.safetensors", SHAPE, 10, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="holds the normalisation of its training; leave --normalize out"):
        loading.load("ours.safetensors", SHAPE, 10, normalize="cifar10")
    torch.save(checkpoint.load(Path("ours.safetensors")).model.state_dict(), "ours.pth")
    assert load("ours.pth").source["normalize_from"] == "normalize.mean and normalize.std"


def test_an_option_holds_the_numbers_of_a_normalisation() -> None:
    assert normalize_option(((0.5, 0.25), (1.0,))) == "0.5,0.25/1"


def test_a_misspelt_architecture_gets_a_suggestion_only_where_one_is_near() -> None:
    torch.save(network().state_dict(), "w.pth")
    for name, near in (("resnet-110", "resnet110"), ("smal", "small"), ("ResNet50", "resnet50")):
        with pytest.raises(ValueError, match=f"did you mean '{near}'"):
            loading.load("w.pth", SHAPE, 10, arch=name)
    for name in ("resnet18", "vit", "densenet"):
        with pytest.raises(ValueError, match=f"unknown architecture '{name}'") as found:
            loading.load("w.pth", SHAPE, 10, arch=name)
        assert "did you mean" not in str(found.value)
