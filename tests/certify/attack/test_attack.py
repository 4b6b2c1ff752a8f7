"""``certify attack`` on classifiers whose true radius is known: what must succeed does, what must not does not."""

import itertools
import json
from pathlib import Path
from typing import Any

import attacked_plane
import numpy as np
import pytest
from attacked_plane import ATTACKS, Image, attack, edit, run, true_radius, with_radius_of

from maxup_smoothing.certify.attack.judge import Judge
from maxup_smoothing.certify.attack.table import AttackRow, AttackTable, read_attacks
from maxup_smoothing.certify.noise import PREDICTION, exact

_here = attacked_plane.here

FACTORS = "0.5,0.9,1.25"


def test_attacks_succeed_beyond_the_true_radius_never_within_it_and_use_their_norm() -> None:
    run()
    before = {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}
    said = attack("--radius-factors", "0.5,0.9,0.99,1.1,2", "--radii", "0,0.1,0.6")
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
    at = {row.idx: row for row in rows if row.epsilon == 0.1 and row.factor is None}
    assert sum(row.right for row in at.values()) >= sum(
        row.predict == row.label and row.radius >= 0.1 for row in at.values()
    )


def test_an_inflated_radius_raises_the_alarm_and_the_next_run_repeats_it() -> None:
    run()
    edit(with_radius_of(2999))
    out = attack("--radius-factors", "0.9", "--radii", "0", "--save-images", "won.npz", "--group-size", "4", status=1)
    assert "ALARM: " in out
    assert "alpha 1e-06" in out
    assert "of this table's 20, at most" in out
    rows = read_attacks(ATTACKS)
    broken = [row for row in rows if row.confirmed == "yes"]
    assert broken
    assert all(row.inside and row.success and sum(row.confirm_counts.values()) == 100_000 for row in broken)
    assert {row.idx for row in rows} == {0, 1, 2, 3}  # the group was finished, and the run stopped
    with np.load("won.npz") as won:
        for number, pixels_CHW in zip(won["idx"], won["images"], strict=True):
            original = np.load("images.npz")["images"][number]
            [row] = [row for row in rows if row.idx == number and row.success]
            assert int(((pixels_CHW[0].astype(int) - original) ** 2).sum()) == row.squares
    stored = ATTACKS.read_bytes()
    again = attack("--radius-factors", "0.9", "--radii", "0", "--group-size", "4", status=1)
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
    out = attack("--radius-factors", "0.3", "--confirm-n", "2000")
    assert "successes within a radius were not confirmed" in out
    assert {row.confirmed for row in read_attacks(ATTACKS)} <= {"no", ""}
    assert any(row.confirmed == "no" for row in read_attacks(ATTACKS))


def _stripped(path: Path) -> list[list[str]]:
    return [line.split("\t")[:-1] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("rows", [0, 3, 16, 25])
def test_a_resumed_run_equals_the_undisturbed_one(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    goals = ["--radius-factors", FACTORS, "--radii", "0.3"]
    attack(*goals, "--out", "whole.tsv", "--save-images", "whole.npz")
    written = itertools.count()
    append = AttackTable.append

    def failing(table: AttackTable, row: AttackRow) -> None:
        if next(written) == rows:
            raise KeyboardInterrupt
        append(table, row)

    with monkeypatch.context() as patch:
        patch.setattr(AttackTable, "append", failing)
        attack(*goals, "--save-images", "parts.npz", status=130)
    assert len(_stripped(ATTACKS)) == 1 + rows
    with ATTACKS.open("a") as stream:
        stream.write("12\t1\t1")  # a torn line
    attack(*goals, "--save-images", "parts.npz")
    assert _stripped(ATTACKS) == _stripped(Path("whole.tsv"))
    with np.load("parts.npz") as parts, np.load("whole.npz") as whole:
        assert all(np.array_equal(parts[name], whole[name]) for name in whole.files)


def test_judging_uses_noise_that_neither_certificates_nor_choosing_have_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    edit(with_radius_of(2999))
    seen: set[tuple[int, int]] = set()
    seed = json.loads(Path("radii.manifest.json").read_text())["noise"]["seed"]
    fill = exact.ExactNoise.fill

    def noted(self: exact.ExactNoise, *args: Any, **more: Any) -> None:
        seen.add((self.seed, more["stage"]))
        fill(self, *args, **more)

    monkeypatch.setattr(exact.ExactNoise, "fill", noted)
    attack("--radius-factors", "0.9", "--seed", "1", status=1)  # the table's own seed
    stages = {stage for own, stage in seen if own == seed}
    assert {33, 34} <= stages <= {32, 33, 34}
    assert all(stage == PREDICTION for own, stage in seen if own != seed)  # of the check of f, on a stream of its own


def test_without_radii_those_of_show_are_attacked() -> None:
    run()
    attack("--limit", "1")
    assert [row.epsilon for row in read_attacks(ATTACKS)] == [0.0, 0.25, 0.5]
