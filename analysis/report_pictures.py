"""The hardest and the easiest images of a run as small pictures within the page, from data that is on this machine."""

# Shapes: C channels, H W pixels.

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import pandas as pd
import pooch
from numpy.typing import NDArray
from PIL import Image

from analysis.groups import extremes
from analysis.report_subjects import Subject, plain_name, shown
from certify.radius import ABSTAIN
from certify.summary import floor_text
from data import cifar, folder, idx, npz, official, registry
from data.dataset import Dataset

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
class Gallery:
    """The images of one run, or the reason why none is shown; ``order`` and ``ties`` say which are shown, and why."""

    name: str
    title: str = ""
    order: str = ""
    hardest: tuple[Tile, ...] = ()
    ties: str = ""
    easiest: tuple[Tile, ...] = ()
    reason: str | None = None


class Library:
    """The data sets that runs name, each read once, from under one folder, this program's cache or the package.

    Nothing is ever downloaded, and of a path in a manifest only the last part counts, so that a manifest from
    elsewhere cannot choose what is read on this machine.

    Args:
        root: Where the user keeps data sets; None for nowhere.

    Raises:
        FileNotFoundError: If ``root`` is no folder.
    """

    def __init__(self, root: Path | None) -> None:
        if root is not None and not root.is_dir():
            raise FileNotFoundError(f"{root}: no such folder; the data root must be an existing folder.")
        self._root = root
        self._loaded: dict[tuple[str, str], Dataset | str] = {}

    def of(self, subject: Subject) -> Dataset | str:
        """The data that a run was certified on, or the reason why it is not to be had, as a sentence."""
        name, split, wanted = (subject.told("data", key) for key in ("name", "split", "fingerprint"))
        if not (isinstance(name, str) and isinstance(split, str)):
            return "The table has no manifest that tells its data."
        if not isinstance(wanted, str):
            return "The manifest tells no fingerprint of its data, so other images could not be told from them."
        found = self._loaded.get((name, split)) or self._load(name, split)
        self._loaded[name, split] = found
        if isinstance(found, str):
            return found
        if found.fingerprint != wanted:
            return f"The data {shown(name)} that is here has another fingerprint than that which was certified."
        table = subject.run.table
        at = table["idx"].to_numpy()
        if (
            at.min() < 0
            or at.max() >= len(found.labels)
            or not np.array_equal(found.labels[at], table["label"].to_numpy())
        ):
            return f"Rows of the table do not fit the data {shown(name)}: they have other numbers or labels."
        return found

    def _load(self, name: str, split: str) -> Dataset | str:
        try:
            if name == "fashion-sample":
                return registry.load(name, split)
            for root in self._roots(name):
                if name in official.CLASSES:
                    if _is_there(root, name):  # then the registry has nothing to download
                        return registry.load(name, split, root)
                elif (last := _last_part(name)).endswith(".npz") and (root / last).is_file():
                    return npz.read(root / last, split)
                elif last.strip(".") and (root / last).is_dir():
                    return folder.read(root / last, split)
        except (ValueError, OSError) as error:
            return f"The data {shown(name)} could not be read: {error}"
        where = "is not in the data root" if self._root else "is not on this machine as far as was told"
        return f"The data {shown(name)} {where}; name the folder that holds it with --data-root. Nothing is downloaded."

    def _roots(self, name: str) -> list[Path]:
        roots = [] if self._root is None else [self._root]
        if name in official.CLASSES and (cache := Path(pooch.os_cache("maxup-smoothing")) / name).is_dir():
            roots.append(cache)
        return roots


def gallery(subject: Subject, dataset: Dataset | str) -> Gallery:
    """The hardest and the easiest images of a run, a dozen each, fewer of small tables."""
    if isinstance(dataset, str):
        return Gallery(name=subject.name, reason=dataset)
    table = subject.run.table
    hardest, easiest = extremes(table, max(1, min(_COUNT, len(table) // 2)))
    first, order = _order(_tiles(hardest, dataset))
    return Gallery(
        name=subject.name,
        title=first,
        order=order,
        hardest=_tiles(hardest, dataset),
        ties=_ties(subject, easiest),
        easiest=_tiles(easiest, dataset),
    )


def _order(tiles: Sequence[Tile]) -> tuple[str, str]:
    """A heading for the hardest images and what their order is, without kinds of which none is shown."""
    kinds = {tile.kind for tile in tiles}
    known = {
        "wrong": ("Surest mistakes first", "wrong answers with the largest radius: no small change makes them right"),
        "abstained": ("Abstentions first", "abstentions"),
        "right": ("Smallest radius first", "right answers with the smallest radius"),
    }
    told = [known[kind] for kind in known if kind in kinds]
    text = "; then ".join(text for _, text in told)
    return told[0][0], f"{text[:1].upper()}{text[1:]}."


def _ties(subject: Subject, easiest: pd.DataFrame) -> str:
    """How many images share the largest radius of the right ones, where not all of these are shown."""
    if len(easiest) == 0:
        return ""
    table, largest = subject.run.table, float(easiest["radius"].iloc[0])
    tied = int(((table["correct"] == 1) & (table["radius"] == largest)).sum())
    if tied <= len(easiest):
        return "Right answers with the largest radius."
    ceiling = subject.run.summary.ceiling
    where = ", the ceiling" if ceiling is not None and floor_text(ceiling, 3) == floor_text(largest, 3) else ""
    return (
        f"{tied:,} right answers are tied at the largest radius, {floor_text(largest, 3)}{where}; the first "
        f"{len(easiest)} by index are shown."
    )


def _tiles(table: pd.DataFrame, dataset: Dataset) -> tuple[Tile, ...]:
    rows = zip(table["idx"], table["label"], table["predict"], table["radius"], strict=True)
    return tuple(_tile(int(at), int(label), int(predict), float(r), dataset) for at, label, predict, r in rows)


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
    return plain_name(names[number])[:60] if number < len(names) else f"class {number}"


def _is_there(root: Path, name: str) -> bool:
    official_files = idx.find(root, name) if name in ("mnist", "fashion-mnist") else cifar.find(root, name)
    return (npz.find(root, name) or official_files) is not None


def _last_part(name: str) -> str:
    """The file name of a path as any system writes it."""
    return PureWindowsPath(PurePosixPath(name).name).name
