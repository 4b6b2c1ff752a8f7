"""Reads, writes and compares manifests, the JSON beside a radius table; ``certify.runs.session`` puts one together.

A manifest is a plain dict of JSON values. Everything in it must agree before a run may continue a table, except the
section ``notes``, which is for what may differ between a run and its continuation: host, command, time. So a new field
outside ``notes`` ends the continuation of older tables.
"""

import itertools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maxup_smoothing.data.runtime import strict_json
from maxup_smoothing.data.runtime.atomic import write_atomically
from maxup_smoothing.data.runtime.untrusted import read_bytes

SCHEMA = 1
_LARGEST = 10_000_000
_NOT_COMPARED = ("notes", "schema")  # `read` has refused every schema but ours


def manifest_path(table_path: str | os.PathLike[str]) -> Path:
    """Where the manifest of a radius table lies: ``radii.tsv`` has ``radii.manifest.json`` in the same folder."""
    path = Path(table_path)
    # The end of ``noise_0.25`` is not a suffix: if it were replaced, ``noise_0.50`` would share its manifest.
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

    Every value that other modules compute with then is of its kind, or not there: see ``_KINDS``.

    Raises:
        ValueError: If the file is damaged or of a schema that this version does not know.
        OSError: If it cannot be read.
    """
    content = read_bytes(path, _LARGEST)
    try:
        manifest = strict_json.parse(content)
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged: not JSON ({error}), so what its table is about is unknown; certify again."
        ) from None
    if not isinstance(manifest, dict) or "schema" not in manifest:
        raise ValueError(
            f"{path} is not a manifest of a radius table: a JSON object with a schema number was expected."
        )
    if manifest["schema"] != SCHEMA:
        raise ValueError(f"{path} has manifest schema {manifest['schema']}, this version reads schema {SCHEMA}.")
    for field, right in _KINDS.items():
        value = told(manifest, *field.split("."))
        if value is not None and not right(value):
            raise ValueError(f"{path} is damaged: {field} is {json.dumps(value)[:50]}; certify again.")
    return manifest


def _object(value: Any) -> bool:
    return isinstance(value, dict)


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _whole(value: Any, first: int = 0, last: int = 2**63 - 1) -> bool:
    return type(value) is int and first <= value <= last


def _number(value: Any) -> bool:
    return type(value) in (int, float)


def _probability(value: Any) -> bool:
    return _number(value) and 0 <= value < 1


def _threads(value: Any) -> bool:
    return _whole(value, 1, 2**16)


def _list_of(right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(map(right, value))


_SECTIONS = ("sampling", "model", "classifier", "data", "protocol", "noise", "notes")
# What other modules compute with. A manifest may lack any of these fields.
_KINDS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(_SECTIONS, _object),
    **{f"sampling.{name}": _number for name in ("n", "n0", "sigma", "alpha")},
    **{f"sampling.{name}": _text for name in ("procedure", "bound")},
    **{f"model.{name}": _text for name in ("kind", "arch", "sha256", "mean")},
    "model.members": _list_of(_object),
    "classifier.num_classes": _whole,
    "classifier.batch_size": lambda value: _whole(value, 1, 2**31),
    **{f"classifier.{name}": _text for name in ("dtype", "device", "torch", "weights_sha256")},
    **{f"data.{name}": _text for name in ("name", "split", "fingerprint")},
    "data.class_map": _object,
    **{f"protocol.{name}": _text for name in ("name", "indices", "shard")},
    "protocol.parts": _list_of(_object),
    "noise.source": _text,
    "noise.seed": lambda value: _whole(value, 0, 2**64 - 1),
    "noise.probability_error": _probability,
    **{f"notes.{name}": _text for name in ("model", "labels")},
    "notes.images": _whole,
    "notes.image_shape": _list_of(lambda size: _whole(size, 1)),
    "notes.images_sha256": lambda value: _object(value) and all(map(_text, value.values())),
    "notes.micro_batch": _list_of(_object),
    "notes.preflight": lambda value: isinstance(value, list),
    "notes.threads": lambda value: _threads(value) or _list_of(lambda one: one is None or _threads(one))(value),
    "notes.versions": _object,
    "recomputed": _list_of(_object),
}


def told(manifest: Mapping[str, Any] | None, *keys: str) -> Any:
    """A value of a manifest by its section and name; None where it is not there."""
    value: Any = manifest
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def continued_notes(stored: Mapping[str, Any] | None, now: Mapping[str, Any]) -> dict[str, Any]:
    """What a continuation changes in the notes of a table: it may ask for more images, and be warned of more.

    Args:
        stored: The section ``notes`` as it is on disk.
        now: That of this run.
    """
    kept = stored or {}
    changed: dict[str, Any] = {}
    images = kept.get("images")
    if images is not None and now["images"] > images:
        changed["images"] = now["images"]
    threads = kept["threads"] if isinstance(kept.get("threads"), list) else [kept.get("threads")]
    if "threads" in kept and now.get("threads", threads[0]) not in threads:
        changed["threads"] = [*threads, now["threads"]]  # they may decide how a sum is rounded
    before = kept.get("images_sha256") or {}
    if more_images := {idx: one for idx, one in now.get("images_sha256", {}).items() if idx not in before}:
        changed["images_sha256"] = {**before, **more_images}
    if "image_shape" in now and "image_shape" not in kept:  # older versions did not record it
        changed["image_shape"] = now["image_shape"]
    warned = kept.get("preflight") or []
    if more := [text for text in now.get("preflight", ()) if text not in warned]:
        changed["preflight"] = [*warned, *more]
    return changed


#: Stands for the value of a field that a manifest does not have.
ABSENT = object()


@dataclass(frozen=True)
class Mismatch:
    """A field in which two manifests differ.

    Attributes:
        field: Its name; inside a section with a dot, such as ``model.sha256``.
        old: Its value in the first manifest, or ``ABSENT``.
        new: Its value in the second one, or ``ABSENT``.
    """

    field: str
    old: Any
    new: Any

    def told(self, whose: str) -> str:
        """Both values, such as ``alpha=0.001, this run uses alpha=0.01`` for ``whose`` "this run uses"."""
        return f"{self.field}={_shown(self.old)}, {whose} {self.field}={_shown(self.new)}"


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> Mismatch | None:
    """The first field in which two manifests differ; None if a run may continue the other's table."""
    kept_old, kept_new = (
        json.loads(json.dumps({name: value for name, value in manifest.items() if name not in _NOT_COMPARED}))
        for manifest in (old, new)
    )
    return _difference("", kept_old, kept_new)


def _difference(prefix: str, old: Any, new: Any) -> Mismatch | None:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            found = _difference(f"{prefix}.{name}".lstrip("."), old.get(name, ABSENT), new.get(name, ABSENT))
            if found is not None:
                return found
        return None
    if old == new and isinstance(old, bool) == isinstance(new, bool):  # True == 1, and yet another setting
        return None
    return Mismatch(prefix, old, new)


def _shown(value: Any) -> str:
    return "(absent)" if value is ABSENT else json.dumps(value, ensure_ascii=False)


def slices_text(indices: Sequence[int]) -> str:
    """Sorted numbers as start:stop:step, as few as a walk from the first finds, separated by commas."""
    slices: list[range] = []
    for index in indices:
        last = slices[-1] if slices else None
        if last is not None and (len(last) == 1 or index == last[-1] + last.step):
            step = index - last[-1]
            slices[-1] = range(last.start, index + 1, step)
        else:
            slices.append(range(index, index + 1))
    return ",".join(f"{part.start}:{part.stop}:{part.step}" for part in slices)


def last_micro_batch(manifest: Mapping[str, Any]) -> int | None:
    """How many rows of a batch went through f at a time for a table's last rows; None for whole batches.

    Memory that runs out makes them fewer. While a table is written, its notes record from which number of rows on.
    Joining tables sorts their rows, so a joined table records the images themselves instead.
    """
    changes = _changes(manifest)
    return changes[-1].get("rows") if changes else None


def micro_batches_by_idx(manifest: Mapping[str, Any], indices: Sequence[int]) -> list[dict[str, Any]]:
    """The changes, each with the images that it is about.

    Args:
        manifest: Of a table.
        indices: The table's idx, in the order of its rows.
    """
    changes = _changes(manifest)
    counted = [change for change in changes if isinstance(change.get("after_rows"), int)]
    starts = [int(change["after_rows"]) for change in counted]
    found = [change for change in changes if "idx" in change]
    for change, (start, stop) in zip(counted, itertools.pairwise([*starts, len(indices)]), strict=True):
        if images := sorted(indices[start:stop]):
            found.append({"rows": change.get("rows"), "idx": slices_text(images)})
    return found


def _changes(manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    found = told(manifest, "notes", "micro_batch")
    return list(found or [])
