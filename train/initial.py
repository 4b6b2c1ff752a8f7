"""The weights that a training begins with, where they are those of a trained network."""

from collections.abc import Sequence

from torch import nn


def take_over(model: nn.Module, trained: nn.Module, name: str) -> None:
    """Give ``model`` the weights and statistics of ``trained``.

    Args:
        model: New, from ``train.models.build``.
        trained: Likewise, with weights.
        name: Where they come from, for the message.

    Raises:
        ValueError: If the two differ in architecture or in the normalisation of their images.
    """
    here, there = model.state_dict(), trained.state_dict()
    for part in sorted(here.keys() | there.keys()):
        shapes = [str(tuple(state[part].shape)) if part in state else "missing" for state in (there, here)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"init = {name!r} is of another architecture: its {part} is {shapes[0]}, here {shapes[1]}; "
                "set arch and shortcut to those it was trained with."
            )
    for part in ("mean", "std"):
        theirs, ours = there[f"normalize.{part}"].flatten(), here[f"normalize.{part}"].flatten()
        if not theirs.equal(ours):
            raise ValueError(
                f"init = {name!r} normalises images with {part} = {_numbers(theirs.tolist())}, this run with "
                f"{_numbers(ours.tolist())}; set {part} to the former."
            )
    model.load_state_dict(there)


def normalize_option(mean: Sequence[float], std: Sequence[float]) -> str:
    """A normalisation as the option ``--normalize`` of ``certify`` has it."""
    return "/".join(",".join(map(repr, part)) for part in (mean, std))


def _numbers(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in values) + "]"
