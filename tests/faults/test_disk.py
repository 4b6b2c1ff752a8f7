"""Death at every call to the file system, power cuts after each, full disks: what is left, and what mends it."""

import contextlib
import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from disk import Calls, Died, PowerCut, dies_at, put
from disk_scenes import SCENES, Scene, certification, training

import maxup_smoothing.certify.tables.durable
import maxup_smoothing.data.runtime.atomic


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
        ("a new table", maxup_smoothing.certify.tables.durable, "_write", unsynced_write),
        ("a new table", maxup_smoothing.data.runtime.atomic, "sync_folder", unsynced_folder),
        ("overwriting a table", maxup_smoothing.certify.tables.durable, "_cut", unsynced_cut),
        (
            "tables of processes that are gathered",
            maxup_smoothing.certify.tables.durable,
            "sync_folder",
            unsynced_folder,
        ),
        ("a merged table over another", maxup_smoothing.certify.tables.durable, "sync_folder", unsynced_folder),
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
