"""Networks of timm and torchvision by name, on stand-ins with the interfaces of timm 1.0 and torchvision 0.29.

The libraries themselves are not installed for the tests: torchvision exists only beside the torch it was compiled for.
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from maxup_smoothing.certify.models import loading
from maxup_smoothing.train.models.normalize import Normalize

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.2, 0.3)
SHAPE = (3, 8, 8)


class Tiny(nn.Module):
    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(192, num_classes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        logits_BK: Tensor = self.head(x_BCHW.flatten(1))
        return logits_BK


def create_model(name: str, pretrained: bool = False, num_classes: int = 1000) -> nn.Module:
    if name != "tiny":
        raise RuntimeError(f"Unknown model ({name})")
    model = Tiny(num_classes)
    nn.init.constant_(model.head.bias, 7.0 if pretrained else 0.0)
    return model


def get_model_weights(name: str) -> Any:
    if name != "tiny":
        raise ValueError(f"Unknown model {name}")
    return SimpleNamespace(DEFAULT=SimpleNamespace(transforms=lambda: SimpleNamespace(mean=MEAN, std=STD)))


def get_model(name: str, weights: Any, **options: Any) -> nn.Module:
    return create_model(name, weights is not None, **options)


@pytest.fixture(autouse=True)
def _libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    data = SimpleNamespace(resolve_model_data_config=lambda model: {"mean": MEAN, "std": STD})
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model, data=data))
    models = SimpleNamespace(get_model_weights=get_model_weights, get_model=get_model)
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(models=models))


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_a_network_by_name_has_its_weights_and_its_normalisation(library: str) -> None:
    loaded = loading.load(f"{library}:tiny", SHAPE, 1000)
    normalize, inner = loaded.model.children()
    assert isinstance(normalize, Normalize)
    assert normalize.mean.flatten().tolist() == pytest.approx(MEAN)
    assert normalize.std.flatten().tolist() == pytest.approx(STD)
    assert isinstance(inner, Tiny)
    assert inner.head.bias.unique().tolist() == [7.0]
    assert not inner.training
    assert loaded.source == {"kind": "library", "name": f"{library}:tiny", "normalize": [list(MEAN), list(STD)]}


@pytest.mark.parametrize("library", ["timm", "torchvision"])
def test_weights_of_ones_own_fill_a_network_by_name(
    library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = Tiny(10).eval()
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in mine.state_dict().items()}}, "mine.pth")
    loaded = loading.load("mine.pth", SHAPE, 10, arch=f"{library}:tiny")
    x_BCHW = torch.rand(4, *SHAPE)
    assert torch.equal(loaded.model(x_BCHW), mine(Normalize(MEAN, STD, 3)(x_BCHW)))
    asked = loading.load("mine.pth", SHAPE, 10, arch=f"{library}:tiny", normalize="none")
    assert torch.equal(asked.model(x_BCHW), mine(x_BCHW))
    with pytest.raises(ValueError, match=r"mine\.pth has 10 classes, the data set 7"):
        loading.load("mine.pth", SHAPE, 7, arch=f"{library}:tiny")


def test_unknown_names_and_missing_libraries_are_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"timm cannot make timm:huge: Unknown model \(huge\)"):
        loading.load("timm:huge", SHAPE, 10)
    with pytest.raises(ValueError, match=r"torchvision has no network 'huge'"):
        loading.load("torchvision:huge", SHAPE, 10)
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ValueError, match=r"pip install 'maxup-smoothing\[timm\]'"):
        loading.load("timm:tiny", SHAPE, 10)
