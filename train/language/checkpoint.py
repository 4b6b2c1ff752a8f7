"""A language model in a file: safetensors, and in its metadata the configuration and the vocabulary."""

import json
import platform
from dataclasses import dataclass
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from maxup_smoothing.data.runtime.atomic import write_atomically
from maxup_smoothing.train import config_file
from maxup_smoothing.train.checkpoint import LANGUAGE
from maxup_smoothing.train.language.config import LanguageConfig
from maxup_smoothing.train.language.model import LanguageModel, build

SCHEMA = 1
METADATA = LANGUAGE


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained language model and what it is.

    Attributes:
        model: In evaluation mode, on the CPU.
        config: How it was trained.
        words: Its vocabulary.
        epoch: After which it was saved.
    """

    model: LanguageModel
    config: LanguageConfig
    words: tuple[str, ...]
    epoch: int


def save(path: Path, model: LanguageModel, config: LanguageConfig, words: tuple[str, ...], epoch: int) -> None:
    """Write a checkpoint, whole or not at all.

    Raises:
        OSError: If the file cannot be written.
    """
    described = {
        "schema": SCHEMA,
        "config": vars(config),
        "words": words,
        "epoch": epoch,
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    # One entry, since safetensors keeps several in no fixed order.
    write_atomically(path, safetensors.torch.save(tensors, metadata={METADATA: json.dumps(described)}))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint written by ``save``.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the file is damaged, is not a language model of ours, or comes from a newer version.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}; train one with `python -m train ptb_maxup`.")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(METADATA)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a mapping
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is not a readable safetensors file ({error}); it may be damaged or cut off."
        ) from error
    if text is None:
        raise ValueError(f"{path} is not a language model of this project; its metadata has no {METADATA!r}.")
    try:
        described = json.loads(text)
        schema, words, epoch = described["schema"], tuple(described["words"]), int(described["epoch"])
        if schema != SCHEMA:
            raise ValueError(f"schema {schema}, this version reads {SCHEMA}; install the version that wrote it.")
        config = config_file.from_mapping(described["config"], "its configuration", LanguageConfig)
        model = build(config, len(words))
        model.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError, RecursionError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    return Checkpoint(model=model.eval(), config=config, words=words, epoch=epoch)
