"""Tables computed again from their votes: the same bytes, the radii of a fresh run, and every mistake."""

import itertools
import json
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from one_look import certificate
from oracles import Pixel, Sometimes
from torch import nn
from typer.testing import CliRunner

from maxup_smoothing.certify.commands import tables
from maxup_smoothing.certify.engine.datasets import certify_dataset
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise.source import noise_source
from maxup_smoothing.certify.statistics.certificate import BOUNDS, PROCEDURES, limits
from maxup_smoothing.certify.statistics.procedure import Sampling
from maxup_smoothing.certify.statistics.radius import ABSTAIN, two_class_radius
from maxup_smoothing.certify.tables.fields import INVALID
from maxup_smoothing.certify.tables.manifest import manifest_path
from maxup_smoothing.certify.tables.radius_table import RadiusTable, read, read_rows, row_of
from maxup_smoothing.certify.tables.recompute import recompute_row, recompute_table
from maxup_smoothing.certify.tables.row import Row
from maxup_smoothing.data.dataset import Dataset

SIGMA, PIXELS = 0.5, (0, 60, 110, 127, 150, 250)


def run(
    path: Path,
    *,
    model: nn.Module | None = None,
    noise: str = "exact",
    seed: int = 1,
    indices: Sequence[int] = range(6),
    error: bool = True,
    **settings: Any,
) -> Path:
    """Certify six images by their first pixel, as `certify run` does."""
    images = np.zeros((6, 1, 2, 2), dtype=np.uint8)
    images[:, 0, 0, 0] = PIXELS
    labels = np.array([0, 0, 0, 1, 1, 0])
    dataset = Dataset(name="pixels", split="test", images=images, labels=labels, classes=("a", "b"))
    source = noise_source(noise, SIGMA, seed)
    sampling = Sampling(sigma=SIGMA, **{"n0": 20, "n": 2000, "alpha": 0.001, **settings})
    told = {"probability_error": source.probability_error(4)} if error else {}
    manifest = {"sampling": sampling.describe(), "noise": {**source.describe(), **told}, "notes": {"host": "a"}}
    classifier = BaseClassifier((model or Pixel()).eval(), 2, batch_size=256)
    with RadiusTable.open(path, manifest) as table:
        certify_dataset(classifier, source, dataset, indices, sampling, table)
    return path


def untimed(path: Path) -> list[Row]:
    return [replace(row, seconds=0.0) for row in read_rows(path)[0]]


@pytest.mark.parametrize("error", [True, False])
@pytest.mark.parametrize("noise", ["exact", "float"])
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("procedure", PROCEDURES)
def test_a_table_at_its_own_settings_is_the_same_file(
    tmp_path: Path, procedure: str, bound: str, noise: str, error: bool
) -> None:
    settings: dict[str, Any] = {} if procedure == "fixed" else {"radii": (0.0, 0.5)}
    path = run(tmp_path / "a.tsv", procedure=procedure, bound=bound, noise=noise, error=error, **settings)
    same: list[dict[str, Any]] = [{}, {"alpha": 0.001, "bound": bound, "n": 2000}]
    for number, again in enumerate(same):
        out = tmp_path / f"{number}.tsv"
        recompute_table(path, out, **again)
        assert out.read_bytes() == path.read_bytes()
        assert manifest_path(out).read_bytes() == manifest_path(path).read_bytes()


@pytest.mark.parametrize("model", [Pixel(), Sometimes()])
@pytest.mark.parametrize("noise", ["exact", "float"])
def test_a_fixed_table_at_another_alpha_or_bound_is_that_of_a_fresh_run(
    tmp_path: Path, noise: str, model: nn.Module
) -> None:
    path = run(tmp_path / "a.tsv", noise=noise, model=model)
    for number, (alpha, bound) in enumerate(itertools.product([1e-9, 0.2], BOUNDS)):
        fresh = run(tmp_path / f"fresh{number}.tsv", noise=noise, model=model, alpha=alpha, bound=bound)
        recompute_table(path, tmp_path / f"b{number}.tsv", alpha=alpha, bound=bound)
        assert untimed(tmp_path / f"b{number}.tsv") == untimed(fresh)
        assert untimed(fresh) != untimed(path)
        recompute_table(tmp_path / f"b{number}.tsv", tmp_path / f"c{number}.tsv", alpha=0.001, bound="clopper-pearson")
        assert (tmp_path / f"c{number}.tsv").read_bytes() == path.read_bytes()


def test_the_new_manifest_tells_the_old_table_and_what_was_changed(tmp_path: Path) -> None:
    path = run(tmp_path / "a.tsv", procedure="sequential")
    old = json.loads(manifest_path(path).read_text())
    recompute_table(path, tmp_path / "b.tsv", alpha=0.01, n=500, bound="joint")
    new = json.loads((tmp_path / "b.manifest.json").read_text())
    [step] = new.pop("recomputed")
    assert step.keys() == {"table_sha256", "from", "to"}
    assert len(step["table_sha256"]) == 64
    assert step["from"] == {"alpha": 0.001, "bound": "clopper-pearson", "n": 2000}
    assert step["to"] == {"alpha": 0.01, "bound": "joint", "n": 500}
    looks = [look for look, _ in new["sampling"]["looks"]]
    assert looks == [200, 500]
    assert new["sampling"]["looks"][0][1] == pytest.approx(10 * old["sampling"]["looks"][0][1], rel=1e-15)
    changed = {"alpha": 0.01, "bound": "joint", "n": 500, "looks": new["sampling"]["looks"]}
    assert new == {**old, "sampling": {**old["sampling"], **changed}}


@pytest.mark.parametrize("alpha", [0.1, 0.003, 1e-7])
@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("procedure", ["sequential", "anytime"])
def test_all_looks_are_read_again_at_a_new_alpha(tmp_path: Path, procedure: str, bound: str, alpha: float) -> None:
    path = run(tmp_path / "a.tsv", procedure=procedure, bound=bound, radii=(0.1, 0.5))
    error = noise_source("exact", SIGMA, 1).probability_error(4)
    recompute_table(path, tmp_path / "b.tsv", alpha=alpha)
    for old, new in zip(untimed(path), untimed(tmp_path / "b.tsv"), strict=True):
        levels = [Fraction(look.level) for look in new.looks]
        assert (levels[0] if procedure == "anytime" else sum(levels)) <= Fraction(alpha)
        for before, after in zip(old.looks, new.looks, strict=True):
            assert replace(after, level=before.level) == before
            assert after.level == pytest.approx(before.level * alpha / 0.001, rel=1e-15)
        assert procedure != "anytime" or set(levels) == {Fraction(alpha)}
        bounds = limits(new.looks, procedure=procedure, bound=bound, probability_error=error)
        assert (new.p_a_lower, new.p_b_upper) == bounds
        assert new.radius == two_class_radius(*bounds, SIGMA)
        assert new.predict == (new.selected if new.radius else ABSTAIN)
        assert (new.radius > old.radius) if alpha > 0.001 and old.radius else (new.radius <= max(old.radius, 1.0))


def test_fewer_votes_of_a_fixed_table_are_recorded_and_the_same_each_time(tmp_path: Path) -> None:
    path = run(tmp_path / "a.tsv", noise="float")
    for name in ("b", "c"):
        recompute_table(path, tmp_path / f"{name}.tsv", n=300)
    assert (tmp_path / "b.tsv").read_bytes() == (tmp_path / "c.tsv").read_bytes()
    rows = untimed(tmp_path / "b.tsv")
    for old, new in zip(untimed(path), rows, strict=True):
        assert new.n == sum(new.counts.values()) == 300
        assert all(count <= old.counts[kind] for kind, count in new.counts.items())
        counts_V = np.array([new.counts.get(kind, 0) for kind in (0, 1, INVALID)])
        chosen_V = np.eye(3, dtype=np.int64)[new.selected]
        fresh = certificate(chosen_V, counts_V, 0.001, SIGMA)
        assert new == row_of(fresh, new.idx, new.label, n0=20, sigma=SIGMA, alpha=0.001, seconds=0.0)
    other = run(tmp_path / "other.tsv", noise="float", seed=2)
    same = replace(untimed(other)[2], counts=untimed(path)[2].counts, n_a=untimed(path)[2].n_a)
    same = replace(same, looks=untimed(path)[2].looks)
    draws = {tuple(recompute_row(same, n=300, seed=seed).counts.items()) for seed in range(5)}
    assert len(draws) > 1


@pytest.mark.parametrize("procedure", ["sequential", "anytime"])
def test_fewer_votes_of_other_procedures_are_their_first_looks(tmp_path: Path, procedure: str) -> None:
    path = run(tmp_path / "a.tsv", procedure=procedure, radii=(0.1, 0.5))
    recompute_table(path, tmp_path / "b.tsv", n=600)
    pairs = list(zip(untimed(path), untimed(tmp_path / "b.tsv"), strict=True))
    assert any(old.n > 600 for old, _ in pairs)
    for old, new in pairs:
        assert new.looks == tuple(look for look in old.looks if look.n <= 600)
        assert new == old or old.n > 600
        assert new.n == sum(new.counts.values()) <= 600


def as_log(path: Path, out: Path, drop: Sequence[str]) -> Path:
    """The table without some columns and without its manifest."""
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    kept = [index for index, name in enumerate(lines[0]) if name not in drop]
    out.write_text("".join("\t".join(line[index] for index in kept) + "\n" for line in lines))
    return out


NEW = ("selected", "p_b_upper", "procedure", "bound", "looks")


@pytest.mark.parametrize("drop", [NEW, (*NEW, "n0", "p_a_lower", "status")])
def test_a_table_of_fewer_columns_gets_them_from_its_counts(tmp_path: Path, drop: Sequence[str]) -> None:
    path = run(tmp_path / "a.tsv", noise="float")
    log = as_log(path, tmp_path / "log.tsv", drop)
    recompute_table(log, tmp_path / "same.tsv")
    told = [replace(row, n0=row.n0 if "n0" not in drop else 0) for row in untimed(path)]
    assert untimed(tmp_path / "same.tsv") == told
    recompute_table(log, tmp_path / "joint.tsv", alpha=0.01, bound="joint")
    recompute_table(path, tmp_path / "wanted.tsv", alpha=0.01, bound="joint")
    wanted = [replace(row, n0=row.n0 if "n0" not in drop else 0) for row in untimed(tmp_path / "wanted.tsv")]
    assert untimed(tmp_path / "joint.tsv") == wanted
    manifest = json.loads((tmp_path / "joint.manifest.json").read_text())
    assert manifest["sampling"]["alpha"] == 0.01
    assert manifest["recomputed"][0]["to"] == {"alpha": 0.01, "bound": "joint"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0.0}, r"alpha must be in \(0, 1\)"),
        ({"alpha": 1.5}, r"alpha must be in \(0, 1\)"),
        ({"bound": "betting"}, "bound must be one of clopper-pearson, joint, got 'betting'"),
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"n": 2001}, r"a\.tsv has at most n=2000 votes an image, fewer than 2001; lower it or certify again"),
    ],
)
def test_settings_that_do_not_fit_are_refused_and_nothing_is_written(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    path = run(tmp_path / "a.tsv", noise="float", indices=[0])
    with pytest.raises(ValueError, match=message):
        recompute_table(path, tmp_path / "b.tsv", **settings)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.manifest.json", "a.tsv"]


def test_a_row_without_a_look_at_so_few_votes_is_named(tmp_path: Path) -> None:
    path = run(tmp_path / "a.tsv", procedure="sequential", indices=[3])
    with pytest.raises(ValueError, match="idx 3 was first looked at after 200 votes, not 199; take at least those"):
        recompute_table(path, tmp_path / "b.tsv", n=199)


@pytest.mark.parametrize("drop", ["counts", "n", "n_a", "alpha", "sigma"])
def test_a_table_without_votes_is_refused_by_column(tmp_path: Path, drop: str) -> None:
    log = as_log(run(tmp_path / "a.tsv", indices=[0]), tmp_path / "log.tsv", [drop])
    with pytest.raises(ValueError, match=rf"log\.tsv has no column {drop}, without which"):
        recompute_table(log, tmp_path / "b.tsv")


def test_a_table_is_never_its_own_output(tmp_path: Path) -> None:
    path = run(tmp_path / "a.tsv", indices=[0])
    before = path.read_bytes(), manifest_path(path).read_bytes()
    for own in (path, tmp_path / "x" / ".." / "a.tsv", tmp_path / "a.txt"):
        (tmp_path / "x").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match="which is read; write to a file of another stem or folder"):
            recompute_table(path, own, alpha=0.1, overwrite=True)
    assert (path.read_bytes(), manifest_path(path).read_bytes()) == before
    recompute_table(path, tmp_path / "b.tsv")
    with pytest.raises(ValueError, match=r"b\.tsv exists; write to another file or pass --overwrite"):
        recompute_table(path, tmp_path / "b.tsv", alpha=0.1)
    assert (tmp_path / "b.tsv").read_bytes() == before[0]
    recompute_table(path, tmp_path / "b.tsv", alpha=0.1, overwrite=True)
    assert read(tmp_path / "b.tsv")["alpha"].tolist() == [0.1]


def test_a_manifest_that_contradicts_its_rows_and_an_empty_table_are_refused(tmp_path: Path) -> None:
    path = run(tmp_path / "a.tsv", indices=[0])
    text = manifest_path(path).read_text()
    manifest_path(path).write_text(text.replace('"alpha": 0.001', '"alpha": 0.01'))
    with pytest.raises(ValueError, match=r"a\.tsv, idx 0: alpha is 0\.001, but a\.manifest\.json says 0\.01"):
        recompute_table(path, tmp_path / "b.tsv")
    empty = run(tmp_path / "empty.tsv", indices=[])
    with pytest.raises(ValueError, match=r"empty\.tsv has no rows"):
        recompute_table(empty, tmp_path / "b.tsv")


def test_the_command_prints_the_new_table_and_the_counts_before_and_after(tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(tables.recompute)
    path, out = run(tmp_path / "a.tsv"), tmp_path / "b.tsv"
    arguments = [str(path), "--alpha", "0.2", "--bound", "joint", "--n", "1000", "--out", str(out)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "alpha=0.2" in result.stdout
    counts = [int((read(file)["radius"][read(file)["correct"] == 1] >= 0.25).sum()) for file in (path, out)]
    last = [line.split() for line in result.stdout.split("before")[1].splitlines()]
    assert ["0.25", *map(str, counts)] in last
    with pytest.raises(ValueError, match="would replace"):
        CliRunner().invoke(app, [str(path), "--out", str(path)], catch_exceptions=False)
