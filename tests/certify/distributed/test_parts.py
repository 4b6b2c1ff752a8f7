"""What processes have left on disk: their rows are taken once, and those of another run are refused."""

import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import shared_runs
from shared_runs import COMMAND, SEED, Threads, catch, run, run_in_thread
from table_lines import lines

from maxup_smoothing.certify.distributed import rank_tables
from maxup_smoothing.certify.tables.radius_table import RadiusTable

_here = shared_runs.here
whole = shared_runs.whole


def test_rows_of_an_earlier_run_are_not_done_again(
    whole: list[list[str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(*COMMAND, *SEED, "--limit", "10") == 0
    before = Path("out/radii.tsv").read_text().splitlines()
    capfd.readouterr()
    assert Threads(2, monkeypatch)(lambda world: run_in_thread(*COMMAND, *SEED)) == [0, 0]
    assert "certifying 14 of 24 images" in capfd.readouterr().err
    assert lines() == whole
    assert Path("out/radii.tsv").read_text().splitlines()[:11] == before
    notes = json.loads(Path("out/radii.manifest.json").read_text())["notes"]
    assert (notes["images"], notes["processes"]) == (24, 2)
    assert run("audit", "out/radii.tsv") == 0


def test_parts_of_other_settings_are_refused_and_overwritten_when_asked(
    whole: list[list[str]], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(*COMMAND[:-1], "out/radii.rank-1.tsv", "--seed", "2") == 0
    kept = Path("out/radii.rank-1.tsv").read_bytes()
    assert run(*COMMAND, *SEED) == 2
    assert (
        "noise.seed=2, this run uses noise.seed=1; write to another file or pass --overwrite" in capfd.readouterr().err
    )
    assert Path("out/radii.rank-1.tsv").read_bytes() == kept
    assert run(*COMMAND, *SEED, "--overwrite") == 0
    assert lines() == whole
    assert sorted(os.listdir("out")) == ["radii.manifest.json", "radii.tsv"]


def test_a_run_in_progress_is_not_overwritten(whole: list[list[str]], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*COMMAND, *SEED, "--limit", "1") == 0
    assert run(*COMMAND[:-1], "out/radii.rank-1.tsv", *SEED, "--limit", "6") == 0
    manifest = json.loads(Path("out/radii.manifest.json").read_text())
    with RadiusTable.open("out/radii.tsv", manifest):
        assert run(*COMMAND, *SEED, "--overwrite") == 2
        assert run(*COMMAND, *SEED) == 2
    assert capfd.readouterr().err.count("out/radii.tsv is being written by another process") == 2
    assert [len(lines(path)) for path in ("out/radii.tsv", "out/radii.rank-1.tsv")] == [2, 7]
    with RadiusTable.open("out/radii.rank-1.tsv", manifest):  # a straggler
        assert run(*COMMAND, *SEED) == 2
    assert [len(lines(path)) for path in ("out/radii.tsv", "out/radii.rank-1.tsv")] == [2, 7]
    assert run(*COMMAND, *SEED) == 0
    assert lines() == whole


def test_a_process_that_ran_out_of_memory_is_told_of_by_image(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(*COMMAND[:-1], "out/radii.rank-0.tsv", *SEED, "--limit", "6") == 0
    path = Path("out/radii.rank-0.manifest.json")
    manifest = json.loads(path.read_text())
    manifest["notes"]["micro_batch"] = [{"after_rows": 2, "rows": 32}, {"after_rows": 5, "rows": 16}]
    path.write_text(json.dumps(manifest))
    removed = rank_tables._remove
    monkeypatch.setattr(rank_tables, "_remove", lambda out, files: (_ for _ in ()).throw(OSError("power cut")))
    assert run(*COMMAND, *SEED) == 2
    monkeypatch.setattr(rank_tables, "_remove", removed)
    assert run(*COMMAND, *SEED) == 0
    told = json.loads(Path("out/radii.manifest.json").read_text())["notes"]["micro_batch"]
    assert told[:2] == [{"rows": 32, "idx": "2:5:1"}, {"rows": 16, "idx": "5:6:1"}], "once, in spite of the crash"
    assert told[2:] == [{"after_rows": 6, "rows": 64}], "the rest was made with whole batches"
    capfd.readouterr()
    assert run("transfer", "out/radii.tsv", "--to-dtype", "bfloat16", "--out", "served.tsv") == 2
    assert "not all rows are of one f" in capfd.readouterr().err


def test_parts_that_contradict_each_other_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    for number in (0, 1):
        assert run(*COMMAND[:-1], f"out/radii.rank-{number}.tsv", *SEED, "--limit", "3") == 0
    path = Path("out/radii.rank-1.tsv")
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    rows[2][rows[0].index("label")] = "9"  # a wrong label, which its own row does not contradict
    rows[2][rows[0].index("correct")] = "0"
    path.write_text("".join("\t".join(row) + "\n" for row in rows))
    assert run(*COMMAND, *SEED) == 2
    assert "idx 1 of out/radii.rank-1.tsv is not what out/radii.tsv has" in capfd.readouterr().err
    assert len(rank_tables.found(Path("out/radii.tsv"))) == 2


def test_a_crash_while_parts_are_gathered_loses_and_doubles_nothing(
    whole: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, limit in ((0, "3"), (1, "9")):
        assert run(*COMMAND[:-1], f"out/radii.rank-{number}.tsv", *SEED, "--limit", limit) == 0
    removed = rank_tables._remove

    def crash(out: Path, files: Sequence[Path]) -> None:
        removed(out, files[:1])
        raise OSError("power cut")

    monkeypatch.setattr(rank_tables, "_remove", crash)
    assert run(*COMMAND, *SEED) == 2
    assert [file.name for file in rank_tables.found(Path("out/radii.tsv"))] == ["radii.rank-1.tsv"]
    monkeypatch.setattr(rank_tables, "_remove", removed)
    assert run(*COMMAND, *SEED) == 0
    assert lines() == whole
    assert rank_tables.found(Path("out/radii.tsv")) == []


def test_rows_on_another_machine_are_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(out: Path, rank: int) -> Path:
        return out.with_name(f"{out.stem}.rank-{rank}{out.suffix}") if rank == 0 else Path("other/radii.rank-1.tsv")

    gathered, opened = threading.Event(), RadiusTable.append

    def wait_for_the_other(table: RadiusTable, row: Any) -> None:
        if table.path.parent.name == "other":
            gathered.set()
        gathered.wait(30)  # the other one has a row, too
        opened(table, row)

    monkeypatch.setattr(RadiusTable, "append", wait_for_the_other)
    monkeypatch.setattr(rank_tables, "path_of", elsewhere)
    first, _ = Threads(2, monkeypatch)(lambda world: catch(lambda: run_in_thread(*COMMAND)))
    assert "have no row in out/radii.tsv: other machines wrote theirs" in str(first)


def test_overwriting_at_each_restart_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    results = Threads(2, monkeypatch)(lambda world: catch(lambda: run_in_thread(*COMMAND, "--overwrite")))
    assert all("--overwrite would begin anew whenever torchrun restarts" in str(error) for error in results)
    assert not Path("out").exists()
