"""Random changes of a batch, one draw for each example, all from a given generator.

A perturbation takes the batch, its targets and a generator on the batch's device, and returns both anew; it must
draw the same when called again with a generator in the same state: training is a function of its seed.
"""

from train.perturbations.compose import Compose
from train.perturbations.cutout import Cutout
from train.perturbations.mixing import CutMix, MixUp
from train.perturbations.moves import RandomCrop, RandomFlip
from train.perturbations.noise import GaussianNoise
from train.perturbations.perturbation import Perturbation
from train.perturbations.randaugment import RandAugment

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
