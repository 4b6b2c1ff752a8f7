"""What ``certify plan`` says of jobs elsewhere: by a speed that is given, and the votes of a table."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from one_look import certificate
from places import HELPERS
from scipy import special
from typer.testing import CliRunner

from maxup_smoothing.certify.commands import plan as cli_plan
from maxup_smoothing.certify.planning import cost
from maxup_smoothing.certify.planning.cost import Pilot, Votes, costs, read_finished
from maxup_smoothing.certify.statistics.certificate import Look, certificate_of
from maxup_smoothing.certify.statistics.procedure import Sampling
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.statistics.sample_size import expectation, samples_after_votes
from maxup_smoothing.certify.tables.radius_table import RadiusTable, row_of
from maxup_smoothing.certify.tables.row import Row

SEQUENTIAL = Sampling(sigma=0.5, n0=100, alpha=0.001, n=2000, procedure="sequential", radii=(0.5,))
HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime"


def plan(*arguments: str) -> list[str]:
    app = typer.Typer()
    app.command()(cli_plan.plan)
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    return lines


def cells(lines: list[str]) -> dict[str, list[str]]:
    """The table's cells by row, intervals left out: samples, device hours, time with its unit, cost."""
    start = next(number for number, line in enumerate(lines) if "samples an image" in line) + 1
    return {
        line[:23].strip(): [line[23:60].split("[")[0].strip(), *line[60:].replace(",", "").split()]
        for line in lines[start:]
    }


def table(path: Path, probabilities: list[float], manifest: dict[str, Any] | None = None, n: int = 100_000) -> Path:
    """A table of Cohen's procedure of images with these probabilities of the class that was selected."""
    rows = []
    for idx, p in enumerate(probabilities):
        n_a = round(n * p)
        selection, estimation = np.array([20, 0, 0, 0]), np.array([n_a, (n - n_a) // 2, n - n_a - (n - n_a) // 2, 0])
        proved = certificate(selection, estimation, 0.01, 0.5)
        rows.append(row_of(proved, idx, 0, n0=20, sigma=0.5, alpha=0.01, seconds=1.0))
    RadiusTable.write(path, manifest or {"notes": {}}, rows)
    return path


def test_fixed_is_exact_arithmetic() -> None:
    lines = plan("--rate", "1000", "--images", "10", "--n", "9900", "--devices", "4", "--price-per-hour", "36")
    # 10 s an image: 100 s in all, and 3 of 10 images for the device of four that gets most.
    assert cells(lines) == {"fixed": ["10,000", "0.0278", "30", "s", "1.00"]}
    assert any("4 devices" in line for line in lines)
    assert "pass --votes-from TABLE, a radius table of images like those" in lines
    alone = cells(plan("--rate", "1000", "--images", "1000000", "--n", "9900"))
    assert alone == {"fixed": ["10,000", "2778", "116", "d"]}
    assert cells(plan("--rate", "1000", "--images", "2", "--n", "9900", "--devices", "9"))["fixed"][2:] == ["10", "s"]


def test_the_votes_of_a_table_stand_for_those_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    probabilities = [0.3, 0.45, 0.7, 0.95, 0.999]
    path = table(Path("radii.tsv"), probabilities)
    lines = plan("--rate", "500", "--votes-from", str(path), "--n", "10000", "--radii", "0.25", "--images", "4000")
    assert lines[0] == "sigma 0.5, alpha 0.01, n 10000, bound clopper-pearson"  # the table's
    found = cells(lines)
    assert list(found) == ["fixed", "sequential, whole curve", "sequential, these radii", "anytime, these radii"]
    assert found["fixed"][:2] == ["10,020", f"{4000 * 10020 / 500 / 3600:.3g}"]
    for name in ("sequential", "anytime"):
        sampling = Sampling(sigma=0.5, n0=20, alpha=0.01, n=10_000, procedure=name, radii=(0.25,))
        # Votes of 100,000 samples tell p nearly exactly. Without the two that abstained the mean would be another.
        exact = [expectation(sampling, p).samples for p in probabilities]
        samples = float(found[f"{name}, these radii"][0].replace(",", ""))
        assert samples == pytest.approx(20 + np.mean(exact), rel=0.03)
        assert samples != pytest.approx(20 + np.mean(exact[2:]), rel=0.06)
        assert float(found[f"{name}, these radii"][1]) == pytest.approx(4000 * samples / 500 / 3600, rel=0.006)
    other = plan("--rate", "500", "--votes-from", str(path), "--n0", "50", "--alpha", "0.001", "--n", "10000")
    assert other[0].startswith("sigma 0.5, alpha 0.001,")
    assert cells(other)["fixed"] == ["10,050", f"{5 * 10050 / 500 / 3600:.3g}", "100", "s"]  # its five images


def test_rows_of_a_table_count_with_the_votes_they_have(tmp_path: Path) -> None:
    rows = list[Row]()
    for idx, (looks, selected) in enumerate((([(200, 199)], 1), ([(200, 150), (500, 390)], 1), ([(200, 70)], 1))):
        seen = [Look(n, k, n - k, 1e-4) for n, k in looks]
        counts = np.array([looks[-1][0] - looks[-1][1], looks[-1][1], 0])
        proved = certificate_of(
            seen, selected, counts, sigma=0.5, procedure="sequential", bound="clopper-pearson", probability_error=0.0
        )
        rows.append(row_of(proved, idx, 1, n0=100, sigma=0.5, alpha=0.001, seconds=1.0))
    assert [row.predict for row in rows] == [1, 1, ABSTAIN]
    manifest = {"noise": {"probability_error": 1e-13}, "notes": {"images": 7}}
    RadiusTable.write(tmp_path / "early.tsv", manifest, rows)
    found = read_finished(tmp_path / "early.tsv")
    assert (found.sigma, found.alpha, found.n0, found.votes.error) == (0.5, 0.001, 100, 1e-13)
    assert found.votes.n.tolist() == [200, 500, 200]
    assert found.votes.n_a.tolist() == [199, 390, 70]
    assert found.text.startswith("3 images (7 were asked for) of ")
    assert found.text.endswith(", 200 to 500 votes each")


def test_each_input_is_judged_by_its_own_number_of_votes() -> None:
    k, n = np.array([150, 1999, 150, 80, 1999]), np.array([200, 2000, 200, 100, 2000])
    together = samples_after_votes(SEQUENTIAL, k, n)
    apart = [float(samples_after_votes(SEQUENTIAL, [one], int(of))[0]) for one, of in zip(k, n, strict=True)]
    assert together == pytest.approx(apart, rel=1e-3)
    assert together[0] != pytest.approx(together[3], rel=0.01)  # three quarters of 200 are more than four fifths of 100


def test_votes_that_were_stopped_by_themselves_foretell_without_bias(seed: int) -> None:
    # Where p is drawn from the prior, posterior means average to the prior's: E[E[samples | votes]] = E[samples],
    # whatever rule stopped the votes.
    rng, inputs = np.random.default_rng(seed), 600
    p = rng.beta(0.5, 0.5, inputs)
    n_a, n = np.zeros(inputs, dtype=np.int64), np.zeros(inputs, dtype=np.int64)
    for index in range(inputs):
        looks = list[Look]()
        for size, level in SEQUENTIAL.schedule:
            n_a[index] += rng.binomial(size - n[index], p[index])
            n[index] = size
            looks.append(Look(size, int(n_a[index]), size - int(n_a[index]), level))
            if SEQUENTIAL.enough(looks, 0.0):
                break
    truth = np.array([expectation(SEQUENTIAL, float(each)).samples for each in p])
    difference = samples_after_votes(SEQUENTIAL, n_a, n) - truth
    # Five standard errors, and 2 % for the nodes of the integral.
    room = 5 * difference.std() / np.sqrt(inputs) + 0.02 * truth.mean()
    assert abs(difference.mean()) <= room
    # As if all had stopped at the first look they would foretell a third less.
    wrong = samples_after_votes(SEQUENTIAL, np.minimum(n_a, 200), 200) - truth
    assert wrong.mean() < -2 * room


def test_the_interval_of_many_images_is_that_of_resampling_them() -> None:
    k = special.ndtr(np.linspace(-0.5, 2, 20)) * 1000

    def width(times: int) -> float:
        n_a = np.tile(k.astype(np.int64), times)
        text = costs(Pilot(Votes(n_a, np.full(len(n_a), 1000), 0.0), 1.0, ""), [("", SEQUENTIAL)], images=1)
        low, high = text.splitlines()[-1].split("[")[1].split("]")[0].split(", ")
        return float(high.replace(",", "")) - float(low.replace(",", ""))

    assert width(51) == pytest.approx(width(50), rel=0.1)  # 1,020 and 1,000 images
    assert width(5) == pytest.approx(np.sqrt(10) * width(50), rel=0.1)


@pytest.mark.parametrize("rate", ["0.001", "1e9"])
def test_the_largest_jobs_fit_the_page(rate: str, tmp_path: Path) -> None:
    path = table(tmp_path / "a.tsv", [0.9, 0.99])
    size = ("--images", "1000000000", "--devices", "1000000", "--price-per-hour", "1000", "--n", "1000000")
    lines = plan("--rate", rate, "--sigma", "0.5", *size)
    assert cells(lines)["fixed"][0] == "1,000,100"
    text = costs(
        cost.given(float(rate), read_finished(path)), [("sequential, these radii", SEQUENTIAL)], 10**9, 10**6, 1000
    )
    assert max(len(line) for line in text.splitlines()[1:]) <= 100  # the first names the file


def test_the_speed_is_measured_with_a_model_and_the_votes_are_the_tables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("planned.py").write_text((HELPERS / "oracles.py").read_text())
    path = table(Path("radii.tsv"), [0.7, 0.99])
    arguments = (
        "planned:factory", "--data", "fashion-sample", "--protocol", "skip50", "--n", "2000", "--pilot-seconds", "0.1",
        "--batch-size", "64", "--compile", "off", "--votes-from", str(path), "--images", "1000000", "--devices", "7",
    )  # fmt: skip
    lines = plan(*arguments, "--sigma", "0.5", "--radii", "0.25")
    rate = float(next(line for line in lines if line.startswith("pilot: ")).split(": ")[-1].split()[0].replace(",", ""))
    found = cells(lines)
    assert float(found["fixed"][1]) == pytest.approx(1e6 * 2020 / rate / 3600, rel=0.02)
    assert "votes: 2 images of radii.tsv, 100,000 votes each; the pilot measured only the speed" in lines
    early = Sampling(sigma=0.5, n0=20, alpha=0.01, n=2000, procedure="sequential", radii=(0.25,))
    exact = 20 + np.mean([expectation(early, p).samples for p in (0.7, 0.99)])
    assert float(found["sequential, these radii"][0].replace(",", "")) == pytest.approx(exact, rel=0.03)
    with pytest.raises(ValueError, match=r"drawn at sigma 0\.5, and the run is to be at 0\.25; pass a table"):
        plan(*arguments, "--sigma", "0.25")


MISTAKES = {
    "two speeds": (["planned:factory", "--rate", "5"], "MODEL's speed is measured, and --rate is another one; pass"),
    "votes without speed": (["--votes-from", "good.tsv"], "--votes-from gives votes but no speed; pass --rate"),
    "a price without speed": (["--sigma", "0.5", "--price-per-hour", "1"], "need a speed; pass a MODEL, or --rate"),
    "devices without speed": (["--sigma", "0.5", "--devices", "2"], "need a speed; pass a MODEL, or --rate"),
    "images without speed": (["--sigma", "0.5", "--images", "2"], "need a speed; pass a MODEL, or --rate"),
    "no images": (["--rate", "5"], "the number of images is not known; pass --images, or --votes-from TABLE"),
    "no rate": (["--rate", "0", "--images", "2"], r"--rate must be a positive number of samples a second, got 0\.0"),
    "rate nan": (["--rate", "nan", "--images", "2"], "--rate must be a positive number of samples a second, got nan"),
    "rate inf": (["--rate", "inf", "--images", "2"], "--rate must be a positive number of samples a second, got inf"),
    "six columns": (
        ["--rate", "5", "--votes-from", "log.tsv"],
        "log.tsv has no column n, n_a, sigma, alpha, so it does not hold",
    ),
    "no rows": (["--rate", "5", "--votes-from", "empty.tsv"], "empty.tsv has no rows, hence no votes"),
    "no table": (["--rate", "5", "--votes-from", "text.tsv"], "text.tsv is not a radius table"),
    "another sigma": (
        ["--rate", "5", "--votes-from", "good.tsv", "--sigma", "1"],
        r"drawn at sigma 0\.5.*pass a table",
    ),
    "two sigmas": (
        ["--rate", "5", "--votes-from", "two.tsv"],
        "two.tsv has rows of several sigma; pass a table of one",
    ),
    "out of reach": (
        ["--rate", "5", "--votes-from", "good.tsv", "--n", "1000", "--radii", "1.5"],
        "radius 1.5 is above",
    ),
    "no alpha": (["--rate", "5", "--votes-from", "good.tsv", "--alpha", "0"], "alpha must"),
    "no n0": (["--rate", "5", "--images", "2", "--n0", "0"], "n0, the selection samples, must be at least 1, got 0"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused_in_one_line(mistake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    good = table(Path("good.tsv"), [0.9, 0.99])
    columns = good.read_text().splitlines()[0]
    Path("log.tsv").write_text(f"{HEADER}\n0\t1\t1\t0.5\t1\t0:00:01\n")
    Path("empty.tsv").write_text(f"{columns}\n")
    Path("text.tsv").write_text("hello\n")
    short = "\t".join((HEADER, "n", "n_a", "sigma", "alpha"))
    Path("two.tsv").write_text(
        f"{short}\n0\t1\t1\t0.1\t1\t1\t1000\t990\t0.5\t0.001\n1\t1\t1\t0.1\t1\t1\t1000\t990\t0.25\t0.001\n"
    )
    arguments, message = MISTAKES[mistake]
    with pytest.raises(ValueError, match=message) as refused:
        plan(*arguments)
    assert "\n" not in str(refused.value)


def test_a_missing_table_is_an_os_error_that_names_it() -> None:
    with pytest.raises(OSError, match=r"nowhere\.tsv"):
        plan("--rate", "5", "--votes-from", "nowhere.tsv")
