"""What is said of unknown names: a name only where one is near or means the same, and advice that can be followed."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from maxup_smoothing.train import models, names, objectives
from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.config_file import load
from maxup_smoothing.train.language.config import LanguageConfig
from maxup_smoothing.train.perturbations.catalogue import configured

IMAGES: dict[str, Any] = {
    "dataset": "x.npz", "arch": "lenet", "objective": "gaussian", "sigma": 0.25, "epochs": 3, "batch_size": 8,
    "lr": 0.1,
}  # fmt: skip
TEXT: dict[str, Any] = {
    "task": "language", "corpus": "x", "arch": "lstm", "sigma": 0.25, "epochs": 3, "batch_size": 8, "bptt": 5,
    "lr": 0.1,
}  # fmt: skip
KINDS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "images": (TrainConfig, IMAGES),
    "text": (LanguageConfig, TEXT),
}
VALUES: dict[Any, Any] = {str: "x", int: 1, float: 0.5, bool: True}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.toml"


def refusal(file: Path, kind: str, change: str) -> str:
    wanted, values = KINDS[kind]
    file.write_text("".join(f"{key} = {value!r}\n" for key, value in values.items()))
    with pytest.raises(ValueError, match=r"\A[^\n]+\Z") as caught:
        load(str(file), [change], kind=wanted)
    return str(caught.value).removeprefix(f"{file}: ")


def fields(kind: str) -> list[str]:
    return [field.name for field in dataclasses.fields(KINDS[kind][0])]


@pytest.mark.parametrize(
    ("kind", "key", "here"),
    [
        ("images", "learning_rate", "lr"),
        ("images", "Learning-Rate", "lr"),
        ("images", "lr_decay", "gamma"),
        ("images", "noise_sd", "sigma"),
        ("images", "std_dev", "sigma"),
        ("images", "num_aug", "m"),
        ("images", "LR", "lr"),
        ("images", "weight_deacy", "weight_decay"),
        ("images", "data", "dataset"),
        ("text", "data", "corpus"),
        ("text", "grad_clip", "clip"),
        ("text", "optim", "optimizer"),
        ("text", "sequence_length", "bptt"),
    ],
)
def test_a_key_is_suggested_where_it_is_near_or_means_the_same(kind: str, key: str, here: str, file: Path) -> None:
    assert refusal(file, kind, f"{key}=1") == f"unknown key {key!r}; did you mean {here!r}?"


@pytest.mark.parametrize(
    ("kind", "key", "why"),
    [
        ("images", "optimizer", "classifiers are trained by SGD with momentum"),
        ("images", "num_workers", "all data lies in memory"),
        ("images", "clip", "gradients of classifiers are not clipped"),
        ("images", "max_grad_norm", "gradients of classifiers are not clipped"),
        ("text", "num_workers", "all data lies in memory"),
    ],
)
def test_a_key_that_has_no_like_is_said_to_have_none(kind: str, key: str, why: str, file: Path) -> None:
    assert refusal(file, kind, f"{key}=1") == f"unknown key {key!r}; there is none, since {why}."


@pytest.mark.parametrize("key", ["shuffle", "foo", "log_dir", "n", "k", "patience", "bptt", "x" * 1000, ""])
def test_nothing_is_suggested_where_nothing_is_near(key: str, file: Path) -> None:
    assert (
        refusal(file, "images", f"{key}=1")
        == f"unknown key {key!r}; the keys are those of maxup_smoothing.train.config.TrainConfig."
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_for_a_key_leads_to_one_of_some_kind_and_hides_none(kind: str) -> None:
    every = {name for name in KINDS for name in fields(name)}
    known = fields(kind)
    for word, here in names._BY_WORD.items():
        assert set(here) <= every
        said = names.key_hint(word, known)
        if any(key in known for key in here):
            suggested = re.fullmatch(r"; did you mean '(\w+)'\?", said)
            assert suggested is not None
            assert suggested[1] in known
            assert suggested[1] in here


@pytest.mark.parametrize("word", ["learning_rate", "momentumm", "noise", "nesterovv", "bs", "lamda"])
def test_a_suggested_key_is_taken(word: str, file: Path) -> None:
    suggested = re.search(r"did you mean '(\w+)'\?", refusal(file, "images", f"{word}=1"))
    assert suggested is not None
    kind = next(field.type for field in dataclasses.fields(TrainConfig) if field.name == suggested[1])
    changed = load(str(file), [f"{suggested[1]}={json.dumps(VALUES[kind])}"])
    assert getattr(changed, suggested[1]) == VALUES[kind]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("maxupp", "maxup"),
        ("MaxUp", "maxup"),
        ("cat-rs", "catrs"),
        ("trades", None),
        ("adversarial", None),
        ("x", None),
    ],
)
def test_objectives_are_suggested_where_one_is_near(name: str, near: str | None) -> None:
    hint = f"; did you mean {near!r}? " if near else ". "
    with pytest.raises(ValueError, match=re.escape(f"unknown objective {name!r}{hint}There are: gaussian, plain")):
        objectives.build(TrainConfig(**{**IMAGES, "objective": name}))


@pytest.mark.parametrize(("name", "near"), [("resnet-20", "resnet20"), ("Lenet", "lenet"), ("vit", None)])
def test_architectures_are_suggested_where_one_is_near(name: str, near: str | None) -> None:
    hint = f"; did you mean {near!r}? " if near else ". "
    with pytest.raises(ValueError, match=re.escape(f"unknown architecture {name!r}{hint}There are: small, lenet")):
        models.build(name, (1, 28, 28), 10)


@pytest.mark.parametrize(("name", "near"), [("cutmixx", "cutmix"), ("gaussian", None), ("blur", None)])
def test_perturbations_are_suggested_where_one_is_near(name: str, near: str | None) -> None:
    hint = f"; did you mean {near!r}? " if near else ". "
    with pytest.raises(ValueError, match=re.escape(f"unknown perturbation {name!r}{hint}There are: noise, crop")):
        configured(TrainConfig(**{**IMAGES, "objective": "plain", "perturbation": (name,)}))


@pytest.mark.parametrize(("name", "near"), [("mnist_maxupp", "mnist_maxup"), ("imagenet", None), ("mine", None)])
def test_configurations_are_suggested_where_one_is_near(name: str, near: str | None) -> None:
    hint = f"; did you mean {near!r}? " if near else ". "
    with pytest.raises(ValueError, match=re.escape(f"no configuration {name!r}{hint}Give a .toml file or one of: ")):
        load(name)


#: What is refused, what the message advises, and the changes that follow it.
ADVICE: dict[str, tuple[list[str], str, list[str]]] = {
    "leave it out": (["top_k=2"], "leave it out", []),
    "one that reads it": (["top_k=2"], "choose one that does: maxup", [
        "top_k=2", "objective=maxup", "m=4", "reduction=topk"]),
    "held-out images": (["validate_every=5"], "set holdout to their number, such as 5000", [
        "validate_every=5", "holdout=5000"]),
    "pixel units": (["sigma=64.0"], "did you mean 0.251", ["sigma=0.251"]),
    "copies without noise": (["objective=maxup", "m=4", "sigma=0"], "set m = 1", ["objective=maxup", "sigma=0", "m=1"]),
    "or a perturbation": (["objective=maxup", "m=4", "sigma=0"], "or a perturbation", [
        "objective=maxup", "sigma=0", "m=4", 'perturbation=["cutout"]']),
    "noise at the end": (['objective=plain', 'perturbation=["crop"]'], "add it at the end", [
        'objective=plain', 'perturbation=["crop", "noise"]']),
    "or no sigma": (['objective=plain', 'perturbation=["crop"]'], "or set sigma = 0", [
        'objective=plain', 'perturbation=["crop"]', "sigma=0"]),
    "cat-rs": (["objective=catrs"], "give one, or raise m", ["objective=catrs", "m=2"]),
    "a missing key": (["lrr=1"], "did you mean 'lr'?", ["lr=1"]),
}  # fmt: skip


@pytest.mark.parametrize(("refused", "advice", "followed"), ADVICE.values(), ids=ADVICE.keys())
def test_advice_on_settings_can_be_followed(refused: list[str], advice: str, followed: list[str], file: Path) -> None:
    file.write_text("".join(f"{key} = {value!r}\n" for key, value in IMAGES.items()))
    with pytest.raises(ValueError, match=re.escape(advice)):
        objectives.build(load(str(file), refused))
    objectives.build(load(str(file), followed))
