"""AdamW, or SGD that averages its weights once validation stops getting better (NT-ASGD).

References:
    Merity, Keskar, Socher (2018), arXiv:1708.02182, section 4: non-monotonically triggered averaging.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim import ASGD, AdamW, Optimizer

from maxup_smoothing.train.language.config import LanguageConfig

NEVER = 1e12  # steps: averaging has not begun


def build(model: nn.Module, config: LanguageConfig) -> Optimizer:
    """The optimizer."""
    if config.optimizer == "adamw":
        return AdamW(model.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    # torch's ASGD with lambd = 0 has a constant rate; it is SGD up to step t0 and averages from there.
    return ASGD(model.parameters(), lr=config.lr, lambd=0.0, t0=NEVER, weight_decay=config.weight_decay)


def rate(config: LanguageConfig, step: int, steps: int) -> float:
    """Learning rate of a step, counted from 0, of ``steps`` in the whole run."""
    rising = config.warmup * steps
    if step < rising:
        return config.lr * (step + 1) / math.ceil(rising)
    if config.schedule == "constant":
        return config.lr
    return config.lr * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


def set_rate(optimizer: Optimizer, lr: float) -> None:
    """Take the next steps with ``lr``."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    for state in optimizer.state.values():
        if "eta" in state:  # ASGD takes each step with the rate that it worked out after the one before
            state["eta"].fill_(lr)


def averages(optimizer: Optimizer) -> bool:
    """Whether weights are being averaged."""
    return any(group.get("t0", NEVER) < NEVER for group in optimizer.param_groups)


def average_if_stalled(optimizer: Optimizer, perplexities: Sequence[float], patience: int) -> None:
    """Begin to average after this epoch if its perplexity is above the best of those over ``patience`` epochs ago."""
    if not isinstance(optimizer, ASGD) or averages(optimizer):
        return
    earlier = perplexities[: -patience - 1]
    if earlier and perplexities[-1] > min(earlier):
        # The weight of step t + 1 in the average is 1 / max(1, t - t0): torch sets it one step ahead.
        taken = max(float(state["step"]) for state in optimizer.state.values())
        for group in optimizer.param_groups:
            group["t0"] = taken - 1


@contextmanager
def averaged(model: nn.Module, optimizer: Optimizer) -> Iterator[None]:
    """Inside, ``model`` has the averaged weights, if any are averaged; afterwards its own again."""
    if not averages(optimizer):
        yield
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    own = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        for parameter in parameters:
            if "ax" in optimizer.state[parameter]:
                parameter.copy_(optimizer.state[parameter]["ax"])
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, own, strict=True):
                parameter.copy_(value)
