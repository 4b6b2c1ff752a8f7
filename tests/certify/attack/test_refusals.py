"""What ``certify attack`` refuses: mistakes, flat models, other settings, rows that contradict themselves."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import attacked_plane
import pytest
import torch
from attacked_plane import attack, edit, run, with_radius_of

from maxup_smoothing.certify.attack.table import (
    AttackRow,
    AttackTable,
    format_attack,
    is_attack_table,
    parse_attack,
    read_attacks,
)

_here = attacked_plane.here


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        ("mine:other", [], r"mine:other is not what radii.tsv is about: classifier.weights_sha256: recorded"),
        ("mine:arrays", [], "is not what radii.tsv is about"),
        ("mine:plane", ["--radius-factors", "x"], "--radius-factors must be numbers"),
        ("mine:plane", ["--radii", "-1"], "--radii must be at least 0"),
        ("mine:plane", ["--n", "5"], "with n = 5 samples PREDICT always abstains"),
        ("mine:plane", ["--confirm-n", "10"], "--confirm-n, --confirm-alpha: with n = 10 samples"),
        ("mine:plane", ["--out", "radii.tsv"], "would replace the certified table"),
        ("mine:plane", ["--out", "radii.txt"], "would replace the certified table or its manifest"),
        ("mine:plane", ["--save-images", "won.png"], "--save-images writes an .npz file"),
        ("mine:plane", ["--seed", "-1"], r"--seed must lie in \[0, 2\^64\)"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(model: str, more: list[str], message: str) -> None:
    run()
    before = sorted(Path().iterdir())
    with pytest.raises(ValueError, match=message):
        attack(*more, model=model)
    assert sorted(path for path in Path().iterdir() if path.name != "__pycache__") == [
        path for path in before if path.name != "__pycache__"
    ]


@pytest.mark.parametrize(
    ("model", "message"),
    [("mine:arrays", "is a function of arrays"), ("mine:steps", "all gradients of mine:steps are 0")],
)
def test_a_model_without_gradients_is_refused_with_the_fix(model: str, message: str) -> None:
    run(model)
    with pytest.raises(ValueError, match=f"{message}.*attack the network that it was made from"):
        attack(model=model)


def test_other_settings_do_not_continue_a_table_and_overwriting_begins_it_again() -> None:
    run()
    attack("--radius-factors", "0.5", "--limit", "2")
    with pytest.raises(ValueError, match=r"attack\.steps=8, this run uses attack\.steps=9"):
        attack("--radius-factors", "0.5", "--limit", "2", "--steps", "9")
    attack("--radius-factors", "0.5", "--limit", "2", "--steps", "9", "--overwrite")
    manifest = json.loads(Path("attacks.manifest.json").read_text())
    assert manifest["attack"]["steps"] == 9
    assert manifest["certified"]["seed"] == 1
    edit(with_radius_of(1700))  # another table: the attacks are not of it
    with pytest.raises(ValueError, match=r"certified.sha256="):
        attack("--radius-factors", "0.5", "--limit", "2", "--steps", "9")


def test_evidence_that_is_incomplete_or_foreign_is_refused() -> None:
    run()
    attack("--radius-factors", "2", "--limit", "3")
    with pytest.raises(ValueError, match=r"won\.npz lacks the images of [123] successes"):
        attack("--radius-factors", "2", "--limit", "3", "--save-images", "won.npz")
    Path("won.npz").write_bytes(b"no such file")
    with pytest.raises(ValueError, match=r"won\.npz was not written by --save-images"):
        attack("--radius-factors", "2", "--limit", "3", "--save-images", "won.npz")


def test_memory_that_runs_out_says_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    run()

    def full(*args: Any, **more: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("maxup_smoothing.certify.attack.search.ddn", full)
    with pytest.raises(ValueError, match=r"memory has run out over 8 images .* smaller --group-size"):
        attack("--radius-factors", "0.5")

    def broken(*args: Any, **more: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("maxup_smoothing.certify.attack.search.ddn", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        attack("--radius-factors", "0.5")


def _row() -> AttackRow:
    return AttackRow(
        idx=3,
        label=1,
        predict=1,
        radius=0.5,
        goal=0,
        factor=0.9,
        epsilon=0.45,
        attack="pgd",
        squares=13000,
        attacked_predict=0,
        n=10,
        counts={0: 10},
        confirmed="yes",
        confirm_counts={0: 100},
        seconds=1.0,
    )


def test_rows_of_an_image_are_told_apart_by_their_goal() -> None:
    first, second = (dataclasses.replace(_row(), goal=goal) for goal in (0, 1))
    for _ in range(2):  # written, and continued
        with AttackTable.open("attacks.tsv", {}) as table:
            for row in (first, second):
                if row.key not in table.done:
                    table.append(row)
            assert table.done == {(3, 0): first, (3, 1): second}
            with pytest.raises(ValueError, match="has a row for idx 3 with goal 1 already"):
                table.append(second)
    assert read_attacks("attacks.tsv") == [first, second]
    with Path("attacks.tsv").open("a") as stream:
        stream.write(format_attack(first) + "\n")
    with pytest.raises(ValueError, match="line 4: idx 3 with goal 0 is there twice"):
        read_attacks("attacks.tsv")


def test_rows_that_contradict_themselves_are_refused() -> None:
    row = _row()
    assert parse_attack(format_attack(row)) == row
    wrong: list[dict[str, Any]] = [
        {"squares": 13168},  # more than epsilon allows: (0.45 * 255)^2 = 13167.5
        {"n": 11},
        {"counts": {0: 4, 1: 6}},
        {"confirmed": ""},
        {"confirm_counts": {}},
        {"attacked_predict": 1, "counts": {1: 10}},
        {"goal": 1000},
        {"attack": "cw"},
        {"factor": -1.0},
    ]
    for change in wrong:
        with pytest.raises(ValueError, match=r" is .*| must be .*|confirmed"):
            parse_attack(format_attack(dataclasses.replace(row, **change)))
    with pytest.raises(ValueError, match="distance is"):
        parse_attack(format_attack(row).replace(repr(row.distance), "0.4"))
    Path("other.tsv").write_text("idx\tlabel\n")
    assert not is_attack_table("other.tsv")
    with pytest.raises(ValueError, match="is not a table of `certify attack`"):
        read_attacks("other.tsv")
