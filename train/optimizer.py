"""SGD and the learning-rate schedules of the published recipes, one scheduler step a training step."""

import torch
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, OneCycleLR, StepLR

from maxup_smoothing.train.config import TrainConfig


def build(model: nn.Module, config: TrainConfig, steps_per_epoch: int) -> tuple[SGD, LRScheduler]:
    """The optimizer and its schedule.

    Args:
        model: Whose parameters are trained.
        config: ``lr``, ``momentum``, ``weight_decay``, ``nesterov``, ``schedule``, ``step_epochs``, ``gamma``.
        steps_per_epoch: Optimizer steps in an epoch; the scheduler is stepped after each.
    """
    optimizer = SGD(
        model.parameters(),
        lr=config.lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov,
    )
    total = config.epochs * steps_per_epoch
    schedule: LRScheduler
    if config.schedule == "step":
        schedule = StepLR(optimizer, config.step_epochs * steps_per_epoch, config.gamma)
    elif config.schedule == "cosine":
        schedule = CosineAnnealingLR(optimizer, total)
    elif config.schedule == "onecycle":
        # One step more than are taken: torch steps the schedule after the last optimizer step, too.
        schedule = OneCycleLR(
            optimizer,
            config.lr,
            total_steps=total + 1,
            base_momentum=config.momentum * 0.9,
            max_momentum=config.momentum,
        )
    else:
        schedule = ConstantLR(optimizer, factor=1.0)
    return optimizer, schedule


def learning_rate(optimizer: torch.optim.Optimizer) -> float:
    """The rate of the next step."""
    return float(optimizer.param_groups[0]["lr"])
