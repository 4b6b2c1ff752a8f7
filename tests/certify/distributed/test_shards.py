"""Shards of a run, made by jobs that cannot talk to each other, and the table that they make together."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from places import HELPERS
from shared_runs import run

from maxup_smoothing.certify.distributed import shards
from maxup_smoothing.data import registry

COMMAND = ["run", "oracles:factory", "--data", "images.npz", "--sigma", "0.5", "--n", "200", "--n0", "20", "--no-check"]
COMMAND += ["--device", "cpu", "--protocol", "skip2"]
SAME = ["--seed", "1", "--batch-size", "64"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(HELPERS))
    monkeypatch.delenv("DATA_ROOT", raising=False)
    sample = registry.load("fashion-sample", "test")
    np.savez("images.npz", images=sample.images[:23, 0], labels=sample.labels[:23], classes=np.array(sample.classes))


def lines(path: str) -> list[list[str]]:
    """A table's fields without the time."""
    rows = [line.split("\t") for line in Path(path).read_text().splitlines()]
    time_at = rows[0].index("time")
    return [row[:time_at] + row[time_at + 1 :] for row in rows]


def make(*numbers: int, count: int = 3, limit: int = 12) -> list[str]:
    paths = [f"part-{number}.tsv" for number in numbers]
    for number, path in zip(numbers, paths, strict=True):
        options = ["--shard", f"{number}/{count}", "--limit", str(limit), "--out", path]
        assert run(*COMMAND, *SAME, *options) == 0
    return paths


def test_three_shards_merge_to_the_table_of_one_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*COMMAND, *SAME, "--out", "whole.tsv") == 0
    parts = make(0, 1, 2)
    assert [row[0] for row in lines(parts[1])[1:]] == ["2", "8", "14", "20"]
    assert json.loads(Path("part-1.manifest.json").read_text())["protocol"] == {
        "name": "skip2",
        "indices": "2:23:6",
        "shard": "1/3",
    }
    assert run("merge", *reversed(parts), "--out", "all.tsv") == 0
    assert lines("all.tsv") == lines("whole.tsv")
    one, all_three = (json.loads(Path(f"{name}.manifest.json").read_text()) for name in ("whole", "all"))
    notes, merged = one.pop("notes"), all_three.pop("notes")
    assert all_three == one
    assert merged["images"] == notes["images"] == 12
    assert [part["shard"] for part in merged["parts"]] == ["2/3", "1/3", "0/3"]
    assert run("verify", "all.tsv", "--rows", "3") == 0
    assert run("verify", parts[2], "--rows", "all") == 0
    capsys.readouterr()
    assert run("audit", "all.tsv", *parts) == 0
    assert "warning" not in capsys.readouterr().out


def test_a_run_goes_on_where_a_shard_is_missing(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*COMMAND, *SAME, "--out", "whole.tsv") == 0
    assert run("merge", *make(0, 2), "--out", "two.tsv") == 0
    assert run("audit", "two.tsv") == 0
    assert "4 of the 12 images that the manifest names have no row" in capfd.readouterr().out
    assert run(*COMMAND, *SAME, "--out", "two.tsv") == 0
    assert "certifying 4 of 12 images" in capfd.readouterr().err
    assert sorted(lines("two.tsv")[1:], key=lambda row: int(row[0])) == lines("whole.tsv")[1:]


def test_each_shard_has_a_file_of_its_own(tmp_path: Path) -> None:
    assert shards.Shard(1, 3).file_name("radii.tsv") == "radii.shard-1-of-3.tsv"
    assert run(*COMMAND, *SAME, "--shard", "0/2", "--out", "same.tsv") == 0
    before = Path("same.tsv").read_bytes()
    assert run(*COMMAND, *SAME, "--shard", "1/2", "--out", "same.tsv") == 2
    assert Path("same.tsv").read_bytes() == before


def test_shards_that_would_choose_for_themselves_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*COMMAND, "--shard", "0/2", "--out", "a.tsv") == 2
    assert "--shard needs --seed and --batch-size, the same for all shards" in capfd.readouterr().err
    assert run(*COMMAND, "--shard", "0/2", "--seed", "1", "--out", "a.tsv") == 2
    assert "--shard needs --batch-size, the same" in capfd.readouterr().err
    assert not os.path.exists("a.tsv")


@pytest.mark.parametrize("text", ["3/3", "1", "-1/3", "1/0", "a/b", "1/3/5", "", "0/10000000"])
def test_what_is_no_shard_is_refused(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*COMMAND, *SAME, f"--shard={text}", "--out", "a.tsv") == 2
    assert "--shard must be i/N with i from 0 to N - 1, such as 0/3, 1/3 and 2/3" in capfd.readouterr().err


def test_more_shards_than_images_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*COMMAND, *SAME, "--shard", "12/13", "--out", "a.tsv") == 2
    assert "--shard 12/13 has no image: there are 12; use fewer shards" in capfd.readouterr().err


def test_shards_of_different_counts_are_no_whole() -> None:
    zero, other = ({"name": "full", "indices": f"{i}:40:{n}", "shard": f"{i}/{n}"} for i, n in ((0, 2), (1, 4)))
    one = {"name": "full", "indices": "1:40:2", "shard": "1/2"}
    assert shards.whole([zero, one]) == {"name": "full", "indices": "0:40:1"}
    assert shards.whole([zero, other]) is None
    assert shards.whole([zero, zero]) is None
    assert shards.whole([zero, {**one, "name": "skip2"}]) is None
    assert shards.whole([zero, {"name": "full", "indices": "0:40:1"}]) is None
    assert shards.asked([zero, one], [10, 10]) == 20
    assert shards.asked([one, zero], [9, 10]) == 19
    assert shards.asked([zero, one], [9, 10]) is None, "no first so many images"
    assert shards.asked([zero, one], [10, None]) is None
    assert shards.asked([zero], [10]) is None, "one is missing"


def test_shards_of_different_sizes_are_no_first_images_of_the_protocol() -> None:
    merged = [*make(0, count=2, limit=12), *make(1, count=2, limit=6)]
    assert run("merge", *merged, "--out", "all.tsv") == 0
    assert run("audit", "all.tsv") == 0
    assert "images" not in json.loads(Path("all.manifest.json").read_text())["notes"]


def test_what_one_shard_warns_of_is_said_of_all(capfd: pytest.CaptureFixture[str]) -> None:
    merged = make(0, 1, 2)
    path = Path("part-1.manifest.json")
    manifest = json.loads(path.read_text())
    manifest["notes"] |= {"micro_batch": [{"after_rows": 1, "rows": 32}], "threads": 7}
    path.write_text(json.dumps(manifest))
    assert run("merge", *merged, "--out", "all.tsv") == 0
    notes = json.loads(Path("all.manifest.json").read_text())["notes"]
    assert notes["micro_batch"] == [{"rows": 32, "idx": "8:21:6"}]
    assert notes["threads"] == [1, 7, 1]
    capfd.readouterr()
    assert run("verify", "all.tsv", "--rows", "2") == 0
    said = capfd.readouterr().out
    assert "notes.micro_batch: recorded" in said
    assert "notes.threads: recorded [1, 7, 1], here 1" in said
    assert run("transfer", "all.tsv", "--to-dtype", "bfloat16", "--out", "served.tsv") == 2
    assert "not all rows are of one f" in capfd.readouterr().err


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_are_the_images_of_the_protocol_each_once(count: int) -> None:
    indices = list(range(5, 100, 4))
    parts = [shards.Shard(number, count).of(indices) for number in range(count)]
    assert sorted(index for part in parts for index in part) == indices
    described = [shards.Shard(number, count).described({"name": "x", "indices": "5:100:4"}) for number in range(count)]
    for part, protocol in zip(parts, described, strict=True):
        assert part == list(range(*map(int, protocol["indices"].split(":"))))
    assert shards.whole(described) == {"name": "x", "indices": "5:100:4"}
