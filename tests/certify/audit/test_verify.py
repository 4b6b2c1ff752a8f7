"""``certify verify``: honest tables come out, edited ones do not, and nothing is ever written."""

import dataclasses
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from places import HELPERS
from typer.testing import CliRunner

from maxup_smoothing.certify.audit.redraw import CONSISTENT, DIFFERENT, EXACT, Report, _stored, verify_table
from maxup_smoothing.certify.commands import verify as cli_checks
from maxup_smoothing.certify.commands.app import app as certify
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.certify.runs.reopen import Overrides
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.radius_table import COLUMNS
from maxup_smoothing.certify.tables.row import Row, format_row, parse_row
from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.checkpoint import Architecture

TABLE, MANIFEST = Path("radii.tsv"), Path("radii.manifest.json")
PROCEDURES = {
    "fixed": ["--n", "150"],
    "sequential": ["--procedure", "sequential", "--n", "1200", "--looks", "50,200,600,1200"],
    "default looks": ["--procedure", "sequential", "--n", "1200", "--radii", "0.1,0.3"],
    "anytime": ["--procedure", "anytime", "--n", "1000", "--tolerance", "0.3"],
    "joint": ["--procedure", "sequential", "--n", "600", "--bound", "joint"],
    "float": ["--noise", "float", "--n", "150"],
}

app = typer.Typer()
app.command()(cli_checks.verify)
app.command()(cli_checks.selftest)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of one's own with a factory and images of which no two are equal."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    Path("mine.py").write_text((HELPERS / "oracles.py").read_text())
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    np.savez("images.npz", images=images, labels=np.arange(12) % 10, classes=np.array(list("abcdefghij")))
    monkeypatch.syspath_prepend(tmp_path)  # else an earlier test's folder, which is still there, comes first
    sys.modules.pop("mine", None)


def run(*more: str, model: str = "mine:factory") -> None:
    command = ["run", model, "--data", "images.npz", "--sigma", "0.5", "--alpha", "0.01", "--batch-size", "64"]
    result = CliRunner().invoke(certify, [*command, "--out", str(TABLE), *more], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def verify(**more: Any) -> Report:
    """All rows; and whatever comes of it, no file changes."""
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path().glob("*.*") if path.is_file()}
    try:
        given = Overrides(**{name: more.pop(name) for name in list(more) if name in Overrides.__dataclass_fields__})
        return verify_table(**{"file": TABLE, "given": given, "rows": None, "seed": 0, **more})
    finally:
        after = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in Path().glob("*.*") if path.is_file()}
        assert after == before


def edit(line: int, change: Callable[[Row], Row]) -> None:
    lines = TABLE.read_text().splitlines()
    lines[line] = format_row(change(parse_row(lines[line])))
    parse_row(lines[line])
    TABLE.write_text("\n".join(lines) + "\n")


def edit_manifest(section: str, **values: Any) -> None:
    manifest = json.loads(MANIFEST.read_text())
    manifest[section].update(values)
    MANIFEST.write_text(json.dumps(manifest))


def one_vote_less(row: Row) -> Row:
    """A vote for the selected class goes to another; bounds and radius stay below what that proves."""
    other = next(label for label in range(10) if label not in (row.selected, *row.counts))
    counts = {**row.counts, row.selected: row.n_a - 1, other: 1}
    last = row.looks[-1]
    rival = max(count for label, count in counts.items() if label != row.selected)
    looks = (*row.looks[:-1], dataclasses.replace(last, n_a=last.n_a - 1, n_b=rival))
    zero: dict[str, Any] = {"p_a_lower": 0.0, "p_b_upper": 1.0, "radius": 0.0, "predict": -1, "status": "abstain"}
    return dataclasses.replace(row, counts=counts, looks=looks, n_a=row.n_a - 1, correct=False, **zero)


@pytest.mark.parametrize("procedure", PROCEDURES)
def test_an_honest_table_comes_out_and_an_edited_row_does_not(procedure: str) -> None:
    run(*PROCEDURES[procedure])
    told, drawn = list[tuple[int, int]](), list[tuple[int, int]]()
    report = verify(
        expect=lambda rows, samples: told.append((rows, samples)),
        advance=lambda samples, rows: drawn.append((samples, rows)),
    )
    assert told == [(12, sum(samples for samples, _ in drawn))]
    assert sum(rows for _, rows in drawn) == 12
    assert (report.verdict, report.differences, report.warnings) == (EXACT, (), ())
    assert report.redrawn == tuple(range(12))
    rows = [parse_row(line) for line in TABLE.read_text().splitlines()[1:]]
    edited = max(range(12), key=lambda place: rows[place].n)
    edit(edited + 1, one_vote_less)
    report = verify()
    assert report.verdict == DIFFERENT
    [found] = report.differences
    assert (found.idx, found.votes) == (rows[edited].idx, 1)
    assert any(text.startswith("counts=") for text in found.fields)


def test_a_table_grown_by_continuing_and_under_a_protocol_comes_out() -> None:
    run("--n", "100", "--protocol", "skip2", "--limit", "2")
    run("--n", "100", "--protocol", "skip2")
    report = verify()
    assert report.verdict == EXACT
    assert report.redrawn == (0, 2, 4, 6, 8, 10)


def test_a_radius_smaller_than_proved_is_not_the_recorded_run_either() -> None:
    run("--n", "150")
    edit(1, lambda row: dataclasses.replace(row, radius=row.radius / 2, p_a_lower=row.p_a_lower * (1 - 1e-6)))
    [found] = verify().differences
    assert found.votes == 0


def test_a_wrong_label_is_found() -> None:
    run("--n", "150")
    edit(4, lambda row: dataclasses.replace(row, label=9, correct=row.predict == 9))
    [found] = verify().differences
    assert "label=9, the data set's is 3" in found.fields


def test_looks_that_the_manifest_does_not_allow_are_found() -> None:
    run(*PROCEDURES["sequential"])
    edit_manifest("sampling", looks=[[50, 0.0009], [200, 0.001], [600, 0.001], [1200, 0.006]])
    report = verify()
    assert report.verdict == DIFFERENT
    assert len(report.differences) == 12
    assert "the looks are not those of the manifest's procedure" in report.differences[0].fields


def test_a_row_of_an_image_outside_the_protocol_is_found() -> None:
    run("--n", "150", "--protocol", "skip2")
    edit(1, lambda row: dataclasses.replace(row, idx=1))
    assert [found.idx for found in verify().differences] == [1]


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("classifier", "weights_sha256", "0" * 64),
        ("classifier", "classes_on_probe", "0 1"),
        ("data", "fingerprint", "0" * 64),
        ("protocol", "indices", "0:12:2"),
        ("noise", "generator", "mt19937"),
    ],
)
def test_another_function_data_set_or_noise_is_named_and_nothing_is_drawn(section: str, name: str, value: str) -> None:
    run("--n", "150")
    edit_manifest(section, **{name: value})
    report = verify()
    assert (report.verdict, report.redrawn) == (DIFFERENT, ())
    [error] = report.errors
    assert error.startswith(f"{section}.{name}: recorded")


def test_another_seed_in_the_manifest_is_found() -> None:
    run("--n", "150", "--seed", "1")
    edit_manifest("noise", seed=2)
    assert verify().verdict == DIFFERENT


def test_changed_weights_are_found() -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16), dtype=np.uint8)
    np.savez("images.npz", images=images, labels=np.arange(12) % 10, classes=np.array(list("abcdefghij")))
    architecture = Architecture(arch="lenet", image_shape=(1, 16, 16), num_classes=10, options={})
    for seed in (0, 1):
        torch.manual_seed(seed)
        metadata: dict[str, Any] = {"config": {"sigma": 0.5, "dataset": "images.npz"}, "epoch": 1}
        checkpoint.save(Path(f"m{seed}.safetensors"), architecture.build(), architecture, metadata)
    run("--n", "60", "--seed", "1", model="m0.safetensors")
    assert verify().verdict == EXACT
    report = verify(model="m1.safetensors")
    assert report.verdict == DIFFERENT
    assert any(text.startswith("classifier.weights_sha256") for text in report.errors)
    assert verify().verdict == EXACT


def test_changed_code_of_equal_weights_is_found() -> None:
    run("--n", "60")
    Path("mine.py").write_text(Path("mine.py").read_text().replace("classes=10)", "threshold=0.2, classes=10)"))
    sys.modules.pop("mine")
    importlib.invalidate_caches()
    report = verify()
    assert report.verdict == DIFFERENT
    assert report.errors[0].startswith("classifier.classes_on_probe")


def test_on_another_platform_few_votes_may_differ_but_not_many() -> None:
    run("--n", "150")
    edit_manifest("notes", threads=1000)
    edit_manifest("classifier", torch="1.0")
    report = verify()
    assert (report.verdict, len(report.warnings)) == (EXACT, 2)
    edit(1, one_vote_less)
    assert verify().verdict == CONSISTENT
    edit(1, one_vote_less_for_many)
    assert verify().verdict == DIFFERENT


def test_where_memory_ran_out_few_votes_may_differ() -> None:
    run("--n", "150")
    edit(1, one_vote_less)
    edit_manifest("notes", micro_batch=[{"after_rows": 0, "rows": 16}])
    report = verify()
    assert report.verdict == CONSISTENT
    assert "notes.micro_batch" in report.warnings[0]


def one_vote_less_for_many(row: Row) -> Row:
    """As many other classes as there are get a vote each."""
    for _ in range(4):
        row = one_vote_less(row)
    return row


def test_the_same_few_votes_on_the_same_platform_are_different() -> None:
    run("--n", "150")
    edit(1, one_vote_less)
    assert verify().verdict == DIFFERENT


def test_a_table_made_with_smaller_noise_is_not_consistent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise of half the sigma makes honest-looking radii that are too large."""
    with monkeypatch.context() as broken:
        fill, small = ExactNoise.fill, ExactNoise(0.25, 1)
        broken.setattr(ExactNoise, "fill", lambda self, *a, **k: fill(small, *a, **k))
        run("--n", "400", "--seed", "1", "--no-check")
    edit_manifest("classifier", torch="1.0")
    assert verify().verdict == DIFFERENT


def test_the_command_says_which_rows_and_ends_with_status_1_if_they_differ() -> None:
    run("--n", "150")
    arguments = ["verify", str(TABLE), "--rows", "3", "--seed", "5"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "3 of 3 redrawn rows are equal, of 12 in the table (chosen with seed 5)" in result.stdout
    assert "EXACT: " in result.stdout
    for line in range(1, 13):
        edit(line, one_vote_less)
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 1
    assert "0 of 3 redrawn rows are equal" in result.stdout
    assert "DIFFERENT: " in result.stdout


def test_different_seeds_choose_different_rows_and_all_are_reached() -> None:
    run("--n", "150")
    chosen = [verify(rows=3, seed=seed).redrawn for seed in range(12)]
    assert all(len(set(rows)) == 3 for rows in chosen)
    assert len(set(chosen)) > 1
    assert len(verify(rows=100).redrawn) == 12


MISTAKES: dict[str, tuple[Callable[[], object], list[str], str]] = {
    "no table": (TABLE.unlink, [], "radii.tsv"),
    "no manifest": (MANIFEST.unlink, [], "no manifest at radii.manifest.json"),
    "empty": (lambda: TABLE.write_text("\t".join(COLUMNS) + "\n"), [], "has no rows"),
    "rows": (lambda: None, ["--rows", "some"], "--rows must be all or a positive integer"),
    "no seed": (lambda: edit_manifest("noise", seed=None), [], "does not say noise.seed"),
    "a word as seed": (lambda: edit_manifest("noise", seed="x"), [], 'noise.seed is "x"; certify again'),
    "no model": (lambda: edit_manifest("notes", model=None), [], "does not say notes.model"),
    "another's log": (lambda: TABLE.write_text("idx\tlabel\tpredict\tradius\tcorrect\ttime\n"), [], "certify audit"),
    "missing data": (lambda: None, ["--data", "other.npz"], "other.npz"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused_with_the_fix(mistake: str) -> None:
    run("--n", "60", "--limit", "2")
    change, arguments, message = MISTAKES[mistake]
    change()
    with pytest.raises((ValueError, OSError), match=message):
        CliRunner().invoke(app, ["verify", str(TABLE), *arguments], catch_exceptions=False)


def test_tables_whose_rows_were_not_drawn_so_are_refused(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [{"recomputed": []}, {"protocol": {"name": "merged"}}]
    for change in changes:
        path = tmp_path / "radii.tsv"
        path.write_text("idx\n")
        manifests.write(tmp_path / "radii.manifest.json", {"notes": {}, **change})
        with pytest.raises(ValueError, match="was recomputed or merged; verify the tables it was made from"):
            _stored(path)
