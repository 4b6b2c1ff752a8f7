"""Checks that a network and a data set have the same classes; if not, the error names the likely cause and the fix."""

# Shapes: B rows of a batch, K classes; C channels, H height, W width.

import dataclasses
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from maxup_smoothing.certify.models.adapters import ArrayFunction
from maxup_smoothing.data.dataset import Dataset, listed

if TYPE_CHECKING:  # `loading` imports this module
    from maxup_smoothing.certify.models.loading import LoadedModel

#: What `--class-map` takes instead of a file: the names that the network's checkpoint, file or library declares.
AUTO = "auto"
#: What the manifest says of a network with one logit.
ONE_LOGIT = "one, taken as a sign: class 1 where it is above 0, else class 0"
_MAP = "pass --class-map FILE, with a line for each class: its {what} and its number in the network"

_Loaded = TypeVar("_Loaded", bound="LoadedModel")


def fitted(loaded: _Loaded, name: str, num_classes: int, dataset: Dataset | None = None) -> _Loaded:
    """Check a loaded model against the classes of a data set.

    A single logit z becomes the two logits 0 and z, if the data set has two classes or their number is not known.

    Args:
        loaded: The loaded model.
        name: The user's name of the model, for messages.
        num_classes: Number of classes of the data set; 0 if it has no labels, or a class map numbers them as the
            network does.
        dataset: The data set, for its labels and for messages; None if not known.

    Raises:
        ValueError: If the classes differ; with the cause and the fix.
    """
    if loaded.num_classes == 1:
        if num_classes not in (0, 2):
            raise ValueError(
                f"{name} has 1 class or logit, the data set {_number(num_classes)}; return one logit for each class "
                "(a single logit is taken as a sign where the data set has two classes)."
            )
        source = {**loaded.source, "logits": ONE_LOGIT}
        loaded = dataclasses.replace(loaded, model=_sign_of(loaded.model), num_classes=2, source=source)
    if num_classes and loaded.num_classes != num_classes:
        fix = _fix(loaded, num_classes, dataset)
        raise ValueError(f"{name} has {loaded.num_classes} classes, the data set {num_classes}; {fix}.")
    if dataset is None or not dataset.labelled:
        return loaded
    if not num_classes:
        if (top := int(dataset.labels.max())) >= loaded.num_classes:
            raise ValueError(
                f"the class map has the number {top} ({dataset.classes[top]}), but {name} has {loaded.num_classes} "
                f"classes, 0 to {loaded.num_classes - 1}; correct the map."
            )
        if told := moved(loaded.classes, dataset.classes):
            note = f"the class map makes {told[0]} class {told[2]}, but {name} calls its class {told[1]} so"
            return dataclasses.replace(loaded, notes=(*loaded.notes, note))
        return loaded
    if told := moved(loaded.classes, dataset.classes):
        raise ValueError(
            f"{name} was trained with {told[0]} as class {told[1]}, but in the data set it is class {told[2]}; number "
            f"the classes as in training, or pass --class-map {AUTO}, which numbers the labels by the names."
        )
    if dataset.named and _named(loaded.classes) and not _places(loaded.classes).keys() & _places(dataset.classes):
        note = (
            f"{name} calls its classes {listed(loaded.classes[:3])} …, the data set {listed(dataset.classes[:3])} …: "
            f"none is called the same, so their order is not compared; if it is another one, "
            f"{_MAP.format(what='name')}"
        )
        return dataclasses.replace(loaded, notes=(*loaded.notes, note))
    return loaded


def moved(network: Sequence[str], data: Sequence[str]) -> tuple[str, int, int] | None:
    """The first class that has another number in a data set than in a network: its name, and the two numbers.

    Args:
        network: Its class names in the order of the logits; empty if they are not known.
        data: Those of the data set in the order of the labels.

    Returns:
        None if there is no such class. Capitals, the marks between words, and what follows a comma do not count; names
        that two classes have are passed over.
    """
    places = _places(data)
    found = ((network[k], k, places[key]) for key, k in _places(network).items() if places.get(key, k) != k)
    return next(found, None)


def by_name(loaded: _Loaded, name: str, dataset: Dataset) -> tuple[_Loaded, dict[str, int]]:
    """The network's number of each class of a data set, found by its name: a class map.

    Args:
        loaded: The network.
        name: The user's name of it, for messages.
        dataset: Its class names; labels tell which of them have images.

    Returns:
        The network, with a note of the numbers, and the map.

    Raises:
        ValueError: If the network does not name its classes, or has no class of a name that has images.
    """
    places, present = _places(loaded.classes), set(np.unique(dataset.labels).tolist())
    if not places:
        raise ValueError(f"{name} does not name its classes; {_MAP.format(what='name')}.")
    found = {dataset.classes[k]: places[key] for key, k in _places(dataset.classes).items() if key in places}
    if missing := [one for k, one in enumerate(dataset.classes) if k in present and one not in found]:
        raise ValueError(
            f"{name} has no class that is called {listed(missing)}, its first ones are {listed(loaded.classes[:3])}; "
            f"{_MAP.format(what='name')}."
        )
    note = f"labels are numbered as {name} names its classes: {listed([f'{one} is {k}' for one, k in found.items()])}"
    return dataclasses.replace(loaded, notes=(*loaded.notes, note)), found


def _places(names: Sequence[str]) -> dict[str, int]:
    """The number of each name that is there once."""
    plain = [" ".join(re.split(r"[\s_-]+", name.casefold().partition(",")[0].strip())) for name in names]
    exactly, alike = Counter(names), Counter(plain)
    keys = [short if alike[short] == 1 else name for name, short in zip(names, plain, strict=True)]
    return {key: k for k, (key, name) in enumerate(zip(keys, names, strict=True)) if exactly[name] == 1}


def _named(classes: Sequence[str]) -> bool:
    return list(classes) != [str(k) for k in range(len(classes))]


def _number(num_classes: int) -> str:
    return "1 class" if num_classes == 1 else f"{num_classes} classes"


def _fix(loaded: "LoadedModel", wanted: int, dataset: Dataset | None) -> str:
    """The advice for different numbers of classes, from what is known of the model and of the data set."""
    found = loaded.num_classes
    others = loaded.foreign.outputs if loaded.foreign is not None else {}
    if loaded.foreign is not None and (other := [output for output, size in others.items() if size == wanted]):
        return (
            f"output {other[0]} of the file has {wanted}, but the first output is used; keep only {other[0]} with "
            f"onnx.utils.extract_model(FILE, NEW, {list(loaded.foreign.inputs)}, {other[:1]})"
        )
    if dataset is None:
        return "use a model and a data set with the same classes"
    lowest, top = int(dataset.labels.min()), int(dataset.labels.max())
    folder, archive = Path(dataset.name).is_dir(), dataset.name.lower().endswith(".npz")
    numbered = not dataset.named and not folder
    if numbered and lowest == 1 and top == found:
        return f"no label is 0 and the largest is {top}, so the labels count from 1; save labels - 1"
    map_fix = _MAP.format(what="number in the data set" if numbered else "name")
    if (ours := _places(dataset.classes)) and len(ours) == wanted and ours.keys() <= _places(loaded.classes).keys():
        map_fix = f"pass --class-map {AUTO}, which numbers the labels by the names"
    if wanted > found:
        return f"the network lacks some classes of the data set; use only images of the network's classes, or {map_fix}"
    missing = [name for name in loaded.classes if name not in dataset.classes]
    empty_class = "make an empty folder for each of them"
    if archive:
        empty_class = "save the names of all classes as classes in the .npz"
    if dataset.named and (folder or archive) and len(missing) == found - wanted:
        return f"the data set lacks {listed(missing)} of the network's classes; {empty_class}"
    if found > 2 * wanted or not (folder or archive):
        return f"the data set seems to have only some of the network's classes; {map_fix}"
    if numbered:
        return (
            f"the largest label is {top}; if the last classes have no image, save the names of all {found} as classes "
            f"in the .npz, such as numpy.array([str(k) for k in range({found})]); if they are numbered otherwise, "
            f"{map_fix}"
        )
    return f"if some classes have no image, {empty_class}; if not, {map_fix}"


def _sign_of(model: nn.Module) -> nn.Module:
    """Turn a network with one logit z into one with two, 0 and z; for z = 0 the class is 0."""
    if isinstance(model, ArrayFunction):  # it stays a function of arrays, whose arithmetic cannot be cast

        def two_logits(x_BCHW: NDArray[np.float32]) -> NDArray[np.float32]:
            z_B1 = model(torch.from_numpy(x_BCHW)).numpy()
            return np.concatenate([np.zeros_like(z_B1), z_B1], axis=1)

        return ArrayFunction(two_logits, 2)
    sign = _Sign()
    sign.training = False  # not by eval(), which exported programs do not support
    both = nn.Sequential(model, sign)
    both.training = False
    return both


class _Sign(nn.Module):
    def forward(self, z_B1: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(z_B1), z_B1], dim=1)
