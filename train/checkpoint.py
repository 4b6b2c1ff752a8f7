"""The checkpoint: weights in safetensors, and in its metadata all that is needed to build the model and repeat the run.

The state that only resuming needs (optimizer, schedule, finished epochs) lies beside it; see ``train.loop``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import nn

from data.files import write_atomically
from train import models

SCHEMA = 1
METADATA = "maxup-smoothing"


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
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a mapping
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is not a readable safetensors file ({error}); it may be damaged or cut off."
        ) from error
    try:
        metadata = json.loads(text[METADATA])
        schema = metadata.pop("schema")
        architecture = Architecture(
            arch=metadata.pop("arch"),
            image_shape=tuple(metadata.pop("image_shape")),
            num_classes=metadata.pop("num_classes"),
            options=metadata.pop("options"),
        )
    except (KeyError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} has weights but does not say of what model ({error}); another project's weights are certified "
            "from a .pth of their state_dict with --arch."
        ) from error
    if schema != SCHEMA:
        raise ValueError(f"{path} has schema {schema}, this version reads {SCHEMA}; install the version that wrote it.")
    model = architecture.build()
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(f"the weights in {path} do not fit its architecture {architecture.arch}: {error}") from error
    return Checkpoint(model=model.eval(), architecture=architecture, metadata=metadata)
