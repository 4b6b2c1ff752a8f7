"""Reads weight files of other projects: named tensors, part by part, without running any code from the file."""

import pickle
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from torch import Tensor

#: Names of parts of a checkpoint that are not weights of a network.
_OTHER_PARTS = re.compile(r"optim|sched|scaler|amp$|loop|callback|rng|_metadata", re.IGNORECASE)
_MEAN = re.compile(r"(?<![a-z])(mean|means|mu)$")
_DEVIATIONS = {
    "mean": ("std", "sd", "stddev", "sigma", "stdev"),
    "means": ("stds", "sds", "std"),
    "mu": ("sigma", "std"),
}


class WeightFile:
    """A weight file that has been read.

    Args:
        path: A ``.safetensors`` file, or one that ``torch.save`` wrote; its objects of unknown classes are not built.

    Attributes:
        path: Path of the file.
        parts: Tensors by name, in a mapping for each part of the file, such as ``state_dict``; "" is the top level.
        normalizations: Means and standard deviations that are stored beside the weights: two names, and their numbers.

    Raises:
        ValueError: If the file is damaged, or holds no tensors with names; with the fix.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        found = _safetensors(path) if path.suffix == ".safetensors" else _unpickled(path)
        if isinstance(found, Foreign):
            raise ValueError(
                f"{path} holds a whole pickled model ({type(found).__name__}), and reading it would run its code; save "
                "model.state_dict() alone, or write a factory that loads it and name that, package.module:factory."
            )
        self.parts = dict(_parts(found))
        self.normalizations = list(_stored_numbers(found))
        if self.parts:
            return
        inside = sorted({type(value).__name__ for value in _leaves(found) if isinstance(value, Foreign)})
        if inside:
            raise ValueError(
                f"{path} holds more than weights ({', '.join(inside[:4])}), and reading it could run code; save "
                "model.state_dict() alone, or write a factory that loads it."
            )
        raise ValueError(f"{path} holds no state_dict (names with tensors); save model.state_dict() alone.")

    @property
    def names(self) -> Iterator[str]:
        """The names of all tensors."""
        return (name for part in self.parts.values() for name in part)


class Foreign(dict[Any, Any]):
    """A placeholder for an object of a pickle, so that its class runs no code; its type has the name of that class."""

    def __new__(cls, *arguments: Any, **options: Any) -> "Foreign":
        """An empty placeholder; the pickle's arguments are ignored."""
        return super().__new__(cls)

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""


def is_program(path: Path) -> bool:
    """Whether a file is a TorchScript program: an archive as of ``torch.save``, with code or constants added."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") or "/code/" in name for name in archive.namelist())


def pairs(names: Collection[str]) -> Iterator[tuple[str, str]]:
    """Pairs of names: a mean, and the standard deviation beside it."""
    for name in names:
        if found := _MEAN.search(name):
            twins = (name[: found.start()] + word for word in _DEVIATIONS[found[1]])
            if twin := next((twin for twin in twins if twin in names), None):
                yield name, twin


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a mapping
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is not a readable safetensors file ({error}); it may be damaged or cut off."
        ) from error


def _unpickled(path: Path) -> Any:
    try:
        foreign = torch.serialization.get_unsafe_globals_in_checkpoint(path) if zipfile.is_zipfile(path) else []
        stand_ins: list[Any] = [(type(name, (Foreign,), {}), name) for name in foreign]
        with torch.serialization.safe_globals(stand_ins):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} is damaged, or a pickle that holds more than weights, which could run code and is refused; "
            "save model.state_dict() alone."
        ) from error
    except Exception as error:  # a damaged file can raise any exception
        raise ValueError(f"{path} is damaged or not a PyTorch file ({' '.join(str(error).split())[:120]}).") from error


def _parts(found: Any, name: str = "", depth: int = 4) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """All mappings of names to tensors in a file, each with its place, such as ``model.state_dict``."""
    if not isinstance(found, Mapping) or isinstance(found, Foreign) or not depth:
        return
    inside = False
    for key, value in found.items():
        if isinstance(key, str) and not _OTHER_PARTS.search(key):
            for part in _parts(value, f"{name}.{key}".lstrip("."), depth - 1):
                inside = True
                yield part
    tensors = {str(key): value for key, value in found.items() if isinstance(value, Tensor)}
    if tensors and not (inside and all(_is_number(key, value) for key, value in tensors.items())):
        yield name, tensors


def _is_number(key: str, value: Tensor) -> bool:
    """Whether a tensor beside the weights is a single number, such as a loss, or part of a normalisation."""
    return value.numel() == 1 or key in {name for mean, others in _DEVIATIONS.items() for name in (mean, *others)}


def _leaves(found: Any, depth: int = 4) -> Iterator[Any]:
    if isinstance(found, Mapping) and not isinstance(found, Foreign) and depth:
        for value in found.values():
            yield from _leaves(value, depth - 1)
    else:
        yield found


def _stored_numbers(found: Any, name: str = "", depth: int = 3) -> Iterator[tuple[list[str], list[list[float]]]]:
    """Normalisations beside the weights, such as ``{"state_dict": …, "mean": […], "std": […]}``."""
    if not isinstance(found, Mapping) or isinstance(found, Foreign) or not depth:
        return
    inside = dict(_parts(found)).keys() - {""}
    if inside or not any(isinstance(value, Tensor) for value in found.values()):
        for mean, std in pairs([key for key in found if isinstance(key, str)]):
            pair = [_numbers(found[key]) for key in (mean, std)]
            # "mu" and "sigma" are left out: they may mean something else, such as the noise of training.
            if all(pair) and not mean.endswith("mu") and not std.endswith("sigma"):
                yield [f"{name}.{key}".lstrip(".") for key in (mean, std)], [part for part in pair if part]
    for key, value in found.items():
        if isinstance(key, str) and not _OTHER_PARTS.search(key):
            yield from _stored_numbers(value, f"{name}.{key}".lstrip("."), depth - 1)


def _numbers(value: Any) -> list[float] | None:
    if isinstance(value, Tensor):
        return [float(number) for number in value.flatten()]
    values = list(value) if isinstance(value, list | tuple) else [value]
    plain = all(isinstance(number, int | float) and not isinstance(number, bool) for number in values)
    return [float(number) for number in values] if plain else None
