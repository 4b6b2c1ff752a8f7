"""Reopening a table: its model, data and noise, loaded as its manifest records them, and compared with it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from maxup_smoothing.certify.models.ensemble import members_of
from maxup_smoothing.certify.models.loading import WEIGHT_FILES
from maxup_smoothing.certify.runs.images import ImageOptions
from maxup_smoothing.certify.runs.session import Request, Session, open_session
from maxup_smoothing.certify.tables.manifest import Mismatch
from maxup_smoothing.data import class_map, preprocessing
from maxup_smoothing.data.dataset import HALVES


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What a user gives in place of what a table's manifest records; None stands for the record.

    Attributes:
        model: The model, as for ``certify run``; a recorded path is relative to the working directory.
        data: The data set.
        data_root: Folder with data sets.
        device: Where the network runs; the record is the kind of device that the table was made on.
        arch: Architecture of another project's weights.
        normalize: Normalisation in front of the model.
        weights: Which of several sets of weights in one file.
    """

    model: str | None = None
    data: str | None = None
    data_root: Path | None = None
    device: str | None = None
    arch: str | None = None
    normalize: str | None = None
    weights: str | None = None


@dataclass(frozen=True, kw_only=True)
class Reopened:
    """A table's model, data and noise, loaded again.

    Attributes:
        request: What was opened.
        session: All that was loaded.
        errors: Fields that make it another certificate than the manifest records.
        warnings: Fields that differ because this is another platform.
    """

    request: Request
    session: Session
    errors: Sequence[Mismatch]
    warnings: Sequence[Mismatch]


def reopen_table(file: Path, stored: Mapping[str, Any], given: Overrides, *, of_rows: bool = False) -> Reopened:
    """Load model, data and noise of a table, and compare them with its manifest.

    Args:
        file: The table.
        stored: Its manifest.
        given: What the user says instead.
        of_rows: The images are those of the table's rows, whatever its protocol was: open the whole data set.

    Raises:
        ValueError: If the manifest leaves something out, or anything does not load; with the fix.
        OSError: If a file cannot be read.
    """
    request = request_of({**stored, "protocol": {"name": "full"}} if of_rows else stored, file, given)
    session = open_session(request, file.name, None)
    errors, warnings = compare(stored, session.manifest)
    if of_rows:
        errors = [mismatch for mismatch in errors if not mismatch.field.startswith("protocol.")]
    return Reopened(request=request, session=session, errors=errors, warnings=warnings)


def request_of(stored: Mapping[str, Any], file: Path, given: Overrides) -> Request:
    """The request whose session certifies what the table's did.

    Raises:
        ValueError: If the manifest leaves something out.
    """
    model = given.model
    named = model or _text(stored, "notes", "model")
    for member in members_of(named)[1] if model is None else ():
        if ":" not in member and not Path(member).exists():
            raise ValueError(f"the model that the manifest of {file} names, {member}, is not there; give it as MODEL.")
    made_on = _text(stored, "classifier", "device")
    kind = "cuda" if torch.cuda.is_available() and not made_on.startswith("cpu") else "cpu"
    if stored["classifier"].get("randomized"):
        raise ValueError(
            f"{file} was certified with a model that draws random numbers; its votes cannot be drawn again."
        )
    source = stored["model"].get("members", [stored["model"]])[0]  # all members were loaded with the same options
    # What is recorded of one kind of file does not fit another.
    alike = model is None or Path(model).suffix == Path(str(stored["notes"].get("model"))).suffix
    foreign = source.get("kind") == "weights" and (alike or Path(named).suffix in WEIGHT_FILES)
    return Request(
        model=named,
        data=given.data or _text(stored, "data", "name"),
        split=next((half for half in HALVES if stored["data"].get("split") == half), "test"),
        protocol=_text(stored, "protocol", "name"),
        limit=None,
        sigma=_number(stored, "sampling", "sigma"),
        dtype=_text(stored, "classifier", "dtype"),
        batch_size=int(_number(stored, "classifier", "batch_size")),
        compile="on" if stored["classifier"].get("compiled") is True else "off",
        device=given.device or kind,
        noise=_text(stored, "noise", "source"),
        seed=int(_number(stored, "noise", "seed")),
        out=file,
        overwrite=False,
        arch=given.arch or (source["arch"] if foreign else None),
        normalize=given.normalize or (_recorded_normalization(source) if alike or foreign else None),
        weights=given.weights or (source.get("weights") if foreign else None),
        data_root=given.data_root,
        shard=stored["protocol"].get("shard"),
        class_map=_class_map(stored, file),
        images=_image_options(stored, file),
        recorded=True,
    )


def require_sections(stored: Mapping[str, Any], path: Path) -> None:
    """Refuse a manifest that is not one of ``certify run``.

    Raises:
        ValueError: With the section that is missing.
    """
    for section in ("sampling", "model", "classifier", "data", "protocol", "noise", "notes"):
        if stored.get(section) is None:
            raise ValueError(f"{path} has no section {section}; it is not the manifest of `certify run`.")


def _class_map(stored: Mapping[str, Any], file: Path) -> dict[str, int] | None:
    value = stored["data"].get("class_map")
    return None if value is None else class_map.checked(value, f"the manifest of {file}")


def _image_options(stored: Mapping[str, Any], file: Path) -> ImageOptions:
    labels = stored["notes"].get("labels")
    return ImageOptions(
        labels=None if labels is None else Path(labels),
        recorded=preprocessing.recorded(stored["data"].get("preprocessing"), f"the manifest of {file}"),
    )


def _text(stored: Mapping[str, Any], section: str, name: str) -> str:
    value = stored[section].get(name)
    if value is None:
        raise ValueError(f"the manifest does not say {section}.{name}; it was edited, or give it as an argument.")
    return value


def _number(stored: Mapping[str, Any], section: str, name: str) -> float:
    value = stored[section].get(name)
    if value is None:
        raise ValueError(f"the manifest does not say {section}.{name}, a number; it was edited.")
    return value


def _recorded_normalization(source: Mapping[str, Any]) -> str | None:
    parts = source.get("normalize")
    return "/".join(",".join(map(repr, part)) for part in parts) if parts else None


_PLATFORM = (
    "classifier.device",
    "classifier.torch",
    "classifier.tf32",
    "classifier.compiled",
    "notes.threads",
    "notes.micro_batch",
)

# What else may be called otherwise, since hash and fingerprint say that it is the same.
_NAMES = ("data.name", "data.split", "protocol.name", "noise.probability_error")


def compare(stored: Mapping[str, Any], ours: Mapping[str, Any]) -> tuple[list[Mismatch], list[Mismatch]]:
    """What two manifests disagree about: fields that make it another certificate, and fields of the platform."""
    old, new = (
        {
            f"{section}.{name}": value
            for section in ("classifier", "data", "protocol", "noise")
            for name, value in json.loads(json.dumps(manifest[section])).items()
        }
        for manifest in (stored, ours)
    )
    for flat, manifest in ((old, stored), (new, ours)):
        flat["model.sha256"] = manifest["model"].get("sha256")  # a file's that is not made of named weights
        flat["model.mean"] = manifest["model"].get("mean")  # of an ensemble
        for name in ("threads", "micro_batch"):  # with fewer rows at a time a pass may round otherwise, too
            flat[f"notes.{name}"] = manifest["notes"].get(name)
    differing = [name for name in {**old, **new} if name not in _NAMES and old.get(name) != new.get(name)]
    warnings = [name for name in differing if name in _PLATFORM]
    if warnings:  # a probe is rounded like any other image
        warnings += [name for name in differing if name in ("classifier.classes_on_probe", "classifier.logits_sha256")]
    found = {name: Mismatch(name, old.get(name), new.get(name)) for name in differing}
    return [found[name] for name in differing if name not in warnings], [found[name] for name in warnings]


def brief(mismatch: Mismatch) -> str:
    """A field of ``compare`` with both values, shortened."""
    return f"{mismatch.field}: recorded {_shown(mismatch.old)}, here {_shown(mismatch.new)}"


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 24 else f"{text[:20]}…"
