"""Train classifiers with MaxUp under Gaussian noise, and certify them by randomized smoothing."""

import os
from typing import TYPE_CHECKING

from maxup_smoothing.data.runtime.lazy import lazily

# torch's threads spin while they wait for each other, and so take the processor from whatever else runs. It must be
# said before torch is loaded; the user's own setting stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

#: Where each public name is defined. What is not listed may change at any time.
_HOME = {
    "ABSTAIN": "certify.statistics.radius",
    "Certificate": "certify.statistics.certificate",
    "GaussianNoise": "train.perturbations",
    "SmoothedClassifier": "certify.smoothing",
    "load_checkpoint": "train.checkpoint:load",
    "maxup_loss": "train.maxup",
    "read_table": "certify.tables.radius_table:read",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = [
    "ABSTAIN",
    "Certificate",
    "GaussianNoise",
    "SmoothedClassifier",
    "load_checkpoint",
    "maxup_loss",
    "read_table",
]

if TYPE_CHECKING:
    from maxup_smoothing.certify.smoothing import SmoothedClassifier as SmoothedClassifier
    from maxup_smoothing.certify.statistics.certificate import Certificate as Certificate
    from maxup_smoothing.certify.statistics.radius import ABSTAIN as ABSTAIN
    from maxup_smoothing.certify.tables.radius_table import read as read_table
    from maxup_smoothing.train.checkpoint import load as load_checkpoint
    from maxup_smoothing.train.maxup import maxup_loss as maxup_loss
    from maxup_smoothing.train.perturbations import GaussianNoise as GaussianNoise
