"""The manifest beside a radius table: what was certified, how, and with which seeds, as JSON.

A manifest is a plain dict of JSON values. Everything in it must agree before a run may continue a table, except the
section ``notes``, which is for what may differ between a run and its continuation: host, command, time.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data.files import write_atomically

SCHEMA = 1
_NOT_COMPARED = ("notes", "schema")  # `read` has refused every schema but ours


def manifest_path(table_path: str | os.PathLike[str]) -> Path:
    """Where the manifest of a radius table lies: ``radii.tsv`` has ``radii.manifest.json`` in the same folder."""
    path = Path(table_path)
    # The end of ``noise_0.25`` is no suffix: replaced, ``noise_0.50`` would share its manifest.
    stem = path.stem if path.suffix[1:2].isalpha() else path.name
    return path.with_name(f"{stem}.manifest.json")


def encode(manifest: Mapping[str, Any]) -> bytes:
    """The bytes that `write` puts on disk: indented JSON with the schema number first.

    Raises:
        ValueError: If the manifest holds nan or an infinity, which JSON cannot say, or another schema number.
    """
    if manifest.get("schema", SCHEMA) != SCHEMA:
        raise ValueError(f"a manifest of schema {SCHEMA} was expected, got schema {manifest['schema']}.")
    text = json.dumps({"schema": SCHEMA, **manifest}, indent=2, allow_nan=False, ensure_ascii=False)
    return (text + "\n").encode()


def write(path: str | os.PathLike[str], manifest: Mapping[str, Any]) -> None:
    """Write a manifest so that a crash leaves the old file or the new one, never a part.

    Raises:
        ValueError: If the manifest holds nan or an infinity.
        OSError: If it cannot be written; the message names the file.
    """
    write_atomically(path, encode(manifest))


def read(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a manifest back.

    Raises:
        ValueError: If the file is damaged or of a schema that this version does not know.
        OSError: If it cannot be read.
    """
    try:
        manifest = json.loads(Path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: not JSON ({error}); write to another file or pass --overwrite.") from None
    if not isinstance(manifest, dict) or "schema" not in manifest:
        raise ValueError(
            f"{path} is not a manifest of a radius table: a JSON object with a schema number was expected."
        )
    if manifest["schema"] != SCHEMA:
        raise ValueError(f"{path} has manifest schema {manifest['schema']}, this version reads schema {SCHEMA}.")
    return manifest


def told(manifest: Mapping[str, Any], *keys: str) -> Any:
    """A value of a manifest by its section and name; None where it is not there."""
    value: Any = manifest
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str | None:
    """The first field in which two manifests differ, with both values; None if a run may continue the other's table.

    Returns:
        For example ``alpha=0.001, this run uses alpha=0.01``; names inside sections are dotted, ``model.sha256``.
    """
    kept_old, kept_new = (
        json.loads(json.dumps({name: value for name, value in manifest.items() if name not in _NOT_COMPARED}))
        for manifest in (old, new)
    )
    return _difference("", kept_old, kept_new)


def _difference(prefix: str, old: Any, new: Any) -> str | None:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            found = _difference(f"{prefix}.{name}".lstrip("."), old.get(name, _ABSENT), new.get(name, _ABSENT))
            if found is not None:
                return found
        return None
    if old == new and isinstance(old, bool) == isinstance(new, bool):  # True == 1, and yet another setting
        return None
    return f"{prefix}={_shown(old)}, this run uses {prefix}={_shown(new)}"


_ABSENT = object()


def _shown(value: Any) -> str:
    return "(absent)" if value is _ABSENT else json.dumps(value, ensure_ascii=False)
