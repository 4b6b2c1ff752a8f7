"""Tables of the same settings become one, others are refused; and the command that audits logs."""

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from one_look import certificate
from typer.testing import CliRunner

from maxup_smoothing.certify.audit.auditing import audit_log
from maxup_smoothing.certify.commands import tables
from maxup_smoothing.certify.distributed.merge import merge_tables
from maxup_smoothing.certify.tables.manifest import manifest_path
from maxup_smoothing.certify.tables.radius_table import RadiusTable, read, row_of
from maxup_smoothing.certify.tables.recompute import recompute_table
from maxup_smoothing.certify.tables.row import Row

MANIFEST: dict[str, Any] = {
    "sampling": {"procedure": "fixed", "bound": "clopper-pearson", "sigma": 0.5, "n0": 9, "n": 1000, "alpha": 0.01},
    "model": {"sha256": "ab"},
    "protocol": {"name": "full", "indices": "0:40:1"},
    "noise": {"source": "exact", "seed": 1},
    "notes": {"host": "a", "command": "certify run --limit 3"},
}


def row(idx: int, n_a: int = 950, seconds: float = 1.0) -> Row:
    proved = certificate(np.array([0, 9, 0]), np.array([1000 - n_a, n_a, 0]), 0.01, 0.5)
    return row_of(proved, idx, 1, n0=9, sigma=0.5, alpha=0.01, seconds=seconds)


def write(path: Path, rows: Sequence[Row], **sections: Any) -> Path:
    with RadiusTable.open(path, {**MANIFEST, **sections}) as table:
        for one in rows:
            table.append(one)
    return path


def refused(tmp_path: Path, paths: Sequence[Path], message: str) -> None:
    """Nothing is written, and what was there is as it was."""
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=message):
        merge_tables(paths, tmp_path / "out.tsv")
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before


def test_rows_are_sorted_and_the_manifest_says_where_they_are_from(tmp_path: Path) -> None:
    a = write(tmp_path / "a.tsv", [row(30), row(0, 500), row(10)])
    b = write(tmp_path / "b.tsv", [row(20, 990), row(10, seconds=7.0)], protocol={"name": "skip5"}, notes={"host": "b"})
    whole = write(tmp_path / "whole.tsv", [row(0, 500), row(10), row(20, 990), row(30)])
    merge_tables([a, b], tmp_path / "out.tsv")
    assert (tmp_path / "out.tsv").read_bytes() == whole.read_bytes()
    manifest = json.loads((tmp_path / "out.manifest.json").read_text())
    protocol = manifest.pop("protocol")
    kept = {name: value for name, value in MANIFEST.items() if name not in ("protocol", "notes")}
    assert manifest == {"schema": 1, **kept}
    assert (protocol["name"], protocol["indices"]) == ("merged", "0:31:10")
    assert [part["rows"] for part in protocol["parts"]] == [3, 2]
    assert [part["name"] for part in protocol["parts"]] == ["full", "skip5"]
    assert [part["notes"]["host"] for part in protocol["parts"]] == ["a", "b"]
    assert audit_log(tmp_path / "out.tsv").verdict == "PASS"
    merge_tables([b, a], tmp_path / "out.tsv", overwrite=True)
    assert read(tmp_path / "out.tsv")["time"].tolist() == [1.0, 7.0, 1.0, 1.0]  # the first table's


@pytest.mark.parametrize(
    ("indices", "text"),
    [([4], "4:5:1"), ([4, 9], "4:10:5"), ([0, 1, 2, 10, 20, 30], "0:3:1,10:31:10"), ([0, 2, 4, 5], "0:5:2,5:6:1")],
)
def test_the_images_of_a_merged_table_are_told_as_slices(tmp_path: Path, indices: list[int], text: str) -> None:
    a = write(tmp_path / "a.tsv", [row(idx) for idx in indices])
    b = write(tmp_path / "b.tsv", [row(indices[0])])
    merge_tables([a, b], tmp_path / "out.tsv")
    told = json.loads((tmp_path / "out.manifest.json").read_text())["protocol"]["indices"]
    assert told == text
    slices = [range(*map(int, part.split(":"))) for part in told.split(",")]
    assert [index for part in slices for index in part] == indices


@pytest.mark.parametrize(
    ("sections", "field"),
    [
        ({"noise": {"source": "exact", "seed": 2}}, r"noise\.seed=1, .*b\.tsv with noise\.seed=2; only tables of"),
        ({"model": {"sha256": "cd"}}, r'model\.sha256="ab", .*b\.tsv with model\.sha256="cd"'),
        ({"data": {"name": "x"}}, r"data=\(absent\), .*b\.tsv with data="),
    ],
)
def test_tables_of_other_settings_are_refused_by_field(tmp_path: Path, sections: dict[str, Any], field: str) -> None:
    a, b = write(tmp_path / "a.tsv", [row(0)]), write(tmp_path / "b.tsv", [row(1)], **sections)
    refused(tmp_path, [a, b], rf"a\.tsv was certified with {field}")


def test_a_row_that_differs_is_named_with_both_files(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.tsv", [row(0), row(3)]), write(tmp_path / "b.tsv", [row(1), row(3, 951)])
    refused(tmp_path, [a, b], r"idx 3 differs between .*a\.tsv and .*b\.tsv in radius \(.*at most one of them is right")
    label = write(tmp_path / "c.tsv", [replace(row(0), label=2, correct=False)])
    refused(tmp_path, [a, label], r"idx 0 differs between .* in label \(1 and 2\)")


def test_one_table_none_a_manifest_less_or_damaged_one_are_refused(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.tsv", [row(0)]), write(tmp_path / "b.tsv", [row(1)])
    refused(tmp_path, [], "give two or more tables, each once; got none")
    refused(tmp_path, [a], "give two or more tables")
    refused(tmp_path, [a, b, a], "give two or more tables, each once")
    manifest_path(b).unlink()
    refused(tmp_path, [a, b], r"b\.tsv has no b\.manifest\.json: what it was certified with is unknown")
    write(tmp_path / "c.tsv", [row(1)])
    (tmp_path / "c.tsv").write_bytes((tmp_path / "c.tsv").read_bytes()[:-30])
    refused(tmp_path, [a, tmp_path / "c.tsv"], r"c\.tsv, line 2")


def test_an_input_is_never_the_output_and_another_file_only_if_asked(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a.tsv", [row(0)]), write(tmp_path / "b.tsv", [row(1)])
    before = b.read_bytes()
    for overwrite in (True, False):
        with pytest.raises(ValueError, match=r"would replace .*b\.tsv, which is read"):
            merge_tables([a, b], b, overwrite=overwrite)
    assert b.read_bytes() == before
    c = write(tmp_path / "c.tsv", [row(5)])
    with pytest.raises(ValueError, match=r"c\.tsv exists; write to another file or pass --overwrite"):
        merge_tables([a, b], c)
    assert read(c)["idx"].tolist() == [5]


def test_a_disk_that_fills_up_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = write(tmp_path / "a.tsv", [row(0)]), write(tmp_path / "b.tsv", [row(1)])
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if ".tmp" in os.readlink(f"/proc/self/fd/{descriptor}"):
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        merge_tables([a, b], tmp_path / "out.tsv")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.manifest.json", "a.tsv", "b.manifest.json", "b.tsv"]


def test_parts_computed_again_in_the_same_way_are_merged(tmp_path: Path) -> None:
    for name, idx in (("a", 0), ("b", 1)):
        write(tmp_path / f"{name}.tsv", [row(idx)])
        recompute_table(tmp_path / f"{name}.tsv", tmp_path / f"{name}2.tsv", alpha=0.1)
    merge_tables([tmp_path / "a2.tsv", tmp_path / "b2.tsv"], tmp_path / "out.tsv")
    manifest = json.loads((tmp_path / "out.manifest.json").read_text())
    assert manifest["recomputed"] == [{"from": {"alpha": 0.01}, "to": {"alpha": 0.1}}]
    sources = [part["recomputed"][0]["table_sha256"] for part in manifest["protocol"]["parts"]]
    assert len(set(sources)) == 2
    refused(tmp_path, [tmp_path / "a2.tsv", tmp_path / "b.tsv"], r"sampling\.alpha=0\.1")


def app() -> typer.Typer:
    commands = typer.Typer()
    commands.command()(tables.merge)
    commands.command()(tables.audit)
    return commands


def test_the_merge_command_prints_the_new_table(tmp_path: Path) -> None:
    paths = [str(write(tmp_path / f"{idx}.tsv", [row(idx)])) for idx in range(3)]
    result = CliRunner().invoke(app(), ["merge", *paths, "--out", str(tmp_path / "out.tsv")], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "3/3" in result.stdout
    assert read(tmp_path / "out.tsv")["idx"].tolist() == [0, 1, 2]


def test_the_audit_command_fails_if_any_log_does(tmp_path: Path) -> None:
    good = write(tmp_path / "a.tsv", [row(idx) for idx in range(3)])
    bad = tmp_path / "bad.tsv"
    bad.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n0\t1\t1\t9.0\t1\t0:00:01\n")
    settings = ["--n", "1000", "--alpha", "0.01", "--sigma", "0.5"]
    invoked = [
        CliRunner().invoke(app(), ["audit", *map(str, files), *settings], catch_exceptions=False)
        for files in ([good], [good, bad], [bad, good])
    ]
    assert [result.exit_code for result in invoked] == [0, 1, 1]
    assert "FAIL: " in invoked[1].stdout
    assert "PASS" in invoked[1].stdout
    with pytest.raises(ValueError, match=r"alpha must be in \(0, 1\)"):
        CliRunner().invoke(app(), ["audit", str(good), "--alpha", "2"], catch_exceptions=False)


def test_a_disk_that_fills_up_leaves_the_old_table_and_its_manifest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "radii.tsv"
    with RadiusTable.open(path, {"noise": {"seed": 1}}):
        pass
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        RadiusTable.write(path, {"noise": {"seed": 2}}, [])
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
