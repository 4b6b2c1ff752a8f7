"""Death at every call to the file system, power cuts after each, full disks: what is left, and what mends it."""

import contextlib
import dataclasses
import errno
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from disk import Calls, Died, PowerCut, dies_at, put
from oracles import Pixel

import certify.appending
import certify.durable
import data.files
from certify import parts
from certify.classifier import BaseClassifier
from certify.noise.exact import ExactNoise
from certify.run import certify_dataset
from certify.sampling import Sampling
from certify.table import RadiusTable
from data.dataset import Dataset
from data.files import write_atomically
from train.config_file import load
from train.loop import Epoch
from train.run_folder import RunFolder

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
            parts.gather(table, manifest)
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


def untimed(folder: Path) -> dict[str, Any]:
    """Every file, tables without their times."""
    found: dict[str, Any] = {}
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        content: Any = path.read_bytes()
        if path.suffix == ".tsv":
            content = [line.split("\t")[:5] + line.split("\t")[6:] for line in content.decode().split("\n")]
        found[path.relative_to(folder).as_posix()] = content
    return found


def contradiction(folder: Path) -> str | None:
    """Rows under a manifest that is not theirs."""
    table, manifest = folder / "out" / "radii.tsv", folder / "out" / "radii.manifest.json"
    if not table.exists() or not manifest.exists():
        return None
    seed = json.loads(manifest.read_bytes())["noise"]["seed"]
    for line in table.read_text(errors="replace").split("\n")[1:-1]:
        fields = line.split("\t")
        if len(fields) > 7 and "\0" not in line and fields[7] != str(10 + seed):
            return f"a row of n={fields[7]} under a manifest of seed {seed}"
    return None


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


class Trouble:
    """Plays a scene in folders of its own."""

    def __init__(self, scene: Scene, folder: Path) -> None:
        self.scene, self.folder, self.number = scene, folder, 0
        self.expected = untimed(self.play(None)[0])

    def fresh(self) -> Path:
        self.number += 1
        return self.folder / str(self.number)

    def play(self, interfere: Any) -> tuple[Path, Calls, int]:
        """One run with an interference: the folder, what was called, and how much it said was on disk."""
        folder = self.fresh()
        folder.mkdir()
        self.scene.before(folder)
        calls, told = Calls(folder), [0]
        calls.interfere = interfere and interfere(calls)
        self.start = PowerCut(folder)

        def tell(count: int) -> None:
            told.append(count)
            calls.log.append(("told", count))

        with pytest.MonkeyPatch.context() as patch:
            calls.install(patch)
            with contextlib.suppress(Died):
                self.scene.run(folder, tell)
        return folder, calls, told[-1]

    def problem(self, folder: Path, told: int) -> str | None:
        """What is wrong with what a death or a power cut has left; None if the next run mends all."""
        if (found := contradiction(folder)) is not None:
            return found
        counts: list[int] = []
        try:
            self.scene.run(folder, counts.append)
        except (ValueError, OSError) as error:
            return f"refused: {error}"
        if self.scene.run in (certification, training) and counts[0] < told:
            return f"{told} were told to be on disk, {counts[0]} are there"
        if untimed(folder) != self.expected:
            return "the result differs"
        return None


def deaths(trouble: Trouble) -> list[str]:
    _, calls, _ = trouble.play(None)
    problems = []
    for number, name in enumerate(calls.names):
        ways: list[dict[str, Any]] = [{}, {"after": True}]
        for how in [*ways, {"torn": 1}, {"torn": 40}, {"torn": 90}] if name == "write" else ways:
            folder, _, told = trouble.play(dies_at(number, **how))
            if (found := trouble.problem(folder, told)) is not None:
                problems.append(f"death at call {number} {how}: {found}")
    return problems


def power_cuts(trouble: Trouble, most: int | None = None) -> tuple[list[str], int]:
    """Problems, up to so many, and how many states there were."""
    _, calls, _ = trouble.play(None)
    disk, told = trouble.start, 0
    problems: list[str] = []
    seen: dict[Any, str | None] = {}
    for number, change in enumerate(calls.log):
        if change[0] == "told":
            told = change[1]
            continue
        disk.do(tuple(part for part in change))
        for state in disk.states():
            key = (told, frozenset(state.items()))
            if key not in seen:
                folder = trouble.fresh()
                put(state, folder)
                seen[key] = trouble.problem(folder, told)
                if len(problems) == most:
                    return problems, len(seen)
                if seen[key] is not None:
                    problems.append(f"power cut after {number} {change[:2]}: {seen[key]}")
    return problems, len(seen)


@pytest.mark.parametrize("name", SCENES)
def test_death_at_any_call_to_the_file_system_is_mended_by_the_next_run(name: str, tmp_path: Path) -> None:
    assert deaths(Trouble(SCENES[name], tmp_path)) == []


@pytest.mark.parametrize("name", SCENES)
def test_whatever_a_power_cut_leaves_is_mended_by_the_next_run(name: str, tmp_path: Path) -> None:
    problems, states = power_cuts(Trouble(SCENES[name], tmp_path))
    assert problems == []
    assert states > 8


def unsynced_cut(descriptor: int, path: Path, size: int) -> None:
    os.ftruncate(descriptor, size)


def unsynced_write(descriptor: int, path: Path, text: str) -> None:
    os.write(descriptor, text.encode())


def unsynced_folder(folder: Path) -> None:
    """Nothing."""


@pytest.mark.parametrize(
    ("name", "module", "function", "broken"),
    [
        ("a new table", certify.appending, "write", unsynced_write),
        ("a new table", data.files, "sync_folder", unsynced_folder),
        ("overwriting a table", certify.appending, "cut", unsynced_cut),
        ("tables of processes that are gathered", certify.durable, "sync_folder", unsynced_folder),
        ("a merged table over another", certify.durable, "sync_folder", unsynced_folder),
    ],
)
def test_the_model_of_a_power_cut_notices_what_is_not_synced(
    name: str, module: Any, function: str, broken: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, function, broken)
    assert power_cuts(Trouble(SCENES[name], tmp_path), most=1)[0]


REFUSALS = [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EFBIG]


@pytest.mark.parametrize("name", ["a new table", "a table that was torn", "a run folder"])
def test_a_disk_that_refuses_any_call_is_named_and_hurts_no_row(name: str, tmp_path: Path) -> None:
    trouble = Trouble(SCENES[name], tmp_path)
    _, whole, _ = trouble.play(None)
    refused = 0
    for number in range(len(whole.names)):
        code = REFUSALS[number % len(REFUSALS)]

        def refuse(calls: Calls, number: int = number, code: int = code) -> Any:
            def call(this: int, name: str, given: tuple[Any, ...], do: Callable[..., Any]) -> Any:
                if this != number or name == "unlink":
                    return do()
                if name == "write":
                    do(given[0], bytes(given[1])[:3])  # some of it is there already
                # As the system has it: a call on a descriptor does not name the file.
                raise OSError(code, os.strerror(code), *(() if isinstance(given[0], int) else (str(given[0]),)))

            return call

        found: list[OSError] = []
        try:
            trouble.play(refuse)
        except OSError as error:
            found.append(error)
        folder = trouble.folder / str(trouble.number)
        for refusal in found:
            refused += 1
            assert refusal.errno == code
            assert "\n" not in str(refusal)
            assert str(folder) in str(refusal), refusal
        # What was on disk is there, whole lines only, and the same run goes on once there is room.
        for path in (*folder.rglob("*.tsv"),):
            assert name != "a new table" or not path.read_bytes() or path.read_bytes().endswith(b"\n")
        assert trouble.problem(folder, 0) is None
    assert refused > len(whole.names) // 2
