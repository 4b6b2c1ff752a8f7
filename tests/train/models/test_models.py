"""Architectures: sizes, the first layer, and what they refuse."""

import pytest
import torch
from torch import nn

from maxup_smoothing.train import models
from maxup_smoothing.train.models import lenet


def parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(
    ("arch", "shape", "count"),
    [
        # 16 (27 + 1) + 32 (144 + 1) + 64 (288 + 1) + 10 (1024 + 1)
        ("small", (3, 32, 32), 33_834),
        ("lenet", (1, 28, 28), 431_080),  # the tables of the field
        # He et al. (2016), table 6, give 0.27M and 1.7M (without the shortcuts' convolutions).
        ("resnet20", (3, 32, 32), 272_474),
        ("resnet110", (3, 32, 32), 1_730_714),
        # torchvision's network has 25,557,032 parameters for 1,000 classes; a class has 2,048 weights and a bias.
        ("resnet50", (3, 224, 224), 25_557_032 - 990 * 2049),
        # Zagoruyko and Komodakis (2016), tables 4 and 5, give 2.7M and 36.5M.
        ("wrn-16-4", (3, 32, 32), 2_748_890),
        ("wrn-28-10", (3, 32, 32), 36_479_194),
    ],
)
def test_architectures_have_the_published_number_of_parameters(
    arch: str, shape: tuple[int, int, int], count: int
) -> None:
    assert parameters(models.build(arch, shape, 10)) == count


def test_padded_shortcuts_have_no_parameters() -> None:
    conv, pad = (parameters(models.build("resnet20", (3, 32, 32), 10, shortcut=s)) for s in ("conv", "pad"))
    # Two 1x1 convolutions, 16 to 32 and 32 to 64 channels, each with a batch norm of two parameters a channel.
    assert conv - pad == 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64


def test_resnet50_has_torchvisions_layers() -> None:
    """So that its checkpoints load: names and shapes as torchvision's documentation of the network gives them."""
    backbone = models.build("resnet50", (3, 224, 224), 1000).get_submodule("backbone")
    shapes = {name: tuple(value.shape) for name, value in backbone.state_dict().items()}
    assert len(shapes) == 320
    assert shapes["conv1.weight"] == (64, 3, 7, 7)
    assert shapes["layer1.0.downsample.0.weight"] == (256, 64, 1, 1)
    assert shapes["layer2.0.downsample.1.running_var"] == (512,)
    assert shapes["layer3.5.bn3.num_batches_tracked"] == ()
    assert shapes["layer4.2.conv2.weight"] == (512, 512, 3, 3)
    assert shapes["fc.weight"] == (1000, 2048)
    assert "layer1.1.downsample.0.weight" not in shapes
    with torch.inference_mode():  # a stride of 2 five times
        x_BCHW = torch.rand(1, 3, 64, 96)
        sizes = [tuple(backbone.get_submodule("conv1")(x_BCHW).shape[2:])]
        x = backbone.get_submodule("maxpool")(backbone.get_submodule("conv1")(x_BCHW))
        for layer in range(1, 5):
            x = backbone.get_submodule(f"layer{layer}")(x)
            sizes.append(tuple(x.shape[2:]))
    assert sizes == [(32, 48), (16, 24), (8, 12), (4, 6), (2, 3)]


def test_the_shortcuts_of_resnet50_are_convolutions() -> None:
    with pytest.raises(ValueError, match="must be 'conv', got 'pad'"):
        models.build("resnet50", (3, 32, 32), 10, shortcut="pad")


def test_relu_after_pooling_is_lenet() -> None:
    x = torch.randn(3, 1, 28, 28)
    relu, pool = nn.functional.relu, nn.functional.max_pool2d
    assert torch.equal(relu(pool(x, 2)), pool(relu(x), 2))


@pytest.mark.parametrize("arch", ["lenet", "resnet20", "resnet50", "wrn-16-4"])
def test_the_first_layer_normalises_in_pixel_units(arch: str) -> None:
    """Shifting and scaling the image as the layer undoes it gives the same logits as a model without."""
    torch.manual_seed(0)
    plain = models.build(arch, (3, 32, 32), 10).eval()
    torch.manual_seed(0)
    normalised = models.build(arch, (3, 32, 32), 10, mean=(0.1, 0.2, 0.3), std=(0.5, 0.25, 2.0)).eval()
    x = torch.rand(2, 3, 32, 32)
    mean, std = torch.tensor([0.1, 0.2, 0.3])[:, None, None], torch.tensor([0.5, 0.25, 2.0])[:, None, None]
    torch.testing.assert_close(normalised(x * std + mean), plain(x), rtol=1e-4, atol=1e-5)
    assert "normalize.mean" in normalised.state_dict(), "the numbers travel with the weights"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("renset20", (3, 32, 32), 10), "unknown architecture 'renset20'; did you mean 'resnet20'"),
        (("resnet20", (1, 28, 28), 10), "resnet20 takes 32x32 images, got 28x28"),
        (("resnet50", (1, 28, 28), 10), "resnet50 takes images of at least 32x32, got 28x28"),
        (("wrn-16-4", (1, 28, 28), 10), "wrn-16-4 takes 32x32 images, got 28x28"),
        (("lenet", (1, 8, 8), 10), "at least 16x16, got 8x8"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple[str, tuple[int, int, int], int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        models.build(*arguments)


def test_normalisation_of_the_wrong_channels_is_refused() -> None:
    with pytest.raises(ValueError, match="mean has 3 numbers for 1 channels"):
        models.build("lenet", (1, 28, 28), 10, mean=(0.1, 0.2, 0.3))
    with pytest.raises(ValueError, match="std must be positive"):
        models.build("lenet", (1, 28, 28), 10, std=(0.0,))


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 3, 9, 7), (1, 1, 2, 3)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_pooling_is_torchs_with_and_without_gradient(shape: tuple[int, ...], layout: torch.memory_format) -> None:
    x = torch.randn(shape).contiguous(memory_format=layout)
    x[0, 0, 0, 0] = float("nan")
    expected = torch.nn.functional.max_pool2d(x, 2)
    torch.testing.assert_close(lenet.pool(x), expected, rtol=0, atol=0, equal_nan=True)
    with_gradient = x.clone().requires_grad_(True)
    lenet.pool(with_gradient).sum().backward()
    assert with_gradient.grad is not None
    assert with_gradient.grad.sum() == expected.numel()
