"""Reads what torchrun sets in the environment of the processes that it starts; this does not import torch."""

import os


def local_rank() -> int | None:
    """The number of this process on its machine; None if torchrun has not started it."""
    return _number("LOCAL_RANK")


def shares() -> bool:
    """Whether this process is one of several that torchrun has started."""
    return local_rank() is not None and _number("WORLD_SIZE") != 1


def is_first() -> bool:
    """Whether this process is the one that writes messages: the first of torchrun's, or a single one."""
    return _number("RANK") in (0, None)


def restarts() -> int:
    """How often torchrun may restart the processes."""
    return _number("TORCHELASTIC_MAX_RESTARTS") or 0


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else None
