"""The checkpoint: weights in safetensors, and in its metadata all that is needed to build the model and repeat the run.

The state that only resuming needs (optimizer, schedule, finished epochs) lies beside it; see ``train.loop``.
"""

import json
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from maxup_smoothing.data.runtime import strict_json
from maxup_smoothing.data.runtime.atomic import file_sha256, write_atomically
from maxup_smoothing.train import models
from maxup_smoothing.train.models import factories, hub
from maxup_smoothing.train.models.heads import head_parts, is_head

SCHEMA = 1
METADATA = "maxup-smoothing"
LANGUAGE = "maxup-language"  # of train.language.checkpoint


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """What ``train.models.build`` needs, apart from the normalisation, whose numbers are among the weights."""

    arch: str
    image_shape: tuple[int, int, int]
    num_classes: int
    options: Mapping[str, Any]

    @property
    def foreign(self) -> bool:
        """Whether the network is of a library or of a user."""
        return models.is_foreign(self.arch)

    def build(self, mean: Sequence[float] = (0.0,), std: Sequence[float] = (1.0,)) -> nn.Module:
        """A new model."""
        return models.build(self.arch, self.image_shape, self.num_classes, mean=mean, std=std, **self.options)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained model and what it is.

    Attributes:
        model: In evaluation mode, on the CPU.
        architecture: How it was built.
        metadata: ``config`` (the training configuration), ``classes``, ``epoch``, ``versions``.
    """

    model: nn.Module
    architecture: Architecture
    metadata: Mapping[str, Any]

    @property
    def classes(self) -> tuple[str, ...]:
        """The class names that are recorded; empty unless there is exactly one for each class."""
        told = self.metadata.get("classes")
        wanted = self.architecture.num_classes
        return tuple(map(str, told)) if isinstance(told, list) and len(told) == wanted else ()


def save(path: Path, model: nn.Module, architecture: Architecture, metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        ValueError: If the model keeps state that is no tensor.
        OSError: If the file cannot be written.
    """
    described = {
        "schema": SCHEMA,
        "arch": architecture.arch,
        "image_shape": list(architecture.image_shape),
        "num_classes": architecture.num_classes,
        "options": dict(architecture.options),
        **metadata,
    }
    described |= _source(architecture)
    tensors = _tensors(model)
    # One entry: safetensors keeps several in an order that changes from process to process, and with it the bytes.
    text = json.dumps(described)
    write_atomically(path, safetensors.torch.save(tensors, metadata={METADATA: text}))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint written by ``save``.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the file is damaged, is not one of ours, or comes from a newer version.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; train one with `python -m train CONFIG`.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = file.metadata() or {}
            if LANGUAGE in text:
                raise ValueError(f"{path} is a language model of this project, and no classifier of images.")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a mapping
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is not a readable safetensors file ({error}); it may be damaged or cut off."
        ) from error
    try:
        metadata = strict_json.parse(text[METADATA])
        if not isinstance(metadata, dict):
            raise ValueError("no JSON object")
        schema = metadata.pop("schema")
        architecture = _architecture(metadata)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{path} has weights but does not say of what model ({error}); another project's weights are certified "
            "with --arch NAME."
        ) from error
    if schema != SCHEMA:
        raise ValueError(f"{path} has schema {schema}, this version reads {SCHEMA}; install the version that wrote it.")
    if not isinstance(metadata.get("config", {}), dict):
        raise ValueError(f"{path} is damaged: its configuration is no table of names and values; train it again.")
    model = _built(path, architecture, tensors)
    _tell_changes(path, architecture, metadata)
    return Checkpoint(model=model.eval(), architecture=architecture, metadata=metadata)


def _built(path: Path, architecture: Architecture, tensors: dict[str, Tensor]) -> nn.Module:
    """The model of a checkpoint, with its weights."""
    found = architecture
    if architecture.foreign:
        found = replace(architecture, arch=_place(path, architecture.arch))
    try:
        # First without memory: what the metadata claims must be as large as the weights that are there.
        with torch.device("meta"):
            empty = found.build()
    except Exception as error:
        if not architecture.foreign:
            raise _misfit(path, architecture, error) from error
        empty = None  # code of others need not work without memory
    try:
        if empty is not None:
            empty.load_state_dict({name: tensor.to("meta") for name, tensor in tensors.items()})
    except (RuntimeError, ValueError, TypeError, ArithmeticError) as error:
        raise _misfit(path, architecture, error) from error
    try:
        model = found.build()
    except (ValueError, OSError) as error:
        if not architecture.foreign:
            raise _misfit(path, architecture, error) from error
        raise ValueError(f"{path} holds the weights of {architecture.arch}, which cannot be built: {error}") from error
    try:
        model.load_state_dict(tensors)
    except (RuntimeError, ValueError, TypeError, ArithmeticError) as error:
        raise _misfit(path, architecture, error) from error
    return model


def _misfit(path: Path, architecture: Architecture, error: Exception) -> ValueError:
    summary = " ".join(str(error).split())[:1000]
    return ValueError(f"the weights in {path} do not fit its architecture {architecture.arch}: {summary}")


def _place(path: Path, arch: str) -> str:
    """A factory of a file, beside the checkpoint if it does not lie in the working directory.

    Raises:
        ValueError: If it is a module of Python's own: no network is made there.
    """
    where, _, attribute = arch.rpartition(":")
    if where.partition(".")[0] in sys.stdlib_module_names and not where.endswith(".py"):
        raise ValueError(f"{path} is damaged: its architecture {arch} is a part of Python; train it again.")
    if where.endswith(".py") and not Path(where).is_file() and (path.parent / where).is_file():
        return f"{path.parent / where}:{attribute}"
    return arch


def _source(architecture: Architecture) -> dict[str, Any]:
    """Where the code of a network of others is from: the version of its library, or the hash of its factory's file."""
    if not architecture.foreign:
        return {}
    if hub.is_name(architecture.arch):
        return {"built_by": hub.version(architecture.arch)}
    file = factories.source_file(architecture.arch)
    return {"built_by": {"sha256": file_sha256(file)}} if file and file.is_file() else {}


def _tell_changes(path: Path, architecture: Architecture, metadata: Mapping[str, Any]) -> None:
    """Say on stderr if a network is built by other code than it was trained with."""
    was = metadata.get("built_by")
    now = _source(replace(architecture, arch=_place(path, architecture.arch)) if architecture.foreign else architecture)
    if was is not None and now and was != now["built_by"]:
        what = "its file has changed since" if "sha256" in was else f"trained with {was}, built with {now['built_by']}"
        print(f"note: {path} is a network of {architecture.arch}: {what}.", file=sys.stderr)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    """The state of a model, each tensor in memory of its own, as safetensors wants it."""
    found, seen = dict[str, Tensor](), set[int]()
    for name, tensor in model.state_dict().items():
        if not isinstance(tensor, Tensor):
            raise ValueError(f"the network keeps state that is no tensor ({name}), which a checkpoint cannot hold.")
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.contiguous() if place not in seen else tensor.clone(memory_format=torch.contiguous_format)
        seen.add(place)
    return found


def require_plain_archive(path: Path) -> None:
    """Refuse a file of ``torch.save`` whose parts are compressed, as torch writes none: they may unpack to anything.

    Raises:
        ValueError: If a part is, or the archive is damaged.
    """
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            parts = archive.infolist()
    except Exception as error:
        raise ValueError(f"{path} is a damaged archive ({error}).") from error
    for part in parts:
        if part.compress_type != zipfile.ZIP_STORED or part.file_size > path.stat().st_size:
            raise ValueError(f"{path} has compressed parts, as no file of torch.save has; save it again with torch.")


def _architecture(metadata: dict[str, Any]) -> Architecture:
    """What ``save`` described, with the types that it has there.

    Raises:
        KeyError: If something is missing.
        ValueError: If it is something else.
    """
    arch, shape, num_classes, options = (metadata.pop(k) for k in ("arch", "image_shape", "num_classes", "options"))
    sizes = shape if isinstance(shape, list) else []
    if len(sizes) != 3 or not all(type(size) is int and 0 < size < 2**15 for size in (*sizes, num_classes)):
        raise ValueError("image_shape must be three sizes, and num_classes a number")
    if not isinstance(arch, str) or not isinstance(options, dict) or options.keys() & {"mean", "std"}:
        raise ValueError("arch must be a name, and options a table of names and values")
    channels, height, width = sizes
    return Architecture(arch=arch, image_shape=(channels, height, width), num_classes=num_classes, options=options)


def take_over(
    model: nn.Module, trained: Mapping[str, Tensor], name: str, num_classes: int, *, reset_head: bool = False
) -> list[str]:
    """Give ``model`` the weights and statistics of a trained classifier.

    Args:
        model: New, from ``train.models.build``.
        trained: The state of another one; without ``normalize`` it takes the normalisation of ``model``.
        name: Where they come from, for the message.
        num_classes: Of ``model``.
        reset_head: Whether the classifier head stays new where that of ``trained`` has other classes or is missing.

    Returns:
        The names of what stays new.

    Raises:
        ValueError: If the two differ in architecture or in the normalisation of their images.
    """
    here = model.state_dict()
    front = {part: tensor for part, tensor in here.items() if part.startswith("normalize.")}
    there = {**front, **trained}
    fresh = [
        part
        for part in head_parts(model, num_classes)
        if part not in there
        or (there[part].shape != here[part].shape and there[part].shape[1:] == here[part].shape[1:])
    ]
    for part in sorted((here.keys() | there.keys()) - set(fresh)):
        if part not in here and reset_head and is_head(part):
            continue
        shapes = [str(tuple(state[part].shape)) if part in state else "missing" for state in (there, here)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"init = {name!r} is of another architecture: its {part} is {shapes[0]}, here {shapes[1]}; "
                "set arch and its options to those it was trained with."
            )
    if fresh and not reset_head:
        had = f"a head of {len(there[fresh[0]])} classes" if fresh[0] in there else "no head"
        raise ValueError(
            f"init = {name!r} has {had} ({fresh[0].removeprefix('backbone.')}), the data set {num_classes} classes; "
            "pass --set init_head=reset to begin with a new head."
        )
    for part in ("mean", "std"):
        theirs, ours = there[f"normalize.{part}"].flatten(), here[f"normalize.{part}"].flatten()
        if not theirs.equal(ours):
            raise ValueError(
                f"init = {name!r} normalises images with {part} = {_numbers(theirs.tolist())}, this run with "
                f"{_numbers(ours.tolist())}; set {part} to the former."
            )
    model.load_state_dict({part: here[part] if part in fresh else there[part] for part in here})
    return fresh


def _numbers(values: Sequence[float]) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in values) + "]"
