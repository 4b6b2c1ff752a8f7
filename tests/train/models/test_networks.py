"""Training of networks of libraries and users, from random and from trained weights.

timm and torchvision are stand-ins with their interfaces.
"""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from typer.testing import CliRunner

from maxup_smoothing.certify.models import loading
from maxup_smoothing.data import registry
from maxup_smoothing.train import checkpoint, evaluate, models
from maxup_smoothing.train.__main__ import app
from maxup_smoothing.train.loop import Trainer
from maxup_smoothing.train.models import hub
from maxup_smoothing.train.models.heads import head_parts

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.2, 0.4)
SHAPE = (1, 28, 28)
FACTORY = """
from torch import nn
class Net(nn.Module):
    def __init__(self, inputs, num_classes, width):
        super().__init__()
        self.stem, self.head = nn.Linear(inputs, width), nn.Linear(width, num_classes)
    def forward(self, x):
        return {"features": x, "logits": self.head(self.stem(x.flatten(1)).relu())}
def build(image_shape, num_classes, width=4):
    channels, height, width_ = image_shape
    return Net(channels * height * width_, num_classes, width)
def five(image_shape, num_classes):
    return build(image_shape, 5)
def text(image_shape, num_classes):
    return "a network"
"""


class Blocks(nn.Module):
    """A network as timm has them: numbered blocks, gradient checkpointing, what it declares."""

    def __init__(self, num_classes: int, channels: int, width: int) -> None:
        super().__init__()
        self.stem = nn.Linear(channels * 784, width)
        self.blocks = nn.ModuleList([nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width)) for _ in range(2)])
        self.head = nn.Linear(width, num_classes)
        self.pretrained_cfg = {"fixed_input_size": True}
        self.checkpointing = False

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.checkpointing = enable

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if x_BCHW.shape[2:] != (28, 28):
            raise AssertionError(f"Input height ({x_BCHW.shape[2]}) doesn't match model (28).")
        x = self.stem(x_BCHW.flatten(1))
        for block in self.blocks:
            call: Callable[..., Any] = torch.utils.checkpoint.checkpoint if self.checkpointing else _called
            x = x + call(block, x, **({"use_reentrant": False} if self.checkpointing else {}))
        logits_BK: Tensor = self.head(x)
        return logits_BK


def _called(block: nn.Module, x: Tensor) -> Any:
    return block(x)


def create_model(
    name: str, pretrained: bool = False, num_classes: int = 1000, in_chans: int = 3, width: int = 8
) -> nn.Module:
    if name != "blocks":
        raise RuntimeError(f"Unknown model ({name})")
    return Blocks(num_classes, in_chans, width)


@pytest.fixture(autouse=True)
def _libraries(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    declared = {"mean": MEAN, "std": STD, "input_size": (3, 28, 28)}
    data = SimpleNamespace(resolve_model_data_config=lambda model: declared)
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model, data=data, __version__="1.0"))

    def weights(name: str) -> Any:
        return SimpleNamespace(DEFAULT=SimpleNamespace(transforms=lambda: SimpleNamespace(mean=MEAN, std=STD)))

    def model(name: str, weights: Any, num_classes: int = 1000, **options: Any) -> nn.Module:
        return create_model(name, num_classes=num_classes, **options)

    zoo = SimpleNamespace(get_model_weights=weights, get_model=model)
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(models=zoo, __version__="0.28"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("mynet", "user_mynet"):
        sys.modules.pop(name, None)
    Path("mynet.py").write_text(FACTORY)
    sample = registry.load("fashion-sample", "train")
    pixels, labels = np.asarray(sample.images), sample.labels
    classes = np.array(sample.classes)
    np.savez(
        "gray.npz",
        x_train=pixels[:60, 0],
        y_train=labels[:60],
        x_test=pixels[60:80, 0],
        y_test=labels[60:80],
        classes=classes,
    )
    rgb = pixels[:80].repeat(3, axis=1).transpose(0, 2, 3, 1)
    np.savez("rgb.npz", x_train=rgb[:60], y_train=labels[:60], x_test=rgb[60:], y_test=labels[60:80], classes=classes)
    text = 'dataset = "gray.npz"\nobjective = "maxup"\nm = 2\nsigma = 0.25\nepochs = 2\nbatch_size = 20\nlr = 0.05\n'
    Path("base.toml").write_text(text + "probe = 20\n")


def train(out: str, *changes: str, resume: bool = False) -> tuple[int, str]:
    options = [option for change in changes for option in ("--set", change)] + ["--resume"] * resume
    result = CliRunner().invoke(app, ["base.toml", *options, "--out", out])
    return result.exit_code, str(result.exception) if result.exception else ""


def state(out: str) -> dict[str, Tensor]:
    return dict(checkpoint.load(Path(out) / "checkpoint.safetensors").model.state_dict())


NETWORKS = {
    "timm": ["arch=timm:blocks", "arch_options.width=6", "grad_checkpointing=true"],
    "torchvision": ["arch=torchvision:blocks", "dataset=rgb.npz"],
    "file": ["arch=mynet.py:build", "arch_options.width=5"],
    "module": ["arch=mynet:build"],
}


@pytest.mark.parametrize("kind", NETWORKS)
def test_any_network_trains_resumes_bit_for_bit_and_is_certified(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = [*NETWORKS[kind], "optimizer=adamw", "layer_decay=0.8", "decay_norms=false", "clip=1.0", "lr_warmup=0.5"]
    changes = [*tuned, "schedule=cosine", "ema=0.9"]
    assert train("whole", *changes) == (0, "")
    begun, real = [0], Trainer._backward

    def killed(self: Trainer, *arguments: Any) -> Tensor:
        begun[0] += 1
        if begun[0] > 4:  # in the second epoch
            raise RuntimeError("killed")
        return real(self, *arguments)

    with monkeypatch.context() as changed:
        changed.setattr(Trainer, "_backward", killed)
        assert train("cut", *changes)[1] == "killed"
    assert train("cut", *changes, resume=True) == (0, "")
    assert Path("whole/checkpoint.safetensors").read_bytes() == Path("cut/checkpoint.safetensors").read_bytes()
    shape = (3, 28, 28) if kind == "torchvision" else SHAPE
    loaded = loading.load("whole", shape, 10)
    assert loaded.model(torch.rand(3, *shape)).shape == (3, 10)
    data = "rgb.npz" if kind == "torchvision" else "gray.npz"
    assert len(evaluate.predict(loaded.model, registry.load(data, "test"), torch.device("cpu"))) == 20


def test_a_library_declares_the_normalisation_unless_it_is_set() -> None:
    assert train("a", "arch=torchvision:blocks", "dataset=rgb.npz") == (0, "")
    assert state("a")["normalize.mean"].flatten().tolist() == pytest.approx(MEAN)
    assert "mean = [0.4, 0.5, 0.6]" in Path("a/config.toml").read_text()
    assert train("b", "arch=timm:blocks") == (0, "")  # one channel: the mean of the three
    assert state("b")["normalize.std"].flatten().tolist() == pytest.approx([sum(STD) / 3])
    assert train("c", "arch=torchvision:blocks", "dataset=rgb.npz", "mean=[0,0,0]", "std=[1,1,1]") == (0, "")
    assert state("c")["normalize.mean"].flatten().tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["arch=timm:huge"], "timm cannot make timm:huge: Unknown model"),
        (["arch=timm:blocks", "arch_options.depth=3"], "timm:blocks does not take the options ['depth']"),
        (["arch=timm:blocks", "arch_options.pretrained=true"], "does not take the option 'pretrained': init names"),
        (["arch=torchvision:blocks"], "takes images of 3 channels, got 1; networks of timm take any number"),
        (["arch=mynet.py:biuld"], "mynet.py has no callable 'biuld'; did you mean 'build'?"),
        (["arch=mynet.py:build", "arch_options.depth=3"], "unexpected keyword argument 'depth'"),
        (["arch=nowhere:build"], "cannot import 'nowhere'"),
        (["arch=mynet:text"], "mynet:text() must return an nn.Module, got str"),
        (["arch=mynet:five"], "must return logits of shape (2, 10) for 2 images, got (2, 5)"),
        (["arch=hf:nowhere"], "there is no folder nowhere with config.json"),
        (["arch=lenet", "arch_options.width=3"], "lenet does not take the options ['width']"),
        (["arch=lenet", "arch_options=3"], "arch_options must be a table, such as arch_options.NAME = VALUE, got 3"),
        (["arch=lenet", "arch_options.mean=[0.5]"], "arch_options has mean, which the configuration or the data set"),
        (["arch=lenet", "grad_checkpointing=true"], "grad_checkpointing = true: lenet does not offer it"),
        (["arch=mynet:build", "shortcut=pad"], "shortcut = 'pad' has no effect"),
    ],
)
def test_what_cannot_be_built_is_one_line_and_nothing_is_written(changes: list[str], message: str) -> None:
    code, said = train("a", *changes)
    assert code != 0
    assert message in said
    assert "\n" not in said
    assert not Path("a").exists()


def test_a_size_that_a_network_does_not_take_is_said_with_the_keys_that_change_it() -> None:
    small = np.zeros((20, 8, 8, 3), np.uint8)
    np.savez("small.npz", images=small, labels=np.arange(20) % 2)
    code, said = train("a", "arch=timm:blocks", "dataset=small.npz")
    assert code != 0
    assert "timm:blocks takes images of 28x28 pixels, the data set has 8x8; set crop = 28 and resize" in said


def test_a_missing_library_is_named_when_a_checkpoint_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    assert train("a", "arch=timm:blocks") == (0, "")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(
        ValueError, match=r"holds the weights of timm:blocks, which cannot be built: timm networks need"
    ):
        checkpoint.load(Path("a/checkpoint.safetensors"))
    code, said = train("b", "arch=timm:blocks")
    assert (code != 0, Path("b").exists()) == (True, False)
    assert "pip install 'maxup-smoothing[timm]'" in said


def test_a_factory_is_found_beside_the_checkpoint_and_its_changes_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("a", "arch=mynet.py:build") == (0, "")
    path = (tmp_path / "a" / "checkpoint.safetensors").resolve()
    (tmp_path / "else").mkdir()
    monkeypatch.chdir(tmp_path / "else")
    with pytest.raises(ValueError, match=r"which cannot be built: no file at mynet\.py"):
        checkpoint.load(path)
    (path.parent / "mynet.py").write_text(FACTORY)
    checkpoint.load(path)
    assert "changed" not in capsys.readouterr().err
    (path.parent / "mynet.py").write_text(FACTORY + "# newer\n")
    checkpoint.load(path)
    assert "its file has changed since" in capsys.readouterr().err


def test_no_checkpoint_makes_python_run_its_own_modules(tmp_path: Path) -> None:
    model = models.build("small", SHAPE, 2)
    hostile = checkpoint.Architecture(arch="small", image_shape=SHAPE, num_classes=2, options={})
    checkpoint.save(tmp_path / "x.safetensors", model, hostile, {"arch": "os:system"})
    with pytest.raises(ValueError, match="its architecture os:system is a part of Python"):
        checkpoint.load(tmp_path / "x.safetensors")


def test_tied_weights_are_saved_once_each() -> None:
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    tied[1].weight = tied[0].weight
    found = checkpoint._tensors(tied)
    assert found["0.weight"].equal(found["1.weight"])
    assert found["0.weight"].data_ptr() != found["1.weight"].data_ptr()


CONTAINERS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain.pth": lambda s: s,
    "module.bin": lambda s: {"epoch": 3, "state_dict": {f"module.{name}": tensor for name, tensor in s.items()}},
    "compiled.pt": lambda s: {f"_orig_mod.{name}": tensor for name, tensor in s.items()},
    "lightning.ckpt": lambda s: {
        "state_dict": {f"model.{name}": tensor for name, tensor in s.items()},
        "pytorch-lightning_version": "2.0",
    },
    "backbone.pth": lambda s: {f"backbone.{name}": tensor for name, tensor in s.items()},
    "headless.pth": lambda s: {name: tensor for name, tensor in s.items() if not name.startswith("head.")},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_head_of_other_classes_is_refused_or_begins_anew(name: str) -> None:
    other = Blocks(7, 1, 8)
    torch.save(CONTAINERS[name](dict(other.state_dict())), name)
    code, said = train("a", "arch=timm:blocks", f"init={name}")
    had = "no head" if name.startswith("headless") else "a head of 7 classes"
    assert f"init = '{name}' has {had} (head.weight), the data set 10 classes; pass --set init_head=reset" in said
    assert (code != 0, Path("a").exists()) == (True, False)
    frozen = ["epochs=1", "lr=1e-12", "weight_decay=0.0"]
    assert train("a", "arch=timm:blocks", f"init={name}", "init_head=reset", *frozen) == (0, "")
    found = {name.removeprefix("backbone."): tensor for name, tensor in state("a").items()}
    for part, tensor in other.state_dict().items():
        if not part.startswith("head."):
            torch.testing.assert_close(found[part], tensor, atol=1e-9, rtol=0)
    assert found["head.weight"].shape == (10, 8)


def test_a_checkpoint_of_other_classes_gives_all_but_its_head() -> None:
    assert train("a", "arch=timm:blocks") == (0, "")
    with np.load("gray.npz") as archive:
        np.savez("two.npz", images=archive["x_train"], labels=archive["y_train"] % 2)
    frozen = ["dataset=two.npz", "arch=timm:blocks", "epochs=1", "lr=1e-12", "weight_decay=0.0"]
    assert train("b", *frozen, "init=a")[0] != 0
    assert train("b", *frozen, "init=a", "init_head=reset") == (0, "")
    torch.testing.assert_close(state("b")["backbone.stem.weight"], state("a")["backbone.stem.weight"])
    assert len(state("b")["backbone.head.weight"]) == 2


def test_a_head_for_the_same_classes_in_another_order_is_refused_or_begins_anew() -> None:
    assert train("a", "arch=timm:blocks") == (0, "")
    with np.load("gray.npz") as archive:
        names = [*archive["classes"][5:], *archive["classes"][:5]]
        moved = (archive["y_train"] + 5) % 10
        np.savez("moved.npz", images=archive["x_train"], labels=moved, classes=np.array(names))
    frozen = ["dataset=moved.npz", "arch=timm:blocks", "epochs=1", "lr=1e-12", "weight_decay=0.0"]
    code, said = train("b", *frozen, "init=a")
    assert "init = 'a' was trained with T-shirt/top as class 0, but in the data set it is class 5; number the" in said
    assert (code != 0, Path("b").exists()) == (True, False)
    assert train("b", *frozen, "init=a", "init_head=reset") == (0, "")
    torch.testing.assert_close(state("b")["backbone.stem.weight"], state("a")["backbone.stem.weight"])
    assert not torch.allclose(state("b")["backbone.head.weight"], state("a")["backbone.head.weight"])


def test_heads_are_the_last_layer_and_layers_called_so_with_as_many_outputs() -> None:
    network = nn.ModuleDict(
        {"body": nn.Linear(3, 10), "norm": nn.BatchNorm1d(10), "head": nn.Linear(10, 10), "out": nn.Linear(10, 10)}
    )
    assert head_parts(network, 10) == ["head.weight", "head.bias", "out.weight", "out.bias"]
    assert head_parts(network, 7) == []


def test_every_key_of_a_configuration_is_read_back(tmp_path: Path) -> None:
    from maxup_smoothing.train.config_file import load

    config = load("base.toml", ["arch=timm:blocks", "arch_options.width=6", "arch_options.name='a\"b'"])
    (tmp_path / "again.toml").write_text(config.to_toml())
    assert load(str(tmp_path / "again.toml")) == config
    assert dataclasses.asdict(config)["arch_options"] == {"width": 6, "name": 'a"b'}


def test_a_run_is_called_as_its_configuration_whole() -> None:
    Path("base_0.25.toml").write_text(Path("base.toml").read_text() + 'arch = "mynet:build"\n')
    assert CliRunner().invoke(app, ["base_0.25.toml"]).exit_code == 0
    assert Path("runs/base_0.25/checkpoint.safetensors").is_file()


def test_a_factory_is_an_architecture_of_weights_in_certification() -> None:
    assert train("a", "arch=mynet.py:build") == (0, "")
    trained = checkpoint.load(Path("a/checkpoint.safetensors")).model
    torch.save(trained.get_submodule("backbone").state_dict(), "w.pth")
    loaded = loading.load("w.pth", SHAPE, 10, arch="mynet.py:build")
    x_BCHW = torch.rand(2, *SHAPE)
    assert loaded.model(x_BCHW)["logits"].equal(trained(x_BCHW))


@pytest.mark.parametrize(
    ("processing", "mean", "std"),
    [
        ({"image_mean": [0.5], "image_std": [0.25]}, [0.5], [0.25]),
        ({"image_mean": [0.5], "image_std": [0.25], "do_normalize": False}, [0.0], [1.0]),
        ({"image_mean": [127.5], "image_std": [51.0], "do_rescale": False}, [0.5], [0.2]),
        ({}, [0.0], [1.0]),
    ],
)
def test_the_normalisation_of_transformers_is_told_in_units_of_pixels_from_0_to_1(
    processing: dict[str, Any], mean: list[float], std: list[float]
) -> None:
    network = nn.Linear(2, 2)
    network.config = SimpleNamespace()  # type: ignore[assignment]
    found = hub._declared(network, processing)
    assert list(found.mean) == pytest.approx(mean)
    assert list(found.std) == pytest.approx(std)
