"""Finds the set of tensors in another project's weight file that fits a network.

A file may nest the weights (``state_dict``, ``model_state_dict`` …) and prefix their names (``module.``, ``model.`` …).
It may hold several sets (raw and averaged), and the normalisation of the images. Nothing of that is ignored silently.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from maxup_smoothing.certify.models.normalizations import Normalization, same
from maxup_smoothing.certify.models.weight_files import WeightFile, pairs
from maxup_smoothing.train.models.heads import is_head

_AVERAGED = re.compile(r"(^|[._])(ema|avg|average|averaged|swa|teacher|shadow|polyak)($|[._\d])", re.IGNORECASE)
#: Words that wrappers put into names: DataParallel, torch.compile, FSDP, activation checkpoints.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
_COUNTERS = re.compile(r"(^|\.)(num_batches_tracked|n_averaged|num_updates|decay)$")  # no forward pass reads them
_SHOWN = 4  # most names that a message lists


class Undecided(ValueError):
    """Raised if a file holds several sets of weights, and the user has not chosen one.

    Attributes:
        choices: The values to choose from: ``ema`` and ``raw``, or the names of the sets.
    """

    def __init__(self, message: str, choices: Sequence[str]) -> None:
        super().__init__(message)
        self.choices = choices


@dataclass(frozen=True)
class Weights:
    """The content of a file that belongs to a network.

    Attributes:
        state: The tensors, by the network's own names.
        name: Name of the set; None if the file holds a single set that is not averaged.
        normalization: The normalisation that the file stores; None if it stores none.
        place: Names under which the normalisation is stored.
        unused: Names of the parts of the file that are not used.
    """

    state: Mapping[str, Tensor]
    name: str | None
    normalization: Normalization | None
    place: str
    unused: Sequence[str]


@dataclass(frozen=True)
class _Set:
    """A whole network in one part of a file; ``keys`` maps the network's names to the names in the part."""

    name: str
    part: Mapping[str, Tensor]
    keys: Mapping[str, str]

    @property
    def averaged(self) -> bool:
        return _AVERAGED.search(self.name) is not None

    def tensors(self) -> dict[str, Tensor]:
        return {key: self.part[name] for key, name in self.keys.items()}


def weights_of(
    file: WeightFile,
    network: nn.Module,
    what: str,
    *,
    channels: int,
    wanted: str | None,
    option: str,
    head: Collection[str] = (),
) -> Weights:
    """Find the weights of a network in a file.

    Args:
        file: The weight file.
        network: The network that the weights are for; it is not changed.
        what: A description of the network, for messages.
        channels: Number of channels of the images.
        wanted: The user's choice of a set: ``ema``, ``raw``, or the name of a set; None if there is no choice.
        option: The option for that choice, such as ``--weights``, for messages.
        head: Names of weights that may be missing or have another shape; other heads in the file are then unused.

    Raises:
        Undecided: If there are several different sets and ``wanted`` is None.
        ValueError: If no set fits, with the names that are missing or left over; or if ``wanted`` is not one set.
    """
    template = network.state_dict()
    needed = [key for key in template if not _COUNTERS.search(key) and key not in head]
    sets = [found for name, part in file.parts.items() for found in _sets(name, part, needed, head)]
    if not sets:
        raise ValueError(f"the weights in {file.path} are not those of {what}: {_closest(file, needed)}.")
    chosen = _chosen(file, sets, wanted, option)
    left = [name for name in chosen.part if not _COUNTERS.search(name)]
    for found in sets:
        if found.part is chosen.part:
            taken = set(found.keys.values())
            left = [name for name in left if name not in taken]
    normalization, place = _normalization(file, chosen.part, left, channels)
    left = [name for name in left if name not in place]
    others = [name or "the rest" for name, part in file.parts.items() if part is not chosen.part]
    if head:
        others += [name for name in left if is_head(name)]
        left = [name for name in left if not is_head(name)]
    if left:
        raise ValueError(
            f"the weights in {file.path} are not those of {what}: left over {_listed(left)}; save the network's "
            "state_dict() alone."
        )
    state = chosen.tensors()
    if wrong := [text for key in needed if (text := _mismatch(key, state[key], template[key]))]:
        raise ValueError(f"the weights in {file.path} are not those of {what}: {_listed(wrong, '; ')}.")
    counters = {key: value for key, value in template.items() if key not in state and key not in head}
    state |= {key: chosen.part.get(_beside(chosen, key), value) for key, value in counters.items()}
    told = len(sets) > 1 or chosen.averaged
    return Weights(state, chosen.name if told else None, normalization, " and ".join(place), others)


def _chosen(file: WeightFile, sets: Sequence[_Set], wanted: str | None, option: str) -> _Set:
    names = [found.name for found in sets]
    if wanted is not None:
        fitting = [found for found in sets if wanted in (found.name, "ema" if found.averaged else "raw")]
        if len(fitting) == 1:
            return fitting[0]
        raise ValueError(
            f"{file.path} holds {'the weights ' if len(sets) == 1 else 'these sets of weights: '}"
            f"{', '.join(names)}; {option} {wanted!r} names {'none' if not fitting else 'several'} of them."
        )
    first = sets[0].tensors()
    if all(_equal(first, found.tensors()) for found in sets[1:]):
        return sets[0]
    plain = sum(not found.averaged for found in sets) == 1 and len(sets) == 2
    choices = ["ema", "raw"] if plain else names
    raise Undecided(
        f"{file.path} holds {len(sets)} sets of weights: {', '.join(names)}; say which with "
        f"{option} {' or '.join(choices)}.",
        choices,
    )


def _closest(file: WeightFile, needed: Sequence[str]) -> str:
    """For a message: the names that are missing and left over in the part of the file that fits best."""
    most, best = -1, ("", "")
    for part in file.parts.values():
        names = _unwrapped(part)
        prefixes = {"", *(prefix for key in needed for prefix in _prefixes(names, key))}
        for prefix in sorted(prefixes, key=len):
            missing = [key for key in needed if prefix + key not in names]
            if len(needed) - len(missing) > most:
                wanted = {prefix + key for key in needed}
                left = [name for name in names if name not in wanted and not _COUNTERS.search(name)]
                most, best = len(needed) - len(missing), (_listed(missing), _listed(left))
    return f"missing {best[0]}" + (f"; left over {best[1]}" if best[1] else "")


def _normalization(
    file: WeightFile, part: Mapping[str, Tensor], left: Sequence[str], channels: int
) -> tuple[Normalization | None, list[str]]:
    """The normalisation that the file stores in front of the network, and the names of its tensors."""
    found = [(names, [part[name].flatten().double().tolist() for name in names]) for names in pairs(left)]
    values: list[Normalization] = []
    place = [name for names, _ in found for name in names]
    for names, (mean, std) in found:
        if len(mean) not in (1, channels) or len(std) not in (1, channels) or not min(std) > 0:
            raise ValueError(
                f"{file.path} stores a normalisation in {' and '.join(names)} that does not fit images of {channels} "
                "channels; build the model in a factory that has it as its first layer."
            )
        values.append((tuple(mean), tuple(std)))
    if any(not same(one, values[0], channels) for one in values):
        raise ValueError(
            f"{file.path} stores several normalisations, in {', '.join(place)}; build the model in a factory that has "
            "the right one as its first layer."
        )
    return (values[0] if values else None), place


def _prefixes(names: Collection[str], key: str) -> list[str]:
    return [name.removesuffix(key) for name in names if name == key or name.endswith("." + key)]


def _unwrapped(part: Mapping[str, Tensor]) -> dict[str, str]:
    """Maps names without the words of wrappers to the names in the part; unchanged if two names would coincide."""
    bare = {".".join(word for word in name.split(".") if word not in _WRAPPERS): name for name in part}
    return bare if len(bare) == len(part) else {name: name for name in part}


def _sets(name: str, part: Mapping[str, Tensor], needed: Sequence[str], optional: Collection[str]) -> list[_Set]:
    """All prefixes in a part of a file under which every needed name of the network occurs, each as a set."""
    last = {key: key for key in (*needed, *optional)}
    renamed = {key: re.sub(r"^fc\.", "linear.", key) for key in last}  # as some ResNets for CIFAR name it
    for names in ({key: key for key in part}, _unwrapped(part)):
        for other in (last, renamed):
            found = []
            for prefix in _prefixes(names, other[needed[0]]) if needed else []:
                if all(prefix + other[key] in names for key in needed):
                    place = ".".join(text for text in (name, prefix.rstrip(".")) if text)
                    keys = {key: names[prefix + other[key]] for key in other if prefix + other[key] in names}
                    found.append(_Set(place or "top", part, keys))
            if found:
                return found
    return []


def _beside(chosen: _Set, key: str) -> str:
    """The name in the file of a layer's counter, such as num_batches_tracked: beside the layer's other tensors."""
    layer = key.rpartition(".")[0]
    other = next((name for own, name in chosen.keys.items() if own.rpartition(".")[0] == layer), key)
    return f"{other.rpartition('.')[0]}.{key.rpartition('.')[2]}"


def _equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    return all(tensor.shape == other[key].shape and torch.equal(tensor, other[key]) for key, tensor in one.items())


def _mismatch(key: str, found: Tensor, expected: Tensor) -> str | None:
    if found.shape != expected.shape:
        return f"{key} is {tuple(found.shape)}, here {tuple(expected.shape)}"
    if expected.is_floating_point() and not found.is_floating_point():
        return f"{key} is {str(found.dtype).removeprefix('torch.')}, here a floating-point number"
    return None


def _listed(names: Sequence[str], between: str = ", ") -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return between.join(names[:_SHOWN]) + more
