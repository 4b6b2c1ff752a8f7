"""Random changes of a batch, one draw for each example, all from a given generator.

A perturbation takes the batch, its targets and a generator on the batch's device, and returns both anew; it must
draw the same when called again with a generator in the same state: training is a function of its seed.
"""

from maxup_smoothing.train.perturbations.geometry import Cutout, RandomCrop, RandomFlip
from maxup_smoothing.train.perturbations.mixing import CutMix, MixUp
from maxup_smoothing.train.perturbations.perturbation import Compose, GaussianNoise, Perturbation
from maxup_smoothing.train.perturbations.randaugment import RandAugment

__all__ = [
    "Compose",
    "CutMix",
    "Cutout",
    "GaussianNoise",
    "MixUp",
    "Perturbation",
    "RandAugment",
    "RandomCrop",
    "RandomFlip",
]
