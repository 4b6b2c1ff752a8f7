"""The smoothed predictions of a trained classifier, as targets for another one."""

# Shapes: N images, B in a batch, K classes, C H W image.

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from maxup_smoothing.data.runtime import console
from maxup_smoothing.data.runtime.atomic import file_sha256
from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.distributed import World
from maxup_smoothing.train.perturbations import GaussianNoise
from maxup_smoothing.train.seeds import generator

TEACHER = 1 << 33  # sets these draws apart from those of training
BATCH = 512


def fingerprint(teacher: str) -> str:
    """SHA-256 of the teacher's checkpoint.

    Raises:
        FileNotFoundError: If there is none.
    """
    path = _checkpoint(teacher)
    if not path.is_file():
        raise FileNotFoundError(
            f"the teacher has no checkpoint at {path}; train it first, or set teacher to its folder."
        )
    return file_sha256(path)


def smoothed_predictions(teacher: str, images: Tensor, *, n: int, seed: int, world: World) -> Tensor:
    """How often a classifier votes for each class, over noise of the sigma that it was trained with.

    Cost: n forward passes an image. Autocast, where it is on, applies.

    Args:
        teacher: Path of a run folder, or of the checkpoint in it.
        images: uint8, (N, C, H, W), on the device where to work.
        n: Noisy copies of each image.
        seed: The result is a function of it, apart from rounding.
        world: The processes that share the work.

    Returns:
        Shares of the votes, float32, (N, K), on the device of ``images``; each row sums to 1.

    Raises:
        FileNotFoundError: If there is no checkpoint.
        ValueError: If it was not trained with noise, or on images of another shape.
    """
    path = _checkpoint(teacher)
    loaded = checkpoint.load(path)
    sigma, shape = loaded.metadata.get("config", {}).get("sigma"), tuple(images.shape[1:])
    if not sigma:
        raise ValueError(
            f"the teacher {path} was trained with sigma={sigma}, so it has no smoothed prediction; give one trained "
            "with noise."
        )
    if loaded.architecture.image_shape != shape:
        raise ValueError(
            f"the teacher {path} takes images of shape {loaded.architecture.image_shape}, this dataset has {shape}; "
            "give a teacher trained on the same dataset."
        )
    model, noise = loaded.model.to(images.device), GaussianNoise(sigma)
    votes_NK = torch.zeros(len(images), loaded.architecture.num_classes, device=images.device)
    batches = list(enumerate(zip(images.split(BATCH), votes_NK.split(BATCH), strict=True)))[world.rank :: world.size]
    mine = sum(len(votes_BK) for _, (_, votes_BK) in batches)
    with torch.no_grad(), console.Meter("teacher", "images", mine, mine * n, "samples") as meter:
        for number, (images_BCHW, votes_BK) in batches:
            x_BCHW = images_BCHW.to(torch.float32) / 255
            draw = generator(images.device, seed, TEACHER, number)
            for _ in range(n):
                noisy_BCHW, _ = noise(x_BCHW, x_BCHW, draw)
                votes_BK += F.one_hot(model(noisy_BCHW).argmax(1), votes_BK.shape[1])
                meter.advance(len(x_BCHW))
            meter.advance(finished=len(x_BCHW))
    return world.sum(votes_NK) / n


def _checkpoint(teacher: str) -> Path:
    return Path(teacher) / "checkpoint.safetensors" if Path(teacher).is_dir() else Path(teacher)
