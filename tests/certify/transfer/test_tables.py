"""``certify transfer``: what its tables claim, who reads them, and that it goes on after a crash."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transferred_runs
from transferred_runs import MANIFEST, OUT, TABLE, invoke, rows, run, transfer
from typer.testing import CliRunner

from maxup_smoothing.analysis.__main__ import app as analysis
from maxup_smoothing.certify.audit.auditing import audit_log
from maxup_smoothing.certify.statistics.disagreement import Pairs, parse_pairs
from maxup_smoothing.certify.statistics.radius import two_class_radius
from maxup_smoothing.certify.tables.radius_table import read, read_rows
from maxup_smoothing.certify.tables.recompute import recompute_row
from maxup_smoothing.certify.tables.row import Row
from maxup_smoothing.certify.transfer.table import TransferredTable
from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.checkpoint import Architecture

_here = transferred_runs.here

PROCEDURES = {
    "fixed": ["--n", "400"],
    "joint": ["--n", "400", "--bound", "joint"],
    "sequential": ["--procedure", "sequential", "--n", "1200", "--looks", "50,200,600,1200"],
    "anytime": ["--procedure", "anytime", "--n", "1000", "--tolerance", "0.3"],
    "float": ["--noise", "float", "--n", "400"],
}


@pytest.mark.parametrize("procedure", PROCEDURES)
def test_every_radius_follows_from_the_row_and_is_below_the_certified_one(procedure: str) -> None:
    run(*PROCEDURES[procedure])
    output = transfer()
    before = {row.idx: row for row in read_rows(TABLE)[0]}
    error = json.loads(MANIFEST.read_text())["noise"]["probability_error"]
    some = 0
    for row in rows():
        old = before[row.idx]
        voted = recompute_row(old, alpha=0.01 * 0.5, probability_error=error)
        assert (row.counts, row.n, row.n_a, row.looks) == (old.counts, old.n, old.n_a, voted.looks)
        p_a_lower, p_b_upper = row.transfer.carried(voted.p_a_lower, voted.p_b_upper, row.bound)
        assert (row.p_a_lower, row.p_b_upper) == (p_a_lower, p_b_upper)
        assert row.radius == (two_class_radius(p_a_lower, p_b_upper, 0.25) if row.predict >= 0 else 0)
        assert row.radius <= old.radius
        assert row.transfer.n in (0, 300)
        some += row.transfer.lost > 0
        if row.predict == 1:  # the deployed half-space begins at 0.52
            assert row.radius <= before[row.idx].radius
    assert some > 0, "near the plane they differ"
    assert "count against a certificate" in output
    assert audit_log(OUT).verdict == "PASS"


def test_an_equal_function_loses_no_pair_and_keeps_most_of_each_radius() -> None:
    """In batches of 5 the half-space of one pixel answers the same to the bit."""
    run()
    transfer("--to-batch-size", "5", to=None)
    for row, old in zip(rows(), read_rows(TABLE)[0], strict=True):
        assert (row.transfer.differing, row.transfer.lost) == (0, 0)
        if old.radius > 0.1:
            assert old.radius * 0.7 < row.radius < old.radius
    manifest = json.loads(OUT.with_suffix(".manifest.json").read_text())
    assert manifest["classifier"]["batch_size"] == 5
    assert manifest["transferred"]["from"]["classifier"]["batch_size"] == 64


def test_a_wholly_different_classifier_keeps_nothing_of_the_other_class() -> None:
    """`opposite` answers 1 everywhere; what was certified as 0 is lost to the last pair."""
    run()
    transfer(to="mine:opposite")
    for row, old in zip(rows(), read_rows(TABLE)[0], strict=True):
        if old.predict == 0:
            assert (row.predict, row.radius, row.correct) == (-1, 0.0, False)
            assert row.transfer.lost in (0, *range(150, 301))
        if old.predict == 1 and row.transfer.n:
            assert row.transfer.lost == 0
            assert row.predict == 1


def lenet(seed: int) -> str:
    architecture = Architecture(arch="lenet", image_shape=(1, 16, 16), num_classes=10, options={})
    torch.manual_seed(seed)
    metadata: dict[str, Any] = {"config": {"sigma": 0.25, "dataset": "images.npz"}, "epoch": 1}
    model = architecture.build()
    with torch.no_grad():  # so that the classes of an untrained network are close
        list(model.parameters())[-1].zero_()
    checkpoint.save(Path(f"m{seed}.safetensors"), model, architecture, metadata)
    return f"m{seed}.safetensors"


def test_bfloat16_at_64_goes_over_to_float32_at_1() -> None:
    run("--n", "200", "--limit", "4", "--dtype", "bfloat16", model=lenet(0))
    transfer("--to-dtype", "float32", "--to-batch-size", "1", "--alpha", "0.02", to=None)
    found = rows()
    assert all(row.alpha == 0.02 for row in found)
    assert any(row.transfer.differing for row in found), "bfloat16 rounds to 8 bits"
    assert all(row.transfer.differing < 100 for row in found)
    classifier = json.loads(OUT.with_suffix(".manifest.json").read_text())["classifier"]
    assert (classifier["dtype"], classifier["batch_size"]) == ("float32", 1)


def test_an_interrupted_transfer_goes_on_to_the_same_table() -> None:
    run()
    transfer()
    whole = [row for row in OUT.read_text().splitlines()]
    OUT.write_text("\n".join(whole[:5]) + "\n" + whole[5][:40])  # torn within a line
    transfer()
    cut = [[*line.split("\t")[:5], *line.split("\t")[6:]] for line in whole]
    assert [[*line.split("\t")[:5], *line.split("\t")[6:]] for line in OUT.read_text().splitlines()] == cut
    with pytest.raises(ValueError, match=r"transferred\.split=0\.5, this run uses transferred\.split=0\.4"):
        transfer("--alpha-share", "0.4")


def test_a_table_grows_from_its_first_rows_to_all() -> None:
    run()
    transfer(out=Path("whole.tsv"))
    transfer("--limit", "3")
    assert [row.idx for row in rows()] == [0, 1, 2]
    assert audit_log(OUT).ok
    transfer()
    assert [vars(row) | {"seconds": 0} for row in rows()] == [
        vars(row) | {"seconds": 0} for row in rows(Path("whole.tsv"))
    ]
    assert audit_log(OUT).verdict == "PASS"


def test_abstentions_take_no_pairs() -> None:
    run("--n", "40")
    output = transfer()
    abstained = [row for row in rows() if row.transfer.n == 0]
    assert abstained
    assert all((row.predict, row.p_a_lower, row.p_b_upper) == (-1, 0.0, 1.0) for row in abstained)
    assert f"of {12 - len(abstained)} images" in output


def test_a_merged_or_recomputed_table_is_transferred_like_any_other() -> None:
    run("--protocol", "first6", "--n", "400")
    TABLE.rename("a.tsv")
    MANIFEST.rename("a.manifest.json")
    run()
    invoke("merge", "a.tsv", str(TABLE), "--out", "merged.tsv")
    invoke("transfer", "merged.tsv", "--to-model", "mine:shifted", "--pairs", "300", "--out", str(OUT))
    transfer(out=Path("plain.tsv"))
    assert [(row.idx, row.radius) for row in rows()] == [(row.idx, row.radius) for row in rows(Path("plain.tsv"))]
    invoke("recompute", str(TABLE), "--alpha", "0.002", "--out", "strict.tsv")
    invoke("transfer", "strict.tsv", "--to-model", "mine:shifted", "--pairs", "300", "--out", "strictly.tsv")
    strict, loose = rows(Path("strictly.tsv")), rows()
    assert all(one.radius <= other.radius for one, other in zip(strict, loose, strict=True))
    assert sum(row.radius for row in strict) < sum(row.radius for row in loose)


def test_readers_take_a_transferred_table() -> None:
    run()
    transfer()
    assert "radius" in invoke("show", str(OUT))
    assert "PASS" in invoke("audit", str(OUT))
    assert len(read(OUT)) == 12
    for command in (
        ["table", str(OUT)],
        ["compare", str(TABLE), str(OUT)],
        ["report", str(OUT), "--out", "report.html"],
    ):
        result = CliRunner().invoke(analysis, command, catch_exceptions=False)
        assert result.exit_code == 0, result.output


def test_a_row_is_the_same_after_writing_and_reading() -> None:
    run()
    transfer()
    for line in OUT.read_text().splitlines()[1:]:
        row = TransferredTable.parse(line)
        assert TransferredTable.format(row) == line
        assert isinstance(row, Row)
        assert row.transfer == parse_pairs(line.split("\t")[-1])
        assert isinstance(row.transfer, Pairs)
