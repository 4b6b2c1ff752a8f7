"""Runs that write tables and run folders, small enough to be played once for each way in which a disk may fail."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from oracles import Pixel

from maxup_smoothing.certify.distributed import rank_tables
from maxup_smoothing.certify.engine.datasets import certify_dataset
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.statistics.procedure import Sampling
from maxup_smoothing.certify.tables.radius_table import RadiusTable
from maxup_smoothing.data.dataset import Dataset
from maxup_smoothing.data.runtime.atomic import write_atomically
from maxup_smoothing.train.config_file import load
from maxup_smoothing.train.loop import Epoch
from maxup_smoothing.train.run_folder import RunFolder

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 1, 2, 2), dtype=np.uint8)
DATA = Dataset(name="d", split="test", images=IMAGES, labels=np.array([0, 1, 0]), classes=("a", "b"))
Tell = Callable[[int], None]


def nobody(row: int) -> None:
    """Is told how many rows or epochs are on disk."""


def certification(
    folder: Path,
    tell: Tell = nobody,
    seed: int = 1,
    overwrite: bool = False,
    images: Sequence[int] = range(3),
    name: str = "radii.tsv",
) -> None:
    """A real one, of a few samples, as a process does it; each row's n says which seed it is of."""
    sampling = Sampling(sigma=0.5, n0=4, n=10 + seed, alpha=0.1)
    manifest = {"noise": {"seed": seed}, "sampling": sampling.describe(), "notes": {}}
    classifier = BaseClassifier(Pixel().eval(), 2, batch_size=8)
    with RadiusTable.open(folder / "out" / name, manifest, overwrite=overwrite) as table:
        if name == "radii.tsv":
            rank_tables.gather(table, manifest)
        tell(len(table.done))
        noise = ExactNoise(0.5, seed)
        certify_dataset(
            classifier,
            noise,
            DATA,
            images,
            sampling,
            table,
            lambda _, rows: tell(len(table.done)) if rows else None,
        )


def instead(folder: Path, tell: Tell = nobody) -> None:
    """The same with another seed, in place of what is there."""
    certification(folder, tell, seed=2, overwrite=True)


def whole_table(folder: Path, tell: Tell = nobody) -> None:
    """What ``merge`` does: a finished table takes the place of what is there."""
    with RadiusTable.open(folder / "source.tsv", {"noise": {"seed": 9}}) as source:
        rows = [dataclasses.replace(row, seconds=0.0) for row in source.done.values()]
    RadiusTable.write(folder / "out" / "radii.tsv", {"noise": {"seed": 2}}, rows)
    tell(len(rows))


def training(folder: Path, tell: Tell = nobody) -> None:
    """The files of a run of two epochs, in which the weights are a function of the epoch before."""
    run, config = RunFolder(folder / "runs" / "a"), load("fashion_sample_gaussian", ["epochs=2"])
    state = run.find_state(config, resume=True) or {"finished": 0, "weights": torch.ones(2)}
    tell(state["finished"])
    with run.held():
        run.begin(config, b"{}", state["finished"])
        while state["finished"] < 2:
            state = {"finished": state["finished"] + 1, "weights": 3 * state["weights"] + 1}
            write_atomically(run.checkpoint, str(state["weights"].tolist()).encode())
            line = {field.name: float(state["weights"][0]) for field in dataclasses.fields(Epoch)}
            run.record(Epoch(**line), state)  # type: ignore[arg-type]
            tell(state["finished"])


@dataclass(frozen=True)
class Scene:
    """A run, and what is there when it begins."""

    run: Callable[..., None]
    before: Callable[[Path], None] = lambda folder: None


def with_table(folder: Path) -> None:
    certification(folder)


def torn(folder: Path) -> None:
    certification(folder, images=range(2))
    path = folder / "out" / "radii.tsv"
    path.write_bytes(path.read_bytes() + b"2\t0\t\0\0\n")


def of_processes(folder: Path) -> None:
    certification(folder, images=[1])
    for rank, images in enumerate([[0], [1, 2]]):
        certification(folder, images=images, name=f"radii.rank-{rank}.tsv")


def sources(folder: Path) -> None:
    certification(folder, seed=2)
    os.replace(folder / "out" / "radii.tsv", folder / "source.tsv")
    (folder / "out" / "radii.manifest.json").unlink()
    (folder / "out").rmdir()
    (folder / "source.manifest.json").write_text('{"schema": 1, "noise": {"seed": 9}}')


def sources_and_table(folder: Path) -> None:
    sources(folder)
    certification(folder)


SCENES = {
    "a new table": Scene(certification),
    "a table that was torn": Scene(certification, torn),
    "tables of processes that are gathered": Scene(certification, of_processes),
    "overwriting a table": Scene(instead, with_table),
    "a merged table": Scene(whole_table, sources),
    "a merged table over another": Scene(whole_table, sources_and_table),
    "a run folder": Scene(training),
}
