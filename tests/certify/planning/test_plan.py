"""What ``certify plan`` foretells: against published means, enumeration, simulation and the procedures themselves."""

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import typer
from places import HELPERS
from scipy import special, stats
from typer.testing import CliRunner

from maxup_smoothing.certify.commands import plan as cli_plan
from maxup_smoothing.certify.engine.scheduler import Certification
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound
from maxup_smoothing.certify.statistics.certificate import Look, limits
from maxup_smoothing.certify.statistics.procedure import Sampling
from maxup_smoothing.certify.statistics.radius import ceiling_radius, two_class_radius
from maxup_smoothing.certify.statistics.sample_size import (
    decided,
    expectation,
    n_for_power,
    regions,
    samples_after_votes,
    unanimous_n,
)

BASE = Sampling(sigma=0.5, n0=100, alpha=0.001, procedure="sequential")

# (radius, p): mean samples of another implementation, 2000 simulated runs each, without the n0 of the selection.
PUBLISHED = {
    (0.25, 0.6): 363, (0.25, 0.8): 452, (0.25, 0.9): 200, (0.25, 0.99): 200,
    (0.5, 0.6): 200, (0.5, 0.8): 932, (0.5, 0.9): 873, (0.5, 0.99): 200,
    (0.75, 0.6): 200, (0.75, 0.8): 201, (0.75, 0.9): 747, (0.75, 0.99): 383, (0.75, 1.0): 200,
    (1.0, 0.6): 200, (1.0, 0.8): 200, (1.0, 0.9): 205, (1.0, 0.99): 3108, (1.0, 0.999): 685, (1.0, 0.9999): 524,
    (1.0, 1.0): 500,
}  # fmt: skip


@pytest.mark.parametrize(("radius", "p"), PUBLISHED)
def test_expected_samples_are_the_published_means_up_to_their_simulation_error(radius: float, p: float) -> None:
    exact = expectation(dataclasses.replace(BASE, radii=(radius,)), p)
    # The published numbers are rounded; of 20 normal means one is off by 4 standard errors with probability 0.0013.
    assert abs(exact.samples - PUBLISHED[radius, p]) <= 0.5 + 4 * exact.deviation / math.sqrt(2000)
    assert 4 * exact.deviation / math.sqrt(2000) < 0.1 * exact.samples  # tight enough to see n0 counted, or not


RULES = {
    "several radii": Sampling(
        sigma=0.5, n0=5, alpha=0.1, n=40, procedure="sequential", looks=(20, 30, 40), radii=(0, 0.25, 0.5)
    ),
    "joint": Sampling(
        sigma=0.5, n0=5, alpha=0.1, n=40, procedure="sequential", looks=(20, 30, 40), radii=(0.1, 0.5), bound="joint"
    ),
    "a whole curve": Sampling(sigma=1, n0=5, alpha=0.2, n=30, procedure="sequential", looks=(10, 20, 30)),
    "anytime": Sampling(sigma=0.5, n0=5, alpha=0.05, n=110, procedure="anytime", radii=(0.1, 0.5)),
    "fixed": Sampling(sigma=0.5, n0=5, alpha=0.05, n=60),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("error", [0.0, 0.03])
def test_expected_samples_are_those_of_all_sequences_of_votes(name: str, error: float) -> None:
    sampling, p = RULES[name], 0.83
    samples, certified = 0.0, np.zeros(len(decided(sampling)))
    starts = [(1.0, list[Look]())]
    for (drawn, _), (n, level) in itertools.pairwise(((0, 0.0), *sampling.schedule)):
        ongoing = []
        for (weight, looks), new in itertools.product(starts, range(n - drawn + 1)):
            k = new + (looks[-1].n_a if looks else 0)
            path = weight * float(stats.binom.pmf(new, n - drawn, p)), [*looks, Look(n, k, n - k, level)]
            if not sampling.enough(path[1], error):
                ongoing.append(path)
                continue
            bounds = limits(path[1], procedure=sampling.procedure, bound=sampling.bound, probability_error=error)
            proved = two_class_radius(*bounds, sampling.sigma)
            samples += path[0] * n
            certified += path[0] * ((proved > 0) & (proved >= np.array(decided(sampling))))
        starts = ongoing
    found = expectation(sampling, p, error)
    assert found.samples == pytest.approx(samples, abs=1e-8)
    assert found.certified == pytest.approx(certified, abs=1e-10)


TRIALS = {
    "one radius": (dataclasses.replace(BASE, n=5000, radii=(0.5,)), 0.86),
    "whole curve": (dataclasses.replace(BASE, n=5000), 0.97),
    "joint": (dataclasses.replace(BASE, n=2000, radii=(0.25, 0.75), bound="joint"), 0.94),
    "anytime": (dataclasses.replace(BASE, procedure="anytime", n=160, radii=(0.25, 0.5)), 0.81),
}


@pytest.mark.parametrize("case", TRIALS)
def test_trials_take_as_many_samples_and_certify_as_often(case: str, seed: int) -> None:
    sampling, p = TRIALS[case]
    rng, runs, radii = np.random.default_rng(seed), 400, decided(sampling)
    taken, certified = [], np.zeros(len(radii), dtype=int)
    for _ in range(runs):
        trial = Certification(sampling, 0.0)
        while not trial.finished:
            votes = [rng.binomial(stop - start, p) for _, start, stop in trial.requests()]
            sizes = [stop - start for _, start, stop in trial.requests()]
            trial.add([np.array([size - k, k, 0]) for size, k in zip(sizes, votes, strict=True)])
        certificate = trial.certificate()
        assert certificate.selected == 1  # fails with probability below 1e-9 for these p and n0 = 100
        taken.append(trial._looks[-1].n)
        certified += (certificate.radius > 0) & (certificate.radius >= np.array(radii))
    found = expectation(sampling, p)
    # Bernstein's inequality for samples in [0, n]: a correct mean fails with probability below 1e-7.
    log, most = math.log(2e7), sampling.most
    room = math.sqrt(2 * found.deviation**2 * log / runs) + 2 * most * log / (3 * runs)
    assert abs(np.mean(taken) - found.samples) <= room
    assert room < 0.5 * found.samples
    for count, probability in zip(certified, found.certified, strict=True):
        assert stats.binomtest(int(count), runs, min(1.0, probability)).pvalue > 1e-8 or probability > 1 - 1e-9


CHECKED = {
    "sequential": dataclasses.replace(BASE, radii=(0, 0.25, 0.5, 1.0, 1.75)),
    "joint": dataclasses.replace(BASE, radii=(0, 0.5, 1.75), bound="joint"),
    "anytime": dataclasses.replace(BASE, procedure="anytime", n=10_000, radii=(0, 1.0)),
    "anytime joint": dataclasses.replace(BASE, procedure="anytime", n=400, radii=(0.5,), bound="joint"),
}


@pytest.mark.parametrize("case", CHECKED)
@pytest.mark.parametrize("error", [0.0, 1e-4])
def test_thresholds_are_the_procedures_own_rule(case: str, error: float) -> None:
    sampling = CHECKED[case]
    schedule, found = sampling.schedule, regions(sampling, error)
    assert [region.n for region in found] == [n for n, _ in schedule]
    for index, radius in enumerate(decided(sampling)):
        single = dataclasses.replace(sampling, radii=(radius,))
        for number, (n, level) in enumerate(schedule[:-1]):
            if number > 10 and number % 10:  # some of the many looks of anytime
                continue
            certify, give_up = int(found[number].certify[index]), int(found[number].give_up[index])
            for k in {max(0, min(n, edge + off)) for edge in (certify, give_up) for off in (-2, -1, 0, 1, 2)}:
                before = [Look(m, 0, m, part) for m, part in schedule[:number]]  # which prove nothing
                enough = single.enough([*before, Look(n, k, n - k, level)], error)
                assert enough == (k >= certify or k <= give_up), (radius, n, k)


def test_the_last_look_certifies_from_the_published_threshold_on() -> None:
    # Smallest k with P(Bin(n_j, p0) >= k) <= alpha_j, by another implementation.
    found = regions(dataclasses.replace(BASE, radii=(0.25, 0.5, 0.75, 1.0)))
    assert found[0].certify.tolist() == [164, 188, 199, 201]
    assert found[-1].certify.tolist() == [69613, 84504, 93571, 97875]


@pytest.mark.parametrize(("radius", "factor"), [(0.25, 1.5), (0.5, 1.25), (0.5, 1.5), (1.0, 1.5)])
def test_n_for_power_is_the_first_of_all_n(radius: float, factor: float) -> None:
    p0, p = float(special.ndtr(2 * radius)), float(special.ndtr(2 * radius * factor))
    n = np.arange(1, 1500)
    k = np.asarray(stats.binom.isf(0.001, n, p0)).astype(int) + 1  # the fewest with P(Bin(n, p0) >= k) <= alpha
    assert np.all(stats.binom.sf(k - 1, n, p0) <= 0.001)
    first = n[np.argmax(np.asarray(stats.binom.sf(k - 1, n, p)) >= 0.99)]
    assert n_for_power(radius, radius * factor, alpha=0.001, sigma=0.5) == first


@pytest.mark.parametrize("radius", [0.05, 1.0, 1.5])
def test_the_power_is_reached_at_large_n_and_missed_with_one_more_vote_needed(radius: float) -> None:
    n = n_for_power(radius, 1.05 * radius, alpha=0.001, sigma=0.5)
    assert n is not None
    p0, p = float(special.ndtr(2 * radius)), float(special.ndtr(2.1 * radius))
    k = int(stats.binom.isf(0.001, n, p0)) + 1
    assert lower_confidence_bound(k, n, 0.001) > p0 > lower_confidence_bound(k - 1, n, 0.001)
    # At 1.5 some hundred votes may be lost; one more of them is worth some 1e-4 of power there.
    assert 0.99 <= stats.binom.sf(k - 1, n, p) < 0.9905
    assert stats.binom.sf(k, n, p) < 0.99


@pytest.mark.parametrize("procedure", ["fixed", "sequential", "anytime"])
@pytest.mark.parametrize("radius", [0.0, 0.5, 1.25])
def test_unanimous_n_is_the_fewest(procedure: str, radius: float) -> None:
    n = unanimous_n(radius, dataclasses.replace(BASE, procedure=procedure))
    assert n is not None
    enough = Sampling(sigma=0.5, n0=1, alpha=0.001, n=n, procedure=procedure)
    assert enough.ceiling >= radius
    if radius > 0:
        assert dataclasses.replace(enough, n=n - 1).ceiling < radius
    if procedure == "fixed":
        assert ceiling_radius(n, 0.001, 0.5) >= radius
        assert n == math.ceil(math.log(0.001) / math.log(special.ndtr(2 * radius)))
    assert unanimous_n(5.0, BASE) is None


def test_known_votes_give_the_mean_over_their_posterior() -> None:
    sampling, k, n = dataclasses.replace(BASE, n=2000, radii=(0.5, 1.0)), np.array([10, 80, 130, 149, 150]), 150
    at = (np.arange(100) + 0.5) / 100
    for votes, found in zip(k, samples_after_votes(sampling, k, n), strict=True):
        p = special.betaincinv(votes + 0.5, n - votes + 0.5, at)
        assert found == pytest.approx(np.mean([expectation(sampling, float(each)).samples for each in p]), rel=0.1)
    fixed = Sampling(sigma=0.5, n0=1, alpha=0.001, n=2000)
    assert samples_after_votes(fixed, k, n).tolist() == [2000] * 5


def test_what_cannot_be_planned_is_refused() -> None:
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got 1.5"):
        expectation(BASE, 1.5)
    with pytest.raises(ValueError, match="leave the tolerance out"):
        regions(dataclasses.replace(BASE, tolerance=0.1))
    with pytest.raises(ValueError, match=r"true_radius must be more than radius = 0.5, got 0.5"):
        n_for_power(0.5, 0.5, alpha=0.001, sigma=0.5)


def plan(*arguments: str) -> list[str]:
    app = typer.Typer()
    app.command()(cli_plan.plan)
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    return lines


def test_without_a_model_the_reach_is_printed() -> None:
    lines = plan("--sigma", "0.5", "--radii", "1,0.5")
    assert "largest radius, all votes for one class: fixed 1.9057, sequential 1.8994, anytime 1.8863" in lines
    assert "     0.5   0.84134            40         27331          6983          1202           343" in lines
    assert "    0.99   1.1632         200       3,169         3,169" in lines
    assert plan("--sigma", "0.5", "--n", "1000", "--procedure", "fixed", "--radii", "0")[-1].startswith(
        "fixed draws n0 + n = 1100"
    )
    assert any(
        "one runner-up" in line for line in plan("--sigma", "0.5", "--bound", "joint", "--n", "500", "--radii", "0")
    )


def test_with_a_model_time_and_cost_are_estimated_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("planned.py").write_text((HELPERS / "oracles.py").read_text())
    before = set(Path().iterdir())
    lines = plan(
        "planned:factory", "--data", "fashion-sample", "--protocol", "skip50", "--sigma", "0.5", "--n", "2000",
        "--radii", "0.25,1", "--pilot-seconds", "0.1", "--price-per-hour", "3.6", "--batch-size", "64",
        "--compile", "off",
    )  # fmt: skip
    assert {path for path in Path().iterdir() if path.name != "__pycache__"} == before
    pilot = next(line for line in lines if line.startswith("pilot: "))
    assert "of 40 images" in pilot
    rows = {line[:23].strip(): line[23:].split() for line in lines[-4:]}
    assert list(rows) == ["fixed", "sequential, whole curve", "sequential, these radii", "anytime, these radii"]
    assert rows["fixed"][0] == "2,100"
    rate = float(pilot.split(": ")[-1].split()[0].replace(",", ""))
    scale = {"s": 1, "min": 60}[rows["fixed"][3]]
    assert float(rows["fixed"][2]) * scale == pytest.approx(40 * 2100 / rate, rel=0.01)
    assert float(rows["fixed"][1]) * 3600 == pytest.approx(40 * 2100 / rate, rel=0.01)
    assert float(rows["fixed"][4]) == pytest.approx(40 * 2100 / rate / 1000, abs=0.006)
    # Every image has p = 0.8413 or, where its corner is not black, less: decided between 0.25 and 1 at once.
    assert 300 <= float(rows["sequential, these radii"][0].replace(",", "")) < 500


MISTAKES = {
    "no sigma": ([], "pass --sigma"),
    "n too small": (["--sigma", "0.5", "--n", "5"], "at least 10 are needed"),
    "out of reach": (["--sigma", "0.5", "--radii", "0.5,2"], r"radius 2 is above 1\.8994.*pass --n 229367 or more"),
    "beyond any n": (["--sigma", "0.5", "--radii", "6"], "no n up to 1e9 reaches it"),
    "radii": (["--sigma", "0.5", "--radii", "a"], "--radii must be numbers separated by commas"),
    "negative": (["--sigma", "0.5", "--radii=-1"], "--radii must be at least 0"),
    "procedure": (["--sigma", "0.5", "--procedure", "quick"], "procedure must be one of|quick"),
    "pilot": (["--sigma", "0.5", "--pilot-seconds", "0"], "--pilot-seconds must be a positive number"),
    "price": (["--sigma", "0.5", "--price-per-hour=-1"], "--price-per-hour must not be negative"),
    "batch size": (["planned:factory", "--batch-size", "x"], "--batch-size must be auto or a positive integer"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused_in_one_line(mistake: str) -> None:
    arguments, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message) as refused:
        plan(*arguments)
    assert "\n" not in str(refused.value)
