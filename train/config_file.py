"""Configurations from TOML files and ``--set key=value``."""

import dataclasses
import difflib
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from train.config import TrainConfig

CONFIGS = Path(__file__).parent.parent / "configs"


def load(name: str, overrides: Iterable[str] = ()) -> TrainConfig:
    """Read a configuration.

    Besides the fields of ``TrainConfig`` a file may have ``base``, the name or path of a file that it changes, and
    tables ``[at_sigma."0.25"]`` of fields that hold if ``sigma`` is that, since methods are tuned for each sigma.

    Args:
        name: Path of a TOML file, or the name of a file in ``configs/`` without its ending.
        overrides: ``key=value`` each, the value written as in TOML (quotes around strings may be left out).

    Raises:
        ValueError: If a file is missing or not TOML, or a key or value is not one of ``TrainConfig``.
    """
    path = _find(name)
    changes = dict(map(_override, overrides))
    files = _chain(path, ())
    sigma = next((layer["sigma"] for layer in (changes, *reversed(files)) if "sigma" in layer), None)
    values: dict[str, Any] = {}
    for file in files:
        tables = file.pop("at_sigma", {})
        values |= file
        for key, table in tables.items():
            if isinstance(sigma, int | float) and sigma == _number(path, key):
                values |= table
    return from_mapping(values | changes, str(path))


def from_mapping(values: Mapping[str, Any], source: str) -> TrainConfig:
    """A configuration from keys and values; ``source`` is named in errors.

    Raises:
        ValueError: If a key is unknown or missing, or a value has the wrong type or range.
    """
    fields = typing.get_type_hints(TrainConfig)
    _check_keys(values, source)
    required = (field.name for field in dataclasses.fields(TrainConfig) if field.default is dataclasses.MISSING)
    missing = [name for name in required if name not in values]
    if missing:
        raise ValueError(f"{source}: missing {', '.join(missing)}; add it to the file or pass --set {missing[0]}=….")
    converted = {key: _convert(source, key, value, fields[key]) for key, value in values.items()}
    try:
        return TrainConfig(**converted)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _check_keys(values: Mapping[str, Any], source: str, without: str = "") -> None:
    known = [field.name for field in dataclasses.fields(TrainConfig) if field.name != without]
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0)[0]
            raise ValueError(f"{source}: unknown key {key!r}; did you mean {near!r}?")


def _find(name: str, what: str = "") -> Path:
    path = Path(name) if name.endswith(".toml") else CONFIGS / f"{name}.toml"
    if not path.is_file():
        known = sorted(file.stem for file in CONFIGS.glob("*.toml"))
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        raise ValueError(f"{what}no configuration {name!r}{hint} Give a .toml file or one of: {', '.join(known)}.")
    return path


def _chain(path: Path, above: tuple[Path, ...]) -> list[dict[str, Any]]:
    """What the file says, after what its base, its base's base, … say."""
    if path.resolve() in above:
        raise ValueError(f"{path} is its own base, by way of {above[-1]}.")
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid TOML: {error}.") from error
    tables = values.get("at_sigma", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ValueError(f'{path}: at_sigma holds tables, such as [at_sigma."0.25"].')
    for name, table in tables.items():
        if any(isinstance(value, dict) for value in table.values()):
            raise ValueError(f'{path}: [at_sigma.{name}.…] needs quotes around its number: [at_sigma."0.25"].')
        _number(path, name)
        _check_keys(table, f"{path}, at_sigma {name}", without="sigma")
    base = values.pop("base", None)
    if base is None:
        return [values]
    if not isinstance(base, str):
        raise ValueError(f"{path}: base must be the name or path of a configuration, got {base!r}.")
    beside = path.parent / base
    found = beside if base.endswith(".toml") and beside.is_file() else _find(base, f"the base of {path}, ")
    return [*_chain(found, (*above, path.resolve())), values]


def _number(path: Path, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f'{path}: the key of [at_sigma."{text}"] is not a number.') from None


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set expects key=value, got {text!r}.")
    return key.strip(), _parse(value.strip())


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
