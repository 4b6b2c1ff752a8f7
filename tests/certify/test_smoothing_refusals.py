"""What the smoothed classifier refuses: models, images and budgets that would make a certificate void or empty."""

# Shapes: B examples; C channels, H height, W width.

import pytest
import torch
from oracles import Pixel
from smoothed_images import IMAGES, SIGMA
from torch import Tensor, nn

from maxup_smoothing.certify.smoothing import SmoothedClassifier


@pytest.mark.parametrize("num_classes", [2, 4])
def test_a_number_of_classes_that_is_not_the_models_is_refused(num_classes: int) -> None:
    """With fewer, votes for the last class would be taken for invalid ones, and others for the next image's."""
    with pytest.raises(ValueError, match=f"and {num_classes} classes; num_classes must be the number of its logits"):
        SmoothedClassifier(Pixel(classes=3).eval(), num_classes, SIGMA).certify(IMAGES, n=100)


class CoupledRows(nn.Module):
    """In evaluation mode, and yet each answer depends on the whole batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1, affine=False, track_running_stats=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return Pixel(0.0)(self.norm(x_BCHW))


class AlwaysDropping(nn.Module):
    """Dropout that evaluation mode does not switch off."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return Pixel()(nn.functional.dropout(x_BCHW, 0.5, training=True))


@pytest.mark.parametrize(
    ("model", "reason"),
    [(CoupledRows(), "with the other images of its batch"), (AlwaysDropping(), "from call to call")],
)
def test_a_model_whose_rows_are_not_independent_is_refused(model: nn.Module, reason: str) -> None:
    with pytest.raises(ValueError, match=f"{reason}.*[aA] certificate would be void"):
        SmoothedClassifier(model.eval(), 2, SIGMA).certify(IMAGES, n=100)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": 0.0}, "sigma must be positive and finite, got 0"),
        ({"sigma": float("nan")}, "sigma must be positive and finite, got nan"),
        ({"sigma": 127.5}, "looks like 0-255 units.*pass 0.5"),
        ({"dtype": "float8"}, "dtype must be one of float32, bfloat16, float16, got 'float8'"),
        ({"noise": "fast"}, "noise must be one of exact, float, got 'fast'"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmoothedClassifier(Pixel().eval(), 2, **{"sigma": SIGMA, **arguments})  # type: ignore[arg-type]


def test_a_model_in_training_mode_is_refused_even_in_one_module() -> None:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.Linear(9, 2)).eval()
    model[1].train()
    with pytest.raises(ValueError, match=r"training mode \(1\).*call model.eval\(\) first"):
        SmoothedClassifier(model, 2, SIGMA)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES.to(torch.int64), "images must be uint8, or floats"),
        (IMAGES[0, 0], "of shape"),
        (IMAGES.float(), r"float images must lie in \[0, 1\], got 0 to 255; divide"),
        (IMAGES / 255 - 0.5, "move a normalisation into the model"),
        (IMAGES / torch.zeros(()), r"must lie in \[0, 1\]"),
    ],
)
def test_images_in_other_units_are_refused(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SmoothedClassifier(Pixel().eval(), 2, SIGMA).certify(images)


def test_budgets_that_could_only_abstain_are_refused_with_what_is_needed() -> None:
    smoothed = SmoothedClassifier(Pixel().eval(), 2, SIGMA)
    with pytest.raises(ValueError, match=r"n = 9 samples cannot certify anything at alpha = 0.001; at least 10"):
        smoothed.certify(IMAGES, n=9)
    with pytest.raises(ValueError, match="n = 2000000000 is more than 1000000000"):
        smoothed.certify(IMAGES, n=2 * 10**9)
    with pytest.raises(ValueError, match=r"with n = 10 samples PREDICT always abstains.*at least 11"):
        smoothed.predict(IMAGES, n=10)
    with pytest.raises(ValueError, match="n0, the selection samples, must be at least 1"):
        smoothed.certify(IMAGES, n0=0)
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\), got 1"):
        smoothed.certify(IMAGES, alpha=1.0)
