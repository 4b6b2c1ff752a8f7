"""The hardest and the easiest images of a run in groups: as small pictures where the data is there, else as numbers."""

# Shapes: C channels, H W pixels.

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from maxup_smoothing.analysis.report.numbers import Table
from maxup_smoothing.analysis.report.subjects import ReportRun
from maxup_smoothing.analysis.report.text import plain_name
from maxup_smoothing.analysis.runs.groups import extremes
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.statistics.rounding import floor_text
from maxup_smoothing.data.dataset import Dataset

_COUNT = 12
_LARGEST_SIDE = 96  # pixels; larger images are made smaller, smaller ones are kept as they are


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One image: ``src`` a PNG data URI of ``width`` times ``height`` pixels, ``kind`` right, wrong or abstained."""

    src: str
    width: int
    height: int
    alt: str
    idx: str
    label: str
    kind: str
    outcome: str


@dataclass(frozen=True, kw_only=True)
class ImageGroup:
    """Images of one kind: ``note`` says which of them are shown, as ``tiles`` or, without the data, as a ``table``."""

    title: str
    note: str
    tiles: tuple[Tile, ...] = ()
    table: Table | None = None


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """The groups of one run, of kinds that it has; ``reason`` says why there are no pictures, where there are none."""

    name: str
    groups: tuple[ImageGroup, ...]
    reason: str | None = None


def gallery(subject: ReportRun, dataset: Dataset | str) -> Gallery:
    """The surest mistakes, abstentions, and right answers with the smallest and the largest radius, a dozen each.

    Args:
        subject: The run.
        dataset: Its data, or the reason why that is not to be had.
    """
    groups = [
        _group(subject, title, what, rows, dataset) for title, what, rows in _kinds(subject.run.table) if len(rows)
    ]
    return Gallery(name=subject.name, groups=tuple(groups), reason=dataset if isinstance(dataset, str) else None)


def _kinds(table: pd.DataFrame) -> list[tuple[str, str, pd.DataFrame]]:
    """A heading, what its images are and in which order, and all of these; right ones from both ends, none twice."""
    hardest, easiest = extremes(table, len(table))
    right, abstained = hardest["correct"] == 1, hardest["predict"] == ABSTAIN
    half = len(easiest) // 2
    smallest = hardest[right][: len(easiest) - half]
    return [
        ("Surest mistakes", "wrong answers, the largest radius first", hardest[~right & ~abstained]),
        ("Abstained", "abstentions, which have no radius, by index", hardest[abstained]),
        (
            "Right, with the smallest radius",
            "right answers, the smallest radius first",
            smallest,
        ),
        ("Right, with the largest radius", "right answers, the largest radius first", easiest[:half]),
    ]


def _group(subject: ReportRun, title: str, what: str, rows: pd.DataFrame, dataset: Dataset | str) -> ImageGroup:
    first = rows[:_COUNT]
    names = subject.run.class_names or () if isinstance(dataset, str) else dataset.classes
    return ImageGroup(
        title=title,
        note=_note(subject, what, first),
        tiles=() if isinstance(dataset, str) else _tiles(first, dataset),
        table=_listed(f"{title}: {subject.name}", first, names) if isinstance(dataset, str) else None,
    )


def _note(subject: ReportRun, what: str, first: pd.DataFrame) -> str:
    """How many images of a kind there are, which are shown, and how many are tied at the radius of the first."""
    table = subject.run.table
    kind = _kind(table) == _kind(first)[0]
    number = int(kind.sum())
    shown = f"{len(first):,} of {number:,} {what}" if len(first) < number else f"All {number:,} {what}"
    radius = float(first["radius"].iloc[0])
    tied = int((kind & (table["radius"].to_numpy() == radius)).sum())
    if tied == 1 or _kind(first)[0] == "abstained":
        return f"{shown}."
    ceiling = subject.run.summary.ceiling
    where = ", the ceiling" if ceiling is not None and floor_text(ceiling, 3) == floor_text(radius, 3) else ""
    return (
        f"{shown}. {tied:,} of them are tied at radius {floor_text(radius, 3)}{where}, and are in the order of their "
        "index."
    )


def _kind(table: pd.DataFrame) -> NDArray[np.str_]:
    wrong = np.where(table["predict"] == ABSTAIN, "abstained", "wrong")
    return np.where(table["correct"] == 1, "right", wrong)


def _listed(caption: str, table: pd.DataFrame, names: Sequence[str]) -> Table:
    rows = [
        (
            str(at),
            _class_name(label, names),
            "abstained" if predict == ABSTAIN else _class_name(predict, names),
            "none" if predict == ABSTAIN else floor_text(radius, 3),
        )
        for at, label, predict, radius in _values(table)
    ]
    return Table(caption=caption, header=("idx", "true class", "answer", "radius"), rows=tuple(rows))


def _values(table: pd.DataFrame) -> list[tuple[int, int, int, float]]:
    columns = zip(table["idx"], table["label"], table["predict"], table["radius"], strict=True)
    return [(int(at), int(label), int(predict), float(radius)) for at, label, predict, radius in columns]


def _tiles(table: pd.DataFrame, dataset: Dataset) -> tuple[Tile, ...]:
    return tuple(_tile(*values, dataset) for values in _values(table))


def _tile(at: int, label: int, predict: int, radius: float, dataset: Dataset) -> Tile:
    picture = _picture(dataset.images[at])
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    name, within = _class_name(label, dataset.classes), floor_text(radius, 3)
    if predict == ABSTAIN:
        kind, outcome = "abstained", "abstained"
    elif predict == label:
        kind, outcome = "right", f"right, radius {within}"
    else:
        kind, outcome = "wrong", f"answered: {_class_name(predict, dataset.classes)}, radius {within}"
    return Tile(
        src=f"data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()}",
        width=picture.width,
        height=picture.height,
        alt=f"Image {at}: {name}",
        idx=str(at),
        label=f"true: {name}",
        kind=kind,
        outcome=outcome,
    )


def _picture(image_CHW: NDArray[np.uint8]) -> Image.Image:
    pixels_HWC = np.ascontiguousarray(image_CHW.transpose(1, 2, 0))
    picture = Image.fromarray(pixels_HWC[..., 0] if pixels_HWC.shape[2] == 1 else pixels_HWC)
    if max(picture.size) > _LARGEST_SIDE:
        picture.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    return picture


def _class_name(number: int, names: Sequence[str]) -> str:
    return plain_name(names[number])[:60] if 0 <= number < len(names) else f"class {number}"
