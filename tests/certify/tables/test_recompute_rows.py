"""A row computed again: what its votes prove elsewhere, by exact enumeration and against fresh certificates."""

import itertools
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from math import comb
from pathlib import Path

import numpy as np
import pytest
from one_look import certificate
from scipy import stats

from maxup_smoothing.certify.statistics.certificate import BOUNDS, PROCEDURES, Look, certificate_of, limits
from maxup_smoothing.certify.statistics.procedure import Sampling
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.tables.fields import INVALID
from maxup_smoothing.certify.tables.population import simultaneous
from maxup_smoothing.certify.tables.radius_table import RadiusTable, read, read_rows, row_of
from maxup_smoothing.certify.tables.recompute import recompute_row, recompute_table
from maxup_smoothing.certify.tables.row import Row

SIGMA = 0.5


def untimed(path: Path) -> list[Row]:
    return [replace(row, seconds=0.0) for row in read_rows(path)[0]]


def votes(n_a: int, n: int, *, alpha: float = 0.01, error: float = 0.0, bound: str = "clopper-pearson") -> Row:
    """A row of three classes, of which class 1 was selected."""
    n_b = (n - n_a) * 2 // 3
    proved = certificate(np.array([0, 9, 0, 0]), np.array([n_b, n_a, n - n_a - n_b, 0]), alpha, SIGMA, error, bound)
    return row_of(proved, 7, 1, n0=9, sigma=SIGMA, alpha=alpha, seconds=1.0)


def test_levels_of_a_whole_schedule_never_sum_to_more_than_the_new_alpha() -> None:
    plan = Sampling(sigma=SIGMA, n0=1, alpha=0.001, procedure="sequential").schedule
    looks = tuple(Look(n, n - 1, 1, level) for n, level in plan)
    proved = limits(looks, procedure="sequential", bound="joint")
    row = replace(votes(90, 100), alpha=0.001, procedure="sequential", bound="joint", looks=looks)
    row = replace(row, p_a_lower=proved[0], p_b_upper=proved[1])
    for alpha in np.random.default_rng(0).uniform(1e-6, 0.9, 300).tolist():
        levels = [Fraction(look.level) for look in recompute_row(row, alpha=alpha).looks]
        assert Fraction(alpha) * (1 - Fraction(1, 10**11)) < sum(levels) <= Fraction(alpha)
        unit = Fraction(alpha) / Fraction(0.001)  # each level is rounded down, not only their sum
        assert all(new <= Fraction(look.level) * unit for new, look in zip(levels, looks, strict=True))


def test_abstentions_and_certificates_change_places() -> None:
    strict = votes(620, 1000, alpha=1e-20)
    assert strict.predict == ABSTAIN
    loose = recompute_row(strict, alpha=0.01)
    assert loose == votes(620, 1000, alpha=0.01)
    assert (loose.predict, loose.correct, loose.status) == (1, True, "certified")
    assert recompute_row(loose, alpha=1e-20) == strict
    # 45 % against at most 37 %: only the joint bound certifies a class without a majority.
    minority = votes(4500, 10_000)
    assert minority.predict == ABSTAIN
    joint = recompute_row(minority, bound="joint")
    assert joint == votes(4500, 10_000, bound="joint")
    assert joint.predict == 1
    assert recompute_row(joint, bound="clopper-pearson") == minority


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("error", [1e-13, 1e-3, 0.05])
def test_an_error_that_is_not_told_is_taken_from_the_row_and_never_too_small(error: float, bound: str) -> None:
    for n_a in (400, 600, 900, 1000):
        row = votes(n_a, 1000, error=error, bound=bound)
        for alpha in (1e-6, 0.3):
            for new in BOUNDS:
                guess = recompute_row(row, alpha=alpha, bound=new)
                known = recompute_row(row, alpha=alpha, bound=new, probability_error=error)
                assert known == votes(n_a, 1000, alpha=alpha, error=error, bound=new)
                assert guess.p_a_lower <= known.p_a_lower
                assert guess.p_b_upper >= known.p_b_upper
                assert guess.p_a_lower == pytest.approx(known.p_a_lower, abs=1e-15)
                assert guess.radius <= known.radius <= guess.radius + 1e-9
                # A manifest whose error the row does not bear out is not believed.
                assert recompute_row(row, alpha=alpha, bound=new, probability_error=error / 2) == guess


def test_where_all_of_a_bound_was_taken_off_nothing_comes_back() -> None:
    row = votes(100, 1000, alpha=1e-9, error=0.2)
    assert row.p_a_lower == 0
    assert recompute_row(row, alpha=0.999).p_a_lower == 0


def test_what_was_taken_off_a_radius_stays_off(tmp_path: Path) -> None:
    row = votes(950, 1000)
    moved = replace(row, radius=float(np.nextafter(row.radius - 0.1, 0.0)))
    again = recompute_row(moved, alpha=0.2)
    whole = recompute_row(row, alpha=0.2)
    assert whole.radius - 0.1 - 1e-12 < again.radius <= whole.radius - 0.1
    assert recompute_row(replace(row, predict=ABSTAIN, radius=0.0), alpha=0.2).predict == ABSTAIN
    gone = recompute_row(replace(row, radius=1e-9), alpha=1e-6)
    assert (gone.predict, gone.radius, gone.correct, gone.status) == (ABSTAIN, 0.0, False, "abstain")
    # How far an abstaining input was moved is not told, so beside a moved one it stays an abstention.
    hidden = replace(votes(560, 1000, alpha=1e-6), alpha=1e-6, idx=8)
    assert hidden.predict == ABSTAIN
    moved = replace(recompute_row(moved, alpha=1e-6), idx=9)
    for name, others, predict in (("alone", [], 1), ("beside", [moved], ABSTAIN)):
        with RadiusTable.open(tmp_path / f"{name}.tsv", {}) as table:
            for one in [hidden, *others]:
                table.append(one)
        recompute_table(tmp_path / f"{name}.tsv", tmp_path / f"{name}2.tsv", alpha=0.1)
        assert untimed(tmp_path / f"{name}2.tsv")[0].predict == predict


def test_a_draw_without_replacement_of_a_binomial_count_is_binomial() -> None:
    # The law that `multivariate_hypergeometric` has by definition, in exact arithmetic.
    n, p = 7, Fraction(3, 11)
    for fewer in range(1, n + 1):
        for drawn in range(fewer + 1):
            total = Fraction(0)
            for full in range(n + 1):
                of_full = comb(n, full) * p**full * (1 - p) ** (n - full)
                total += of_full * Fraction(comb(full, drawn) * comb(n - full, fewer - drawn), comb(n, fewer))
            assert total == comb(fewer, drawn) * p**drawn * (1 - p) ** (fewer - drawn)


def test_votes_are_drawn_without_replacement_each_set_equally_often(seed: int) -> None:
    row = replace(votes(5, 8), counts={0: 2, 1: 5, INVALID: 1}, looks=(Look(8, 5, 2, 0.01),))
    draws = 4000
    found = Counter(
        tuple(recompute_row(replace(row, idx=idx), n=4, seed=seed).counts.get(kind, 0) for kind in (0, 1, INVALID))
        for idx in range(draws)
    )
    law = {
        (a, b, c): comb(2, a) * comb(5, b) * comb(1, c) / comb(8, 4)
        for a, b, c in itertools.product(range(3), range(6), range(2))
        if a + b + c == 4
    }
    assert found.keys() <= law.keys()
    for kinds, probability in law.items():  # six tests: false alarms below 1e-6 over all seeds
        assert stats.binomtest(found[kinds], draws, probability).pvalue > 1e-9
    with_replacement = 1 - (5 / 8) ** 4
    assert stats.binomtest(draws - sum(found[k] for k in found if k[1] == 4), draws, with_replacement).pvalue < 1e-9


def test_the_counts_of_an_earlier_look_agree_with_it_and_with_the_later_ones() -> None:
    # At 10 votes: 5, 3 and 2 others; the rest fits only if the largest class is filled first.
    looks = (Look(10, 5, 3, 0.01), Look(40, 20, 9, 0.02))
    row = replace(votes(20, 40), procedure="sequential", looks=looks, counts={0: 1, 1: 20, 2: 9, 3: 2, INVALID: 8})
    first = recompute_row(row, n=39)
    assert first.counts == {1: 5, 2: 3, INVALID: 2}
    assert (first.n, first.n_a, first.looks) == (10, 5, looks[:1])
    with pytest.raises(ValueError, match="idx 7: the counts do not contain the votes of its look at 10"):
        recompute_row(replace(row, counts={1: 20, 2: 2}), n=39)


def test_an_abstention_whose_class_is_not_told_and_ambiguous_is_refused(tmp_path: Path) -> None:
    with RadiusTable.open(tmp_path / "a.tsv", {}) as table:
        table.append(replace(votes(50, 100), counts={0: 50, 1: 50}, looks=(Look(100, 50, 50, 0.01),)))
    log = tmp_path / "log.tsv"
    log.write_text(
        "".join("\t".join(line.split("\t")[:14]) + "\n" for line in (tmp_path / "a.tsv").read_text().splitlines())
    )
    with pytest.raises(ValueError, match=r"log\.tsv, idx 7: it abstained, and 2 classes have its n_a=50 votes"):
        recompute_table(log, tmp_path / "b.tsv")


def test_rows_with_too_few_votes_and_an_alpha_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="idx 7 has n=100 votes, fewer than 200; take at most 100 or certify again"):
        recompute_row(votes(90, 100), n=200)
    row = replace(votes(90, 100), procedure="sequential", looks=(Look(50, 40, 10, 1e-3), Look(100, 90, 6, 9e-3)))
    with pytest.raises(ValueError, match="too small to be divided among 2 looks"):
        recompute_row(row, alpha=5e-324)


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("procedure", PROCEDURES)
def test_every_procedure_and_bound_is_held_to_alpha_by_images(tmp_path: Path, procedure: str, bound: str) -> None:
    looks = {0: [(200, 190, 6), (500, 480, 11)], 1: [(200, 90, 60), (500, 260, 140)], 2: [(200, 200, 0)]}
    levels = {"fixed": [0.01], "sequential": [0.003, 0.007], "anytime": [0.01, 0.01]}[procedure]

    def row(idx: int, alpha: float, error: float) -> Row:
        numbers = looks[idx][-1:] if procedure == "fixed" else looks[idx]
        scaled = [
            level if alpha == 0.01 else float(Fraction(level) * Fraction(alpha) / Fraction(0.01)) for level in levels
        ]
        seen = [Look(*votes, level) for votes, level in zip(numbers, scaled, strict=False)]
        n, n_a, n_b = numbers[-1]
        proved = certificate_of(
            seen,
            1,
            np.array([n_b, n_a, n - n_a - n_b]),
            sigma=0.5,
            procedure=procedure,
            bound=bound,
            probability_error=error,
        )
        return row_of(proved, idx, 1, n0=10, sigma=0.5, alpha=alpha, seconds=1.0)

    with RadiusTable.open(tmp_path / "a.tsv", {"sampling": {}}) as table:
        for idx in looks:
            table.append(row(idx, 0.01, 1e-6))
    before = read(tmp_path / "a.tsv")
    after = simultaneous(before)
    each = float(after["alpha"].iloc[0])
    assert each == pytest.approx(0.01 / 3, rel=1e-15)
    for idx, told, p_b_upper, radius in zip(
        looks, after["p_a_lower"], after["p_b_upper"], after["radius"], strict=True
    ):
        wanted = row(idx, each, 1e-6)
        assert told == pytest.approx(wanted.p_a_lower, rel=1e-12)
        assert p_b_upper == pytest.approx(wanted.p_b_upper, rel=1e-12)
        assert radius == pytest.approx(wanted.radius, rel=1e-9)
        assert told <= row(idx, each, 0.0).p_a_lower - 1e-6
    assert after["looks"].iloc[0][-1].level < before["looks"].iloc[0][-1].level
    assert (after["radius"] <= before["radius"]).all()
    assert after["radius"].iloc[0] < before["radius"].iloc[0]
