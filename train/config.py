"""What a training run is: one frozen dataclass, filled from a TOML file and ``--set key=value``."""

import dataclasses
import difflib
import json
import math
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).parent.parent / "configs"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """A training run. Fields without a default must be given.

    Attributes:
        dataset: Name in ``data.registry``, an ``.npz`` file or a folder of class folders.
        arch: Name in ``train.models``.
        objective: Name in ``train.objectives``.
        sigma: Standard deviation of the noise in [0, 1] pixel units; 0 trains without noise.
        epochs: Passes over the training images.
        batch_size: Images in a step.
        lr: Learning rate; for ``onecycle`` its peak.
        m: Copies of each image (objective ``maxup``).
        reduction: ``max``, ``mean``, ``topk`` or ``logsumexp`` over the copies.
        top_k: How many copies ``topk`` keeps.
        temperature: Of ``logsumexp``.
        selection: Mode in which MaxUp compares copies, ``train`` or ``eval``; see ``train.maxup``.
        schedule: ``step``, ``cosine``, ``onecycle`` or ``constant``.
        step_epochs: For ``step``: epochs between two drops.
        gamma: For ``step``: factor of a drop.
        momentum: Of SGD.
        weight_decay: Of SGD.
        nesterov: Of SGD.
        augment: Any of ``crop`` (4 pixels of padding) and ``flip``, applied before the noise.
        mean: Normalisation, the model's first layer; one number or one a channel.
        std: The same.
        shortcut: Of the residual networks, ``conv`` or ``pad``.
        dtype: Arithmetic of the passes: ``float32`` or ``bfloat16`` (autocast; weights stay float32).
        channels_last: Memory layout of images and weights.
        holdout: Images withheld from training, the last ones of the split; noisy accuracy is then measured on them.
        probe: Without ``holdout``: training images on which noisy accuracy is measured.
        seed: Fixes initial weights, order, augmentation and noise.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    """

    dataset: str
    arch: str
    objective: str
    sigma: float
    epochs: int
    batch_size: int
    lr: float
    m: int = 1
    reduction: str = "max"
    top_k: int = 1
    temperature: float = 1.0
    selection: str = "train"
    schedule: str = "step"
    step_epochs: int = 30
    gamma: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    nesterov: bool = False
    augment: tuple[str, ...] = ()
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    shortcut: str = "conv"
    dtype: str = "float32"
    channels_last: bool = True
    holdout: int = 0
    probe: int = 2000
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        """Check what one field alone can say; names are checked where they are looked up."""
        for name in ("epochs", "batch_size", "lr", "gamma", "step_epochs"):
            value = getattr(self, name)
            _require(0 < value < math.inf, f"{name} must be positive and finite, got {value}.")
        for name in ("sigma", "momentum", "weight_decay", "holdout", "probe", "seed"):
            _require(getattr(self, name) >= 0, f"{name} must be at least 0, got {getattr(self, name)}.")
        _require(self.seed < 2**63, f"seed must be below 2^63, got {self.seed}.")
        _require(
            self.sigma < 4, f"sigma is in [0, 1] pixel units, got {self.sigma}; did you mean {self.sigma / 255:.3g}?"
        )
        _choice("schedule", self.schedule, ("step", "cosine", "onecycle", "constant"))
        _choice("dtype", self.dtype, ("float32", "bfloat16"))
        for part in self.augment:
            _choice("augment", part, ("crop", "flip"))

    def to_toml(self) -> str:
        """The configuration as a TOML file that ``load`` reads back to an equal one."""
        # JSON's strings, numbers, booleans and lists are TOML's.
        return "".join(
            f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in dataclasses.asdict(self).items()
        )


def load(name: str, overrides: Iterable[str] = ()) -> TrainConfig:
    """Read a configuration.

    Args:
        name: Path of a TOML file, or the name of a file in ``configs/`` without its ending.
        overrides: ``key=value`` each, the value written as in TOML (quotes around strings may be left out).

    Raises:
        ValueError: If the file is missing or not TOML, or a key or value is not one of ``TrainConfig``.
    """
    path = Path(name) if name.endswith(".toml") else CONFIGS / f"{name}.toml"
    if not path.is_file():
        known = sorted(file.stem for file in CONFIGS.glob("*.toml"))
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"no configuration {name!r}{hint} Give a .toml file or one of: {', '.join(known)}.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}.") from error
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise ValueError(f"--set expects key=value, got {override!r}.")
        values[key.strip()] = _parse(text.strip())
    return from_mapping(values, str(path))


def from_mapping(values: Mapping[str, Any], source: str) -> TrainConfig:
    """A configuration from keys and values; ``source`` is named in errors.

    Raises:
        ValueError: If a key is unknown or missing, or a value has the wrong type or range.
    """
    fields = typing.get_type_hints(TrainConfig)
    for key in values:
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1, cutoff=0)[0]
            raise ValueError(f"{source}: unknown key {key!r}; did you mean {near!r}?")
    required = (field.name for field in dataclasses.fields(TrainConfig) if field.default is dataclasses.MISSING)
    missing = [name for name in required if name not in values]
    if missing:
        raise ValueError(f"{source}: missing {', '.join(missing)}; add it to the file or pass --set {missing[0]}=….")
    converted = {key: _convert(source, key, value, fields[key]) for key, value in values.items()}
    try:
        return TrainConfig(**converted)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _convert(source: str, key: str, value: Any, kind: Any) -> Any:
    if isinstance(kind, types.GenericAlias) and isinstance(value, list):
        item = typing.get_args(kind)[0]
        return tuple(_convert(source, key, part, item) for part in value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        wanted = "a list" if isinstance(kind, types.GenericAlias) else f"of type {kind.__name__}"
        raise ValueError(f"{source}: {key} must be {wanted}, got {value!r}.")
    return value


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _choice(name: str, value: str, valid: tuple[str, ...]) -> None:
    _require(value in valid, f"{name} must be one of {', '.join(valid)}, got {value!r}.")
