"""Procedures that stop early: when they stop, that stopping changes no vote, and what the command makes of them."""

# Shapes: N inputs; V kinds of vote.

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracles import Pixel
from places import HELPERS
from torch import Tensor
from typer.testing import CliRunner

from maxup_smoothing.certify.commands.app import app
from maxup_smoothing.certify.engine.scheduler import certify_inputs
from maxup_smoothing.certify.engine.votes import Item, count_votes
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise import ESTIMATION
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.noise.floating import FloatNoise
from maxup_smoothing.certify.smoothing import SmoothedClassifier
from maxup_smoothing.certify.statistics.certificate import Certificate, Look
from maxup_smoothing.certify.statistics.procedure import Sampling
from maxup_smoothing.certify.statistics.radius import ABSTAIN, certified_radius
from maxup_smoothing.certify.tables.radius_table import read, row_of
from maxup_smoothing.certify.tables.row import COLUMNS, format_row, parse_row
from maxup_smoothing.data import registry

SIGMA, ALPHA = 0.5, 0.001
#: Grey levels whose pixel is above 1/2 with probabilities from 0.16 to 0.84, one of them 0.501.
LEVELS = [0, 60, 100, 128, 150, 200, 240, 255]
IMAGES = torch.tensor(LEVELS, dtype=torch.uint8)[:, None, None, None].expand(len(LEVELS), 1, 2, 2)
EARLY = ["sequential", "anytime"]


def sampling(procedure: str = "sequential", **settings: Any) -> Sampling:
    given = {"sigma": SIGMA, "n0": 100, "alpha": ALPHA, "n": 5000, **settings}
    return Sampling(procedure=procedure, **given)


def certify(
    chosen: Sampling, batch_size: int = 64, images: list[tuple[int, Tensor]] | None = None, noise: Any = ExactNoise
) -> dict[int, Certificate]:
    classifier = BaseClassifier(Pixel().eval(), 2, batch_size=batch_size)
    inputs = list(enumerate(IMAGES)) if images is None else images
    return {idx: proved for idx, proved, _ in certify_inputs(classifier, noise(SIGMA, 0), inputs, chosen)}


def fields(proved: dict[int, Certificate]) -> dict[int, Any]:
    return {idx: (one.predict, one.radius, one.counts.tolist(), one.looks) for idx, one in proved.items()}


@pytest.mark.parametrize("procedure", EARLY)
def test_each_look_sees_the_first_samples_of_the_same_stream(procedure: str) -> None:
    classifier = BaseClassifier(Pixel().eval(), 2, batch_size=100)
    for idx, proved in certify(sampling(procedure)).items():
        for look in proved.looks:
            [votes_V] = count_votes(classifier, ExactNoise(SIGMA, 0), [Item(IMAGES[idx], idx, ESTIMATION, 0, look.n)])
            assert (look.n_a, look.n_b) == (votes_V[proved.selected], votes_V[1 - proved.selected])
        assert proved.counts.tolist() == votes_V.tolist()


@pytest.mark.parametrize("noise", [ExactNoise, FloatNoise])
@pytest.mark.parametrize("procedure", ["fixed", *EARLY])
def test_the_result_depends_neither_on_batch_size_nor_on_order_nor_on_company(procedure: str, noise: Any) -> None:
    chosen = sampling(procedure)
    expected = fields(certify(chosen, noise=noise))
    assert fields(certify(chosen, batch_size=7, noise=noise)) == expected
    assert fields(certify(chosen, images=list(enumerate(IMAGES))[::-1], noise=noise)) == expected
    assert fields(certify(chosen, images=[(3, IMAGES[3])], noise=noise)) == {3: expected[3]}


@pytest.mark.parametrize("bound", ["clopper-pearson", "joint"])
@pytest.mark.parametrize("procedure", ["fixed", *EARLY])
def test_what_is_proved_is_what_its_row_allows(procedure: str, bound: str) -> None:
    proved = certify(sampling(procedure, bound=bound))
    assert {one.predict for one in proved.values()} == {ABSTAIN, 0, 1}
    for idx, one in proved.items():
        row = row_of(one, idx, 1, n0=100, sigma=SIGMA, alpha=ALPHA, seconds=0.0)
        assert parse_row(format_row(row)) == row
        # Two classes: true radius sigma |Phi^-1(p)| is the distance of the grey level to 1/2, up to half a grid step.
        assert one.radius <= abs(LEVELS[idx] / 255 - 0.5) + 0.5 / 255 + 1e-9


TAMPERED: dict[str, tuple[str, Callable[[str], str], str]] = {
    "a level that alpha does not cover": ("looks", lambda text: re.sub(r":[^:]*$", ":0.01", text), "spend"),
    "a look forgotten, whose votes were better": ("looks", lambda text: text.split(",")[0], "does not agree"),
    "looks out of order": ("looks", lambda text: ",".join(text.split(",")[::-1]), "looks must grow"),
    "a look that is none": ("looks", lambda text: text + ":1", "n:n_a:n_b:level of each look"),
    "a rival forgotten": ("looks", lambda text: re.sub(r"^(\d+:\d+):\d+", r"\1:0", text), "looks must|cannot have"),
    "a rival with too many": (
        "looks",
        lambda text: re.sub(r"^(\d+:\d+):\d+", r"\1:9999", text),
        "looks must|n:n_a",
    ),
    "another procedure": ("procedure", lambda text: "fixed", "procedure fixed allows one look"),
    "an unknown procedure": ("procedure", lambda text: "lucky", "procedure must be one of fixed"),
    "a better bound": ("p_a_lower", lambda text: repr(float(text) + 1e-6), "claim more than the looks prove"),
    "a better runner-up": ("p_b_upper", lambda text: repr(float(text) - 1e-6), "claim more than the looks prove"),
    "a larger radius": ("radius", lambda text: repr(float(text) + 1e-6), "but the bounds give"),
    "another class": ("selected", lambda text: "0", "does not agree with n and counts"),
}


@pytest.mark.parametrize("bound", ["clopper-pearson", "joint"])
@pytest.mark.parametrize("case", TAMPERED)
def test_a_row_that_claims_more_than_its_looks_is_refused(case: str, bound: str) -> None:
    column, change, message = TAMPERED[case]
    one = certify(sampling(bound=bound))[6]
    assert len(one.looks) > 2
    texts = format_row(row_of(one, 6, 1, n0=100, sigma=SIGMA, alpha=ALPHA, seconds=0.0)).split("\t")
    texts[COLUMNS.index(column)] = change(texts[COLUMNS.index(column)])
    with pytest.raises(ValueError, match=message):
        parse_row("\t".join(texts))


@pytest.mark.parametrize("procedure", EARLY)
def test_easy_inputs_stop_at_once_and_hard_ones_are_given_all(procedure: str) -> None:
    first = sampling(procedure).schedule[0][0]
    proved = certify(sampling(procedure, radii=(0.1,)))
    assert proved[7].n <= 2 * first
    assert proved[7].radius >= 0.1
    assert proved[3].n < 5000  # p = 0.501: not certified at 0.1, and that is soon plain
    assert proved[3].radius < 0.1
    near = sampling(procedure, radii=(float(abs(200 / 255 - 0.5)),))  # the true radius itself: undecidable
    assert certify(near)[5].n == 5000


@pytest.mark.parametrize("procedure", EARLY)
def test_results_come_in_the_order_of_the_inputs_however_long_each_takes(procedure: str) -> None:
    hardest_first = [(idx, IMAGES[idx]) for idx in (5, 0, 7, 3, 6, 1)]
    proved = certify(sampling(procedure, radii=(float(abs(200 / 255 - 0.5)),)), images=hardest_first)
    assert list(proved) == [idx for idx, _ in hardest_first]
    assert proved[5].n > 5 * proved[0].n


def test_the_stopping_rule_in_numbers() -> None:
    chosen = sampling(n=100_000, radii=(0.25, 0.5))
    first, last = chosen.schedule[0], chosen.schedule[-1]
    assert (first[0], last[0], len(chosen.schedule)) == (200, 100_000, 9)
    assert chosen.enough([Look(200, 200, 0, first[1])], 0.0)  # proves .818
    assert not chosen.enough([Look(200, 180, 20, first[1])], 0.0)  # proves .40: .25 yes, .5 open
    assert chosen.enough([Look(200, 100, 100, first[1])], 0.0)  # p <= .62, radius <= .16: neither
    assert sampling(n=100_000, radii=(0.25,)).enough([Look(200, 180, 20, first[1])], 0.0)
    assert chosen.enough([Look(n, n * 19 // 20, n // 20, level) for n, level in chosen.schedule], 0.0)


def test_a_tolerance_stops_when_the_radius_is_known_to_it() -> None:
    loose, tight = (certify(sampling(tolerance=tolerance, n=100_000))[7] for tolerance in (0.5, 0.1))
    assert loose.n < tight.n < 100_000
    assert tight.radius >= 0.9 * (0.5 - 0.5 / 255) * 0.97


def test_more_than_the_last_look_is_never_drawn_and_the_default_decides_the_whole_curve() -> None:
    chosen = sampling()
    assert chosen.to_decide == (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
    assert 1.25 < chosen.ceiling < 1.5
    assert chosen.ceiling == pytest.approx(float(certified_radius((0.7 * ALPHA) ** (1 / 5000), SIGMA)), rel=1e-6)
    assert max(one.n for one in certify(chosen).values()) <= 5000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"procedure": "fixed", "radii": (0.5,)}, "are for the procedures sequential and anytime"),
        ({"procedure": "adaptive"}, "procedure must be one of fixed, sequential, anytime"),
        ({"bound": "goodman"}, "bound must be one of clopper-pearson, joint"),
        ({"procedure": "anytime", "looks": (100, 5000)}, "looks are for the procedure sequential"),
        ({"looks": (100, 200)}, "the last look must be at n = 5000"),
        ({"radii": (0.5,), "tolerance": 0.1}, "not both"),
        ({"tolerance": 1.5}, "tolerance must lie between 0 and 1"),
        ({"radii": (0.5, 3.0)}, "radii must lie between 0 and 1.4889"),
        ({"radii": (-0.5,)}, "radii must lie between 0 and 1.4889"),
        ({"n": 8}, "n = 8 samples cannot certify anything at alpha = 0.001; at least 10 are needed"),
        ({"n": 0}, "n must be at least 1"),
        ({"n0": 0}, "n0, the selection samples, must be at least 1"),
        ({"alpha": 0.0}, "alpha must be in (0, 1)"),
        ({"sigma": -1.0}, "sigma must be positive and finite"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        sampling(**{"procedure": "sequential", **settings})


def test_library_users_stop_early_too() -> None:
    smoothed = SmoothedClassifier(Pixel().eval(), 2, SIGMA, seed=0)
    fixed = smoothed.certify(IMAGES, n=5000)
    early = smoothed.certify(IMAGES, n=5000, procedure="sequential", radii=[0.1], bound="joint")
    assert sum(one.n for one in early) < sum(one.n for one in fixed) / 2
    assert [one.selected for one in early] == [one.selected for one in fixed]
    assert [one.radius >= 0.1 for one in early] == [one.radius >= 0.1 for one in fixed]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    (tmp_path / "mymodel.py").write_text((HELPERS / "oracles.py").read_text())
    sample = registry.load("fashion-sample", "test")
    np.savez("images.npz", images=sample.images[:40, 0], labels=sample.labels[:40], classes=np.array(sample.classes))
    given = ["run", "mymodel:factory", "--data", "images.npz", "--sigma", "0.5", "--seed", "1", "--out", "radii.tsv"]
    return [*given, "--batch-size", "64", "--procedure", "sequential"]


def lines(path: str) -> list[list[str]]:
    """The rows without their times, in the order of the images."""
    rows = [line.split("\t") for line in Path(path).read_text().splitlines()[1:]]
    return sorted([row[:5] + row[6:] for row in rows], key=lambda row: int(row[0]))


def test_the_command_says_what_it_saved_and_goes_on_where_it_stopped(command: list[str]) -> None:
    whole = CliRunner().invoke(app, [*command, "--radii", "0.45", "--n", "20000"], catch_exceptions=False)
    assert re.search(r"samples +[\d,]+ an image .* fixed n=20,000 takes \d+\.\d times as many", whole.stdout)
    expected = lines("radii.tsv")
    assert {row[15] for row in expected} == {"sequential"}
    assert len({row[6] for row in expected}) > 1  # images took different numbers of samples
    kept = Path("radii.tsv").read_text().splitlines(keepends=True)
    Path("radii.tsv").write_text("".join(kept[:20]) + kept[20][:10])
    again = CliRunner().invoke(app, [*command, "--radii", "0.45", "--n", "20000"], catch_exceptions=False)
    assert again.exit_code == 0
    assert lines("radii.tsv") == expected
    damaged = Path("radii.tsv").read_text().replace("sequential", "anytime", 1)
    Path("radii.tsv").write_text(damaged)
    refused = CliRunner().invoke(app, [*command, "--radii", "0.45", "--n", "20000"])
    assert "claim more than the looks prove" in str(refused.exception)
    Path("radii.tsv").write_text(damaged.replace("anytime", "sequential"))
    other = CliRunner().invoke(app, [*command, "--radii", "0.2", "--n", "20000"])
    assert "sampling.radii" in str(other.exception)


def test_looks_and_a_tolerance_reach_the_procedure(command: list[str]) -> None:
    more = ["--looks", "100,400,3000", "--n", "3000", "--tolerance", "0.2", "--bound", "joint", "--radii", "0,0.1"]
    result = CliRunner().invoke(app, [*command, *more], catch_exceptions=False)
    assert "0.10" in result.stdout
    looked = [[look.n for look in looks] for looks in read("radii.tsv")["looks"]]
    assert {tuple(one) for one in looked} <= {(100,), (100, 400), (100, 400, 3000)}
    assert set(read("radii.tsv")["bound"]) == {"joint"}
    wrong = CliRunner().invoke(app, [*command, "--looks", "100,a"])
    assert "--looks must be positive integers" in str(wrong.exception)
