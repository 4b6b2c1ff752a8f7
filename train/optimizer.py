"""SGD and AdamW, their groups of weights, and the learning-rate schedules, one scheduler step a training step."""

import math
import re
from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LambdaLR, LRScheduler, OneCycleLR, StepLR

from maxup_smoothing.train.config import TrainConfig

#: A numbered block of a network in the name of a weight, such as ``blocks.3`` or ``layer1.0``.
_BLOCK = re.compile(r"^(?:.*\.)?(?:blocks?|layers?)\.\d+(?=\.)|^.*?\.?\w+\.\d+(?=\.)|^\d+(?=\.)")


def build(model: nn.Module, config: TrainConfig, steps_per_epoch: int) -> tuple[Optimizer, LRScheduler]:
    """The optimizer and its schedule.

    Args:
        model: Whose parameters are trained.
        config: ``optimizer``, ``lr``, ``momentum``, ``betas``, ``weight_decay``, ``decay_norms``, ``layer_decay``,
            ``schedule`` and its keys.
        steps_per_epoch: Optimizer steps in an epoch; the scheduler is stepped after each.
    """
    groups = _groups(model, config)
    optimizer: Optimizer
    if config.optimizer == "adamw":
        betas = (config.betas[0], config.betas[1])
        optimizer = AdamW(groups, lr=config.lr, betas=betas, weight_decay=config.weight_decay)
    else:
        optimizer = SGD(
            groups,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            nesterov=config.nesterov,
        )
    return optimizer, _schedule(optimizer, config, steps_per_epoch)


def learning_rate(optimizer: Optimizer) -> float:
    """The rate of the next step; of the layer that has the largest."""
    return max(float(group["lr"]) for group in optimizer.param_groups)


def layers(names: Iterable[str]) -> list[int]:
    """The layer of each weight of a network, counted from its input.

    A numbered block is a layer. What comes before the first block is one layer, and what follows the last is another
    one. In a network without numbered blocks each part is a layer.

    Args:
        names: Of the weights, in their order in the network.
    """
    given = [name.removeprefix("backbone.") for name in names]
    blocks = [found[0] if (found := _BLOCK.match(name)) else None for name in given]
    if not any(blocks):
        parts = list(dict.fromkeys(name.partition(".")[0] for name in given))
        return [parts.index(name.partition(".")[0]) for name in given]
    numbers = {block: number for number, block in enumerate(dict.fromkeys(block for block in blocks if block), start=1)}
    last = max(place for place, block in enumerate(blocks) if block)
    depths, now = list[int](), 0
    for place, block in enumerate(blocks):
        now = numbers[block] if block else (len(numbers) + 1 if place > last else now)
        depths.append(now)
    return depths


def checkpoint_gradients(network: nn.Module, arch: str) -> None:
    """Let a network compute activations again in the backward pass.

    Raises:
        ValueError: If it does not offer that.
    """
    try:
        if hasattr(network, "set_grad_checkpointing"):
            network.set_grad_checkpointing(True)  # type: ignore[operator]  # of timm
            return
        if getattr(network, "supports_gradient_checkpointing", False):
            old, new = (f"{word}_checkpointing" for word in ("gradient", "activation"))  # before and since version 5
            word = new if hasattr(network, f"{new}_enable") else old
            # Attacks differentiate by the input alone.
            getattr(network, f"{word}_enable")(**{f"{word}_kwargs": {"use_reentrant": False}})
            return
    except (AssertionError, NotImplementedError, ValueError):
        pass
    raise ValueError(f"grad_checkpointing = true: {arch} does not offer it; leave it out, or raise accumulate.")


def _groups(model: nn.Module, config: TrainConfig) -> Any:
    """The weights, in groups where their rates or decays differ."""
    if config.decay_norms and config.layer_decay == 1:
        return model.parameters()
    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    depth = layers(name for name, _ in named)
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for (_, weight), layer in zip(named, depth, strict=True):
        decays = config.decay_norms or weight.dim() > 1
        rate = config.lr * config.layer_decay ** (max(depth) - layer)
        decay = config.weight_decay if decays else 0.0
        group = groups.setdefault((layer, decays), {"params": [], "lr": rate, "weight_decay": decay})
        group["params"].append(weight)
    return list(groups.values())


def _schedule(optimizer: Optimizer, config: TrainConfig, steps_per_epoch: int) -> LRScheduler:
    total = config.epochs * steps_per_epoch
    if config.schedule == "onecycle":
        # One step more than are taken: torch steps the schedule after the last optimizer step, too.
        momentum = config.momentum if config.optimizer == "sgd" else config.betas[0]
        return OneCycleLR(
            optimizer,
            [float(group["lr"]) for group in optimizer.param_groups],
            total_steps=total + 1,
            base_momentum=momentum * 0.9,
            max_momentum=momentum,
        )
    if config.lr_warmup or config.lr_min:
        return LambdaLR(optimizer, lambda step: _factor(step, total, steps_per_epoch, config))
    if config.schedule == "step":
        return StepLR(optimizer, config.step_epochs * steps_per_epoch, config.gamma)
    if config.schedule == "cosine":
        return CosineAnnealingLR(optimizer, total)
    return ConstantLR(optimizer, factor=1.0)


def _factor(step: int, total: int, steps_per_epoch: int, config: TrainConfig) -> float:
    """The learning rate of a step over the full one, with warm-up."""
    warm = math.ceil(config.lr_warmup * steps_per_epoch)
    if step < warm:
        return (step + 1) / (warm + 1)
    if config.schedule == "step":
        return float(config.gamma ** (step // (config.step_epochs * steps_per_epoch)))
    if config.schedule == "cosine":
        floor, done = config.lr_min / config.lr, min(1.0, (step - warm) / max(1, total - warm))
        return floor + (1 - floor) * (1 + math.cos(math.pi * done)) / 2
    return 1.0
