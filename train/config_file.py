"""Configurations from TOML files and ``--set key=value``."""

import dataclasses
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, overload

from maxup_smoothing.data.runtime import toml
from maxup_smoothing.train import names
from maxup_smoothing.train.config import TrainConfig, default

_LONGEST_CHAIN = 20
_TABLES = frozenset(("arch_options",))  # keys whose values are tables
CONFIGS = Path(__file__).parent.parent / "configs"

Config = TypeVar("Config")  # TrainConfig, or another task's frozen dataclass that checks itself


def task(name: str) -> str | None:
    """What a file or one of its bases says of its ``task``; None for training a classifier.

    Raises:
        ValueError: If a file is missing or not TOML.
    """
    said = [file["task"] for file in _chain(_find(name), (), None) if "task" in file]
    return str(said[-1]) if said else None


@overload
def load(name: str, overrides: Iterable[str] = ()) -> TrainConfig: ...
@overload
def load(name: str, overrides: Iterable[str] = (), *, kind: type[Config]) -> Config: ...
def load(name: str, overrides: Iterable[str] = (), *, kind: type[Any] = TrainConfig) -> Any:
    """Read a configuration.

    Besides the fields of ``kind`` a file may have ``base``, the name or path of a file that it changes. It may also
    have tables such as ``[at_sigma."0.25"]``, whose fields hold at that ``sigma``, since methods are tuned for each
    sigma.

    Args:
        name: Path of a TOML file, or the name of a file in ``configs/`` without its ending.
        overrides: ``key=value`` each, the value written as in TOML (quotes around strings may be left out).
        kind: The dataclass to fill; see ``task``.

    Raises:
        ValueError: If a file is missing or not TOML, or a key or value is not one of ``kind``.
    """
    path = _find(name)
    changes: dict[str, Any] = {}
    for text in overrides:
        changes = _merged(changes, dict([_nested(*_override(text))]))
    files = _chain(path, (), kind)
    sigma = next((layer["sigma"] for layer in (changes, *reversed(files)) if "sigma" in layer), None)
    values: dict[str, Any] = {}
    for file in files:
        tables = file.pop("at_sigma", {})
        values = _merged(values, file)
        for key, table in tables.items():
            if isinstance(sigma, int | float) and sigma == _number(path, key):
                values = _merged(values, table)
    return from_mapping(_merged(values, changes), str(path), kind)


def from_mapping(values: Mapping[str, Any], source: str, kind: type[Config]) -> Config:
    """A configuration from keys and values; ``source`` is named in errors.

    Raises:
        ValueError: If a key is unknown or missing, or a value has the wrong type or range.
    """
    fields = typing.get_type_hints(kind)
    _check_keys(values, source, kind)
    required = (field.name for field in _fields(kind) if default(field) is dataclasses.MISSING)
    missing = [name for name in required if name not in values]
    if missing:
        raise ValueError(f"{source}: missing {', '.join(missing)}; add it to the file or pass --set {missing[0]}=….")
    converted = {key: _convert(source, key, value, fields[key]) for key, value in values.items()}
    try:
        return kind(**converted)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def _fields(kind: type[Any]) -> tuple[dataclasses.Field[Any], ...]:
    return dataclasses.fields(kind)


def _check_keys(values: Mapping[str, Any], source: str, kind: type[Any], without: str = "") -> None:
    known = [field.name for field in dataclasses.fields(kind) if field.name != without]
    for key in values:
        if key not in known:
            hint = names.key_hint(key, known)
            hint = f"; the keys are those of {kind.__module__}.{kind.__name__}." if hint == "." else hint
            raise ValueError(f"{source}: unknown key {key!r}{hint}")


def _find(name: str, what: str = "") -> Path:
    path = Path(name) if name.endswith(".toml") else CONFIGS / f"{name}.toml"
    if not path.is_file() and name.endswith(".toml"):
        raise ValueError(f"{what}there is no file {name}; give another one, or the name of one in configs/.")
    if not path.is_file():
        known = sorted(file.stem for file in CONFIGS.glob("*.toml"))
        hint = names.hint(name, known)
        raise ValueError(f"{what}no configuration {name!r}{hint} Give a .toml file or one of: {', '.join(known)}.")
    return path


def _chain(path: Path, above: tuple[Path, ...], kind: type[Any] | None) -> list[dict[str, Any]]:
    """What the file says, after what its base, its base's base, … say."""
    if path.resolve() in above:
        raise ValueError(f"{path} is its own base, by way of {above[-1]}.")
    if len(above) > _LONGEST_CHAIN:
        raise ValueError(f"{path} is the base of a base …, more than {_LONGEST_CHAIN} levels deep.")
    values = toml.read(path)
    tables = values.get("at_sigma", {})
    if not isinstance(tables, dict) or not all(isinstance(table, dict) for table in tables.values()):
        raise ValueError(f'{path}: at_sigma holds tables, such as [at_sigma."0.25"].')
    for name, table in tables.items():
        if any(isinstance(value, dict) and key not in _TABLES for key, value in table.items()):
            raise ValueError(f'{path}: [at_sigma.{name}.…] needs quotes around its number: [at_sigma."0.25"].')
        _number(path, name)
        if kind is not None:
            _check_keys(table, f"{path}, at_sigma {name}", kind, without="sigma")
    base = values.pop("base", None)
    if base is None:
        return [values]
    if not isinstance(base, str):
        raise ValueError(f"{path}: base must be the name or path of a configuration, got {shown(base)}.")
    beside = path.parent / base
    found = beside if base.endswith(".toml") and beside.is_file() else _find(base, f"the base of {path}, ")
    return [*_chain(found, (*above, path.resolve()), kind), values]


def _number(path: Path, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f'{path}: the key of [at_sigma."{text}"] is not a number.') from None


def shown(value: object) -> str:
    """A value as an error shows it: not endlessly long, and numbers of thousands of digits not at all."""
    try:
        text = repr(value)
    except ValueError:  # Python refuses to write such numbers
        return "a number of thousands of digits"
    return text if len(text) <= 200 else f"{text[:200]} …"


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"--set expects key=value, got {text!r}.")
    if len(text) > toml.LARGEST:
        raise ValueError(f"--set {key[:50]!r}: a value has at most {toml.LARGEST} characters.")
    return key.strip(), _parse(value.strip())


def _nested(key: str, value: Any) -> tuple[str, Any]:
    """``arch_options.NAME`` and a value as the key of a table and the table."""
    table, dot, name = key.partition(".")
    return (table, {name: value}) if dot and table in _TABLES and name else (key, value)


def _merged(values: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Later values in place of earlier ones; of a table name by name."""
    merged = {**values, **later}
    for key in _TABLES & values.keys() & later.keys():
        if isinstance(values[key], dict) and isinstance(later[key], dict):
            merged[key] = {**values[key], **later[key]}
    return merged


def _parse(text: str) -> Any:
    try:
        return toml.parse(f"value = {text}")["value"]
    except ValueError:
        return text


def _convert(source: str, key: str, value: Any, kind: Any) -> Any:
    if typing.get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise ValueError(f"{source}: {key} must be a table, such as {key}.NAME = VALUE, got {shown(value)}.")
        return value
    if isinstance(kind, types.GenericAlias) and isinstance(value, list):
        item = typing.get_args(kind)[0]
        return tuple(_convert(source, key, part, item) for part in value)
    if type(value) is int and abs(value) >= 2**63:
        raise ValueError(f"{source}: {key} must be a number below 2^63.")
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        wanted = "a list" if isinstance(kind, types.GenericAlias) else f"of type {kind.__name__}"
        raise ValueError(f"{source}: {key} must be {wanted}, got {shown(value)}.")
    return value
