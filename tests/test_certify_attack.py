"""``certify attack`` on classifiers whose true radius is known: what must succeed does, what must not does not."""

import dataclasses
import importlib
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from typer.testing import CliRunner

from certify.attack.judge import Judge
from certify.attack.table import AttackRow, AttackTable, format_attack, is_attack_table, parse_attack, read_attacks
from certify.binomial import lower_confidence_bound
from certify.cli import app as certify
from certify.noise import exact
from certify.radius import certified_radius
from certify.row import Row, format_row, parse_row

Image = NDArray[Any]
TESTS = Path(__file__).parent
TABLE, ATTACKS = Path("radii.tsv"), Path("attacks.tsv")
FACTORS = "0.5,0.9,1.25"
MINE = '''
import torch
from oracles import HalfSpace, Pixel


def plane(flip=False):
    """A half-space through the grey image, whose normal has all signs and sizes: radius = distance, exactly."""
    weight = torch.randn((1, 8, 8), generator=torch.Generator().manual_seed(7 + flip))
    return HalfSpace(weight, float(weight.sum()) * 128 / 255).eval()


def other():
    return plane(True)


class Steps(torch.nn.Module):
    def forward(self, x):
        return torch.stack([x.flatten(1).sum(1).round(), torch.zeros(len(x)) + 32.5], dim=1)


def steps():
    return Steps().eval()


def arrays():
    import numpy as np
    return lambda x: np.stack([x[:, 0, 0, 0], 0.5 + 0 * x[:, 0, 0, 0]], axis=1)
'''


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a factory, and 20 images at distances from -0.7 to 0.7 of its plane, all labelled rightly."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    Path("mine.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("mine", None)
    normal = plane().weight.detach().numpy().reshape(8, 8)
    normal /= np.linalg.norm(normal)
    spread = np.random.default_rng(0).integers(-9, 10, (20, 8, 8))
    images = 128 + spread + np.rint(255 * np.linspace(-0.7, 0.7, 20)[:, None, None] * normal)
    labels = np.array([int(plane().margin(_tensor(image)) > 0) for image in images])
    np.savez("images.npz", images=images.astype(np.uint8), labels=labels, classes=np.array(["a", "b"]))


def plane() -> Any:
    return importlib.import_module("mine").plane()


def _tensor(image: Image) -> torch.Tensor:
    return torch.from_numpy(image[None].astype(np.float32) / 255)


def run(model: str = "mine:plane") -> None:
    arguments = ["--data", "images.npz", "--sigma", "0.25", "--n", "3000", "--batch-size", "512", "--seed", "1"]
    result = CliRunner().invoke(certify, ["run", model, *arguments, "--out", str(TABLE), "--no-check"])
    assert result.exit_code == 0, result.output


def attack(*more: str, model: str = "mine:plane", status: int = 0) -> str:
    few = ["--steps", "8", "--samples", "8", "--seed", "5", "--at-once", "8"]
    result = CliRunner().invoke(certify, ["attack", model, str(TABLE), *few, *more])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    return result.stdout


def edit(change: Callable[[Row], Row]) -> None:
    head, *lines = TABLE.read_text().splitlines()
    rows = [format_row(change(parse_row(line))) for line in lines]
    TABLE.write_text("\n".join([head, *rows]) + "\n")


def with_radius_of(n_a: int) -> Callable[[Row], Row]:
    """A row that claims so many votes; certify.table.read finds nothing wrong with it."""

    def change(row: Row) -> Row:
        bound = float(lower_confidence_bound(n_a, row.n, row.alpha))
        radius = float(certified_radius(bound, row.sigma))
        [look] = row.looks
        look = dataclasses.replace(look, n_a=n_a, n_b=row.n - n_a)
        counts = {kind: count for kind, count in ((row.selected, n_a), (1 - row.selected, row.n - n_a)) if count}
        return dataclasses.replace(
            row,
            predict=row.selected,
            correct=row.selected == row.label,
            status="certified",
            radius=radius,
            n_a=n_a,
            p_a_lower=bound,
            p_b_upper=1 - bound,
            counts=counts,
            looks=(look,),
        )

    return change


def true_radius(row: AttackRow) -> float:
    return float(abs(plane().margin(_tensor(np.load("images.npz")["images"][row.image]))))


def test_attacks_succeed_beyond_the_true_radius_never_within_it_and_use_their_norm() -> None:
    run()
    before = {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    said = attack("--of-radius", "0.5,0.9,0.99,1.1,2", "--radii", "0,0.1,0.6")
    assert "No attack was confirmed within a certified radius." in said
    rows = read_attacks(ATTACKS)
    assert len(rows) == 20 * 3 + 5 * sum(row.predict == row.label for row in rows if row.epsilon == 0)
    decided = 0
    for row in rows:
        truth = true_radius(row)
        if row.predict == row.label and row.epsilon > 0.03:  # 8-bit images are a coarse grid for less
            assert 0.9 < row.distance / row.epsilon <= 1
        if row.distance <= 0.9 * truth:
            assert not row.success
        # PREDICT tells 0.04 beyond the plane: Phi(0.04 / 0.25) = 0.56 of 1,000 votes.
        if row.distance >= max(1.1 * truth, truth + 0.08) and row.predict in (row.label, -1):
            assert row.attacked_predict == 1 - row.label
            decided += 1
        assert not row.inside or not row.success
    assert decided > 20
    assert all(Path(name).read_bytes() == content for name, content in before.items())
    # Certified accuracy below, accuracy under attack above.
    at = {row.image: row for row in rows if row.epsilon == 0.1 and row.factor is None}
    assert sum(row.right for row in at.values()) >= sum(
        row.predict == row.label and row.radius >= 0.1 for row in at.values()
    )


def test_an_inflated_radius_raises_the_alarm_and_the_next_run_repeats_it() -> None:
    run()
    edit(with_radius_of(2999))
    out = attack("--of-radius", "0.9", "--radii", "0", "--save", "won.npz", "--at-once", "4", status=1)
    assert "ALARM: " in out
    assert "alpha 1e-06" in out
    assert "of this table's 20, at most" in out
    rows = read_attacks(ATTACKS)
    broken = [row for row in rows if row.confirmed == "yes"]
    assert broken
    assert all(row.inside and row.success and sum(row.confirm_counts.values()) == 100_000 for row in broken)
    assert {row.image for row in rows} == {0, 1, 2, 3}  # the group was finished, and the run stopped
    with np.load("won.npz") as won:
        for number, pixels_CHW in zip(won["idx"], won["images"], strict=True):
            original = np.load("images.npz")["images"][number]
            [row] = [row for row in rows if row.image == number and row.success]
            assert int(((pixels_CHW[0].astype(int) - original) ** 2).sum()) == row.squares
    stored = ATTACKS.read_bytes()
    again = attack("--of-radius", "0.9", "--radii", "0", "--at-once", "4", status=1)
    assert "ALARM" in again
    assert ATTACKS.read_bytes() == stored


def test_a_chance_success_within_a_radius_is_refuted_by_more_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    predict = Judge.predict

    def unlucky(self: Judge, *args: Any) -> list[tuple[int, Image]]:
        """The two classes' votes exchanged."""
        swapped = [votes_V[[1, 0, 2]] for _, votes_V in predict(self, *args)]
        return [(int(votes_V.argmax()), votes_V) for votes_V in swapped]

    monkeypatch.setattr(Judge, "predict", unlucky)
    out = attack("--of-radius", "0.3", "--confirm-n", "2000")
    assert "successes within a radius were not confirmed" in out
    assert {row.confirmed for row in read_attacks(ATTACKS)} <= {"no", ""}
    assert any(row.confirmed == "no" for row in read_attacks(ATTACKS))


def _stripped(path: Path) -> list[list[str]]:
    return [line.split("\t")[:-1] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("rows", [0, 3, 16, 25])
def test_a_resumed_run_equals_the_undisturbed_one(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    goals = ["--of-radius", FACTORS, "--radii", "0.3"]
    attack(*goals, "--out", "whole.tsv", "--save", "whole.npz")
    written = itertools.count()
    append = AttackTable.append

    def failing(table: AttackTable, row: AttackRow) -> None:
        if next(written) == rows:
            raise KeyboardInterrupt
        append(table, row)

    with monkeypatch.context() as patch:
        patch.setattr(AttackTable, "append", failing)
        attack(*goals, "--save", "parts.npz", status=130)
    assert len(_stripped(ATTACKS)) == 1 + rows
    with ATTACKS.open("a") as stream:
        stream.write("12\t1\t1")  # a torn line
    attack(*goals, "--save", "parts.npz")
    assert _stripped(ATTACKS) == _stripped(Path("whole.tsv"))
    with np.load("parts.npz") as parts, np.load("whole.npz") as whole:
        assert all(np.array_equal(parts[name], whole[name]) for name in whole.files)


def test_judging_uses_noise_that_neither_certificates_nor_choosing_have_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    edit(with_radius_of(2999))
    seen: set[int] = set()
    fill = exact.ExactNoise.fill

    def noted(self: exact.ExactNoise, *args: Any, **more: Any) -> None:
        seen.add(more["stage"])
        fill(self, *args, **more)

    monkeypatch.setattr(exact.ExactNoise, "fill", noted)
    attack("--of-radius", "0.9", "--seed", "1", status=1)  # the table's own seed
    assert {33, 34} <= seen <= {32, 33, 34}


@pytest.mark.parametrize(
    ("model", "more", "message"),
    [
        ("mine:other", [], r"mine:other is not what radii.tsv is about: classifier.weights_sha256: recorded"),
        ("mine:arrays", [], "is not what radii.tsv is about"),
        ("mine:plane", ["--of-radius", "x"], "--of-radius must be numbers"),
        ("mine:plane", ["--radii", "-1"], "--radii must be at least 0"),
        ("mine:plane", ["--n", "5"], "with n = 5 samples PREDICT always abstains"),
        ("mine:plane", ["--confirm-n", "10"], "--confirm-n, --confirm-alpha: with n = 10 samples"),
        ("mine:plane", ["--out", "radii.tsv"], "would replace the certified table"),
        ("mine:plane", ["--out", "radii.txt"], "would replace the certified table or its manifest"),
        ("mine:plane", ["--save", "won.png"], "--save writes an .npz file"),
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
    attack("--of-radius", "0.5", "--max", "2")
    with pytest.raises(ValueError, match=r"attack\.steps=8, this run uses attack\.steps=9"):
        attack("--of-radius", "0.5", "--max", "2", "--steps", "9")
    attack("--of-radius", "0.5", "--max", "2", "--steps", "9", "--overwrite")
    manifest = json.loads(Path("attacks.manifest.json").read_text())
    assert manifest["attack"]["steps"] == 9
    assert manifest["certified"]["seed"] == 1
    edit(with_radius_of(1700))  # another table: the attacks are not of it
    with pytest.raises(ValueError, match=r"certified.sha256="):
        attack("--of-radius", "0.5", "--max", "2", "--steps", "9")


def test_evidence_that_is_incomplete_or_foreign_is_refused() -> None:
    run()
    attack("--of-radius", "2", "--max", "3")
    with pytest.raises(ValueError, match=r"won\.npz lacks the images of [123] successes"):
        attack("--of-radius", "2", "--max", "3", "--save", "won.npz")
    Path("won.npz").write_bytes(b"no such file")
    with pytest.raises(ValueError, match=r"won\.npz was not written by --save"):
        attack("--of-radius", "2", "--max", "3", "--save", "won.npz")


def test_memory_that_runs_out_says_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    run()

    def full(*args: Any, **more: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr("certify.attack.search.ddn", full)
    with pytest.raises(ValueError, match=r"memory has run out over 8 images .* smaller --at-once"):
        attack("--of-radius", "0.5")

    def broken(*args: Any, **more: Any) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("certify.attack.search.ddn", broken)
    with pytest.raises(RuntimeError, match="a defect"):
        attack("--of-radius", "0.5")


def test_without_radii_those_of_show_are_attacked() -> None:
    run()
    attack("--max", "1")
    assert [row.epsilon for row in read_attacks(ATTACKS)] == [0.0, 0.25, 0.5]


def test_rows_that_contradict_themselves_are_refused() -> None:
    row = AttackRow(
        image=3,
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
