"""Folding batch norm: the same function, or none of it."""

import pytest
import torch
from torch import Tensor, nn

from maxup_smoothing.certify.models.acceleration import fold_batch_norm
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.models.contents import weights_hash
from maxup_smoothing.train import models


def trained(model: nn.Module) -> nn.Module:
    """With statistics and scales that are not those of a fresh layer, where a wrong fold could go unnoticed."""
    g = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                assert tensor is not None
                tensor.uniform_(0.5, 2, generator=g)
            for tensor in (module.bias.data, module.running_mean):
                assert tensor is not None
                tensor.uniform_(-1, 1, generator=g)
    return model.eval()


@pytest.mark.parametrize("shortcut", ["conv", "pad"])
def test_a_folded_network_is_the_same_function(shortcut: str) -> None:
    model = trained(models.build("resnet20", (3, 32, 32), 10, mean=(0.4,), std=(0.2,), shortcut=shortcut))
    before = weights_hash(model)
    folded, said = fold_batch_norm(model, (3, 32, 32))
    assert folded is not None
    assert said == f"{19 + 2 * (shortcut == 'conv')} batch norms folded"
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    x = torch.rand(4, 3, 32, 32)
    torch.testing.assert_close(folded(x), model(x), rtol=1e-3, atol=1e-4)
    assert weights_hash(model) == before, "the model itself is untouched"


def test_the_classifier_folds_and_says_so_and_votes_alike() -> None:
    model = trained(models.build("resnet20", (3, 32, 32), 10))
    plain = BaseClassifier(model, 10, batch_size=64)
    folded = BaseClassifier(model, 10, batch_size=64, image_shape=(3, 32, 32))
    assert folded.describe()["folding"] == "21 batch norms folded"
    assert folded.sha256 == plain.sha256, "the hash is that of the weights given"
    x = torch.rand(64, 3, 32, 32)
    # Rounding may turn a near tie, once in 64 at the very most.
    assert (plain.classify(x) != folded.classify(x)).sum() <= 1


class Branching(nn.Module):
    """Cannot be traced: which way it goes depends on the numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        return (y if x.sum() > 0 else -y).mean(dim=(2, 3))


class NormFirst(nn.Module):
    """Batch norm before the convolution cannot be folded into it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.conv = nn.BatchNorm2d(1), nn.Conv2d(1, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.norm(x)).mean(dim=(2, 3))


class Counting(nn.Module):
    """Tracing freezes what Python decides while it runs: here, that the first call was another one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.calls = nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return (self.norm(self.conv(x)) * self.calls).mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Branching(), "cannot be traced"),
        (NormFirst(), "no batch norm follows a convolution"),
        (Counting(), "the outputs differ"),
        (nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), "no batch norm"),
    ],
)
def test_what_cannot_be_folded_safely_stays_as_it_is(model: nn.Module, reason: str) -> None:
    kept, said = fold_batch_norm(trained(model), (1, 8, 8))
    assert said.startswith("not folded: ")
    assert reason in said
    assert kept is None
