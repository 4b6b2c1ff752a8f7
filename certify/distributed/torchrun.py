"""What torchrun tells the processes that it starts, read from the environment; torch itself is not needed for that."""

import os


def local_rank() -> int | None:
    """The number of this process on its machine; None if torchrun has not started it."""
    return _number("LOCAL_RANK")


def shares() -> bool:
    """Whether this is one of several processes of torchrun."""
    return local_rank() is not None and _number("WORLD_SIZE") != 1


def is_first() -> bool:
    """Whether it is the one that talks."""
    return _number("RANK") in (0, None)


def restarts() -> int:
    """How often torchrun may start the processes anew."""
    return _number("TORCHELASTIC_MAX_RESTARTS") or 0


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else None
