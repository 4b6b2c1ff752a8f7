"""From data to a checkpoint."""

from typing import TYPE_CHECKING

from maxup_smoothing.data.runtime.lazy import lazily

#: Where each public name is defined. What is not listed may change at any time.
_HOME = {
    "BatchLoss": "train.maxup",
    "GaussianNoise": "train.perturbations",
    "TrainConfig": "train.config",
    "build_model": "train.models:build",
    "load_checkpoint": "train.checkpoint:load",
    "maxup_loss": "train.maxup",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = [
    "BatchLoss",
    "GaussianNoise",
    "TrainConfig",
    "build_model",
    "load_checkpoint",
    "maxup_loss",
]

if TYPE_CHECKING:
    from maxup_smoothing.train.checkpoint import load as load_checkpoint
    from maxup_smoothing.train.config import TrainConfig as TrainConfig
    from maxup_smoothing.train.maxup import BatchLoss as BatchLoss
    from maxup_smoothing.train.maxup import maxup_loss as maxup_loss
    from maxup_smoothing.train.models import build as build_model
    from maxup_smoothing.train.perturbations import GaussianNoise as GaussianNoise
