"""The checkpoint: weights in safetensors, and in its metadata all that is needed to build the model and repeat the run.

The state that only resuming needs (optimizer, schedule, finished epochs) lies beside it; see ``train.loop``.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import nn

from maxup_smoothing.data.runtime import strict_json
from maxup_smoothing.data.runtime.atomic import write_atomically
from maxup_smoothing.train import models

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


def save(path: Path, model: nn.Module, architecture: Architecture, metadata: Mapping[str, Any]) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
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
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
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
    try:
        # First without memory: what the metadata claims must be as large as the weights that are there.
        with torch.device("meta"):
            architecture.build().load_state_dict({name: tensor.to("meta") for name, tensor in tensors.items()})
        model = architecture.build()
        model.load_state_dict(tensors)
    except (RuntimeError, ValueError, TypeError, ArithmeticError) as error:
        summary = " ".join(str(error).split())[:1000]
        raise ValueError(f"the weights in {path} do not fit its architecture {architecture.arch}: {summary}") from error
    return Checkpoint(model=model.eval(), architecture=architecture, metadata=metadata)


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
