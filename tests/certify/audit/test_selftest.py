"""The selftest: its truth, its power, and that each kind of broken build fails it."""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import typer
from numpy.typing import NDArray
from scipy import stats
from typer.testing import CliRunner

from maxup_smoothing.certify.audit import selftest
from maxup_smoothing.certify.audit.selftest import (
    ALPHA,
    EQUALS,
    RIVALS,
    SIGMA,
    THRESHOLD,
    TIE,
    Intervals,
    Outcome,
    Plan,
)
from maxup_smoothing.certify.commands import verify
from maxup_smoothing.certify.engine import scheduler, votes
from maxup_smoothing.certify.noise import ESTIMATION, SELECTION, philox
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.noise.grid import BITS, noise_table
from maxup_smoothing.certify.statistics import certificate as certificates
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound, upper_confidence_bound
from maxup_smoothing.certify.statistics.procedure import Sampling

TRUTHS = (THRESHOLD, RIVALS, TIE, EQUALS)
PLANS = {(plan.name, plan.bound, plan.truth.name): plan for plan in selftest.plans(quick=False)}

app = typer.Typer()
app.command()(verify.selftest)
app.command("other")(verify.verify)


def outcome(name: str, bound: str, truth: Intervals, noise: Any = None, seed: int = 0) -> Outcome:
    [found] = selftest.try_out([PLANS[name, bound, truth.name]], noise or ExactNoise(SIGMA, seed))
    return found


def false_rate(samples: Sequence[int], levels: Sequence[float], p: Fraction) -> float:
    """P(any Clopper-Pearson bound exceeds p), by a recursion over the votes: none of the code under test."""
    alive, before, total = np.ones(1), 0, 0.0
    for n, level in zip(samples, levels, strict=True):
        alive = np.convolve(alive, stats.binom.pmf(np.arange(n - before + 1), n - before, float(p)))
        k = np.arange(1, n + 1)
        wrong = np.concatenate([[False], stats.beta.ppf(level, k, n - k + 1) > float(p)])
        total += alive[wrong].sum()
        alive[wrong], before = 0, n
    return float(total)


@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.name)
def test_the_probabilities_are_those_of_all_noise_values_through_the_network(truth: Intervals) -> None:
    table = noise_table(SIGMA)
    masses = np.diff(np.array([0, *map(int, table.thresholds), 2**BITS], dtype=object))
    inputs = torch.zeros(len(masses), 1, 2, 2)
    inputs[:, 0, 1, 0] = torch.from_numpy(table.values[100 : 100 + len(masses)].copy())
    labels = truth.network()(inputs).argmax(dim=1).numpy()
    for number, probability in enumerate(truth.probabilities):
        assert probability == Fraction(int(sum(masses[labels == number])), 2**BITS)
    assert sum(truth.probabilities) == 1


def test_the_rivals_of_the_tie_are_exactly_tied() -> None:
    assert TIE.probabilities[0] == TIE.probabilities[2] == TIE.runner_up(1) < TIE.probabilities[1]


def test_the_exact_error_rates_leave_room_on_neither_side() -> None:
    p = THRESHOLD.probabilities[1]
    assert 0.0497 < false_rate([100], [ALPHA], p) <= ALPHA
    for plan in selftest.plans(quick=True) + selftest.plans(quick=False):
        if plan.truth is THRESHOLD and plan.name in ("sequential", "peeking"):
            schedule = plan.sampling.schedule
            rate = false_rate([n for n, _ in schedule], [level for _, level in schedule], p)
            limit = next(
                k for k in range(plan.trials)
                if stats.binom.sf(k - 1, plan.trials, ALPHA) < selftest.RATE_ALARM / 9
            )  # fmt: skip
            if plan.name == "sequential":
                assert rate <= ALPHA
            else:  # giving up early takes the error of the later looks away with probability 0.05 at most
                assert stats.binom.cdf(limit - 1, plan.trials, rate - 0.05 * 0.05) < 1e-6


def test_a_correct_build_passes_whatever_the_seed(seed: int) -> None:
    result = CliRunner().invoke(app, ["selftest", "--quick", "--seed", str(seed)], catch_exceptions=False)
    assert result.exit_code == 0, result.stdout
    assert f"seed {seed}" in result.stdout
    assert "PASS: " in result.stdout
    assert "caught" in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_uncorrected_levels_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of alpha at each look errs with probability 0.149; at alpha, 73 of 800 are reached in 1 of a million runs."""
    samples = (10, 15, 22, 33, 50, 75, 110, 160, 240)
    monkeypatch.setattr(Sampling, "schedule", property(lambda self: tuple((n, self.alpha) for n in samples)))
    assert outcome("sequential", "clopper-pearson", THRESHOLD).verdict == "TOO MANY"


@pytest.mark.parametrize("bound", ["clopper-pearson", "joint"])
def test_a_bound_at_another_level_is_found(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    factor = 3 if bound == "clopper-pearson" else 12
    monkeypatch.setattr(certificates, "_FIXED", (
        lambda k, n, level: float(lower_confidence_bound(k, n, factor * level)),
        lambda k, n, level: float(upper_confidence_bound(k, n, factor * level)),
    ))  # fmt: skip
    truth = THRESHOLD if bound == "clopper-pearson" else RIVALS
    assert outcome("fixed", bound, truth).verdict == "TOO MANY"


def test_an_anytime_bound_that_does_not_hold_at_any_time_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "_ANYTIME", (
        lambda k, n, level: float(lower_confidence_bound(k, n, 3 * level)),
        lambda k, n, level: float(upper_confidence_bound(k, n, 3 * level)),
    ))  # fmt: skip
    assert outcome("anytime", "clopper-pearson", THRESHOLD).verdict == "TOO MANY"


def test_a_class_selected_by_the_samples_that_estimate_it_is_found() -> None:
    class OneStream(ExactNoise):
        def fill(self, *arguments: Any, **of_sample: Any) -> None:
            of_sample["stage"] = ESTIMATION if of_sample["stage"] == SELECTION else of_sample["stage"]
            super().fill(*arguments, **of_sample)

    assert outcome("fixed", "clopper-pearson", EQUALS, OneStream(SIGMA, 0)).verdict == "TOO MANY"


def test_noise_of_a_smaller_sigma_is_found() -> None:
    for truth in (THRESHOLD, EQUALS):
        assert outcome("fixed", "clopper-pearson", truth, ExactNoise(0.9 * SIGMA, 0)).verdict == "WRONG VOTES"


@pytest.mark.parametrize("truth", [THRESHOLD, RIVALS], ids=lambda truth: truth.name)
def test_an_engine_that_drops_votes_is_found(monkeypatch: pytest.MonkeyPatch, truth: Intervals) -> None:
    whole = votes.count_votes

    def without_some(*arguments: Any) -> NDArray[np.int64]:
        votes_SV = whole(*arguments)
        votes_SV[:, 0] -= votes_SV[:, 0] > 0
        return votes_SV

    monkeypatch.setattr(scheduler, "count_votes", without_some)
    bound = "clopper-pearson" if truth is THRESHOLD else "joint"
    for name in ("fixed", "sequential", "anytime"):
        plan = dataclasses.replace(PLANS[name, bound, truth.name], trials=40)
        [found] = selftest.try_out([plan], ExactNoise(SIGMA, 0))
        assert found.verdict == "SAMPLES LOST"


def test_an_error_on_purpose_that_is_not_found_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selftest, "Peeking", Sampling)
    plan = dataclasses.replace(PLANS["peeking", "clopper-pearson", "threshold"], trials=400)
    [found] = selftest.try_out([plan], ExactNoise(SIGMA, 0))
    assert found.verdict == "NOT CAUGHT"
    monkeypatch.setattr(selftest, "plans", lambda quick: [dataclasses.replace(plan, trials=40)])
    result = CliRunner().invoke(app, ["selftest", "--seed", "0"], catch_exceptions=False)
    assert result.exit_code == 1
    assert "FAIL: " in result.stdout


def test_another_philox_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert philox.known_answers() == 3
    monkeypatch.setattr("maxup_smoothing.certify.noise.philox.ROUNDS", 9)
    assert philox.known_answers() == 0


def test_a_version_of_the_noise_that_is_not_the_definition_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert selftest.equal_versions()["cpu"]
    whole = ExactNoise.fill

    def off(self: ExactNoise, out_BCHW: torch.Tensor, *rest: Any, **of_sample: Any) -> None:
        whole(self, out_BCHW, *rest, **of_sample)
        out_BCHW[-1, 0, 0, 0] += 1 / 255

    monkeypatch.setattr(ExactNoise, "fill", off)
    assert not selftest.equal_versions()["cpu"]


def test_every_procedure_and_bound_is_tried() -> None:
    tried = {(plan.name, plan.bound) for plan in selftest.plans(quick=True)}
    assert tried >= {(name, bound) for name in certificates.PROCEDURES for bound in certificates.BOUNDS}


def test_radii_above_the_true_one_count_as_false(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "maxup_smoothing.certify.statistics.certificate.two_class_radius", lambda a, b, sigma: max(0.0, a - b) + 1.0
    )
    plan = Plan(truth=THRESHOLD, name="fixed", trials=50)
    [found] = selftest.try_out([plan], ExactNoise(SIGMA, 0))
    assert found.false == 50
