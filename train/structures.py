"""Inputs, targets and states of more than one tensor: nested dicts, tuples, lists, named tuples and dataclasses.

Dimension 0 of each tensor is the example. What else such a structure holds (None, numbers, strings) is a leaf that all
examples share.
"""

# Shapes: B examples.

import copy
import dataclasses
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

_TAKEN = "tensors, or dicts, tuples, lists, named tuples and dataclasses of them"


def device(x: Any, y: Any) -> torch.device:
    """Where a batch of inputs ``x`` and targets ``y`` lies, whose tensors must all have as many examples.

    Raises:
        ValueError: If there are no inputs, no examples, or tensors of different lengths.
    """
    inputs = list(tensors(x, "inputs"))
    if not inputs:
        raise ValueError(f"inputs must be {_TAKEN}; got {type(x).__name__} without any tensor.")
    leaves = [*inputs, *tensors(y, "targets")]
    lengths = {tuple(leaf.shape[:1]) for leaf in leaves}
    if len(lengths) > 1 or lengths == {()}:
        shapes = ", ".join(str(tuple(leaf.shape)) for leaf in leaves)
        raise ValueError(f"dimension 0 of all inputs and targets must be the example, got shapes {shapes}.")
    if lengths == {(0,)}:
        raise ValueError("the batch is empty, so it has no mean loss; give at least one example.")
    return inputs[0].device


def tensors(tree: Any, what: str) -> Iterator[Tensor]:
    """The tensors of ``tree``; ``what`` it is called in errors.

    Raises:
        ValueError: If it holds something else than is taken, such as a NumPy array.
    """
    if isinstance(tree, Tensor):
        yield tree
    elif (parts := _parts(tree)) is not None:
        for part in parts.values():
            yield from tensors(part, what)
    elif not isinstance(tree, str | bytes | bool | int | float | complex | None):
        raise ValueError(f"{what} must be {_TAKEN}; got {type(tree).__name__}.")


def is_finite(tree: Any) -> bool:
    """Whether all numbers in the tensors of ``tree`` are finite, such as those of a trainer's state."""
    return all(bool(leaf.isfinite().all()) for leaf in tensors(tree, "a state"))


def choose(mask_B: Tensor, yes: Any, no: Any) -> Any:
    """``yes`` where the mask is set and ``no`` elsewhere, example by example, in each tensor of two like structures.

    Raises:
        ValueError: If the two differ in anything but the numbers in their tensors.
    """
    return _combined(lambda yes, no: torch.where(mask_B.reshape(-1, *(1,) * (yes.dim() - 1)), yes, no), yes, no)


def concatenated(copies: Sequence[Any]) -> Any:
    """Like structures as one: each tensor has the examples of the first, then those of the second, and so on.

    Raises:
        ValueError: If they differ in anything but the numbers in their tensors.
    """
    return _combined(lambda *tensors: torch.cat(tensors), *copies)


def _combined(function: Callable[..., Tensor], *trees: Any) -> Any:
    """One structure, in which each tensor is a function of those at its place in several like structures."""
    first = trees[0]
    if all(isinstance(tree, Tensor) for tree in trees):
        if different := [tuple(tree.shape) for tree in trees if tree.shape != first.shape]:
            raise ValueError(
                f"all copies of a batch must have one shape, got {tuple(first.shape)} and {different[0]}; perturb "
                "without changing it."
            )
        return function(*trees)
    parts = [_parts(tree) for tree in trees]
    for tree, own in zip(trees, parts, strict=True):
        alike = type(tree) is type(first)
        if own is None or parts[0] is None:
            if not alike or tree != first:
                raise ValueError(
                    f"what is not a tensor must be the same in all copies, got {first!r:.99} and {tree!r:.99}."
                )
        elif not alike or own.keys() != parts[0].keys():
            raise ValueError(
                f"all copies must have one structure, got {type(first).__name__} of {list(parts[0])} and "
                f"{type(tree).__name__} of {list(own)}."
            )
    if parts[0] is None:
        return first
    return _rebuilt(first, {key: _combined(function, *(own[key] for own in parts if own)) for key in parts[0]})


def _parts(tree: Any) -> dict[Any, Any] | None:
    """The parts of a structure by their keys, None if it is a leaf."""
    if isinstance(tree, Mapping):
        return dict(tree)
    if isinstance(tree, tuple | list):
        return dict(enumerate(tree))
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        return {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree)}
    return None


def _rebuilt(tree: Any, parts: dict[Any, Any]) -> Any:
    """A structure like ``tree`` with other parts."""
    if isinstance(tree, MutableMapping):
        filled = copy.copy(tree)  # which may be more than a dict: the output of a library's model has attributes
        for key, value in parts.items():
            filled[key] = value
        return filled
    if isinstance(tree, Mapping):
        return type(tree)(parts)  # type: ignore[call-arg]  # as those of the standard library are made
    if isinstance(tree, tuple | list):
        # A named tuple takes its parts one by one.
        return type(tree)(*parts.values()) if hasattr(tree, "_fields") else type(tree)(parts.values())
    return dataclasses.replace(tree, **parts)
