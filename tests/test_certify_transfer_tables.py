"""``certify transfer``: what its tables claim, who reads them, who refuses them, and that it goes on after a crash."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from analysis.__main__ import app as analysis
from certify import population
from certify.audit import audit_log
from certify.cli import app as certify
from certify.pairs import Pairs, parse_pairs
from certify.radius import two_class_radius
from certify.recompute import recompute_row
from certify.row import Row
from certify.stored import read_rows
from certify.table import read
from certify.transferred import TransferredTable
from train import checkpoint
from train.checkpoint import Architecture

TESTS = Path(__file__).parent
TABLE, MANIFEST, OUT = Path("radii.tsv"), Path("radii.manifest.json"), Path("new.tsv")
OTHERS = """

def shifted() -> nn.Module:
    return Pixel(threshold=0.52, classes=10).eval()


def opposite() -> nn.Module:
    return Pixel(threshold=-9.0, classes=10).eval()
"""
PROCEDURES = {
    "fixed": ["--n", "400"],
    "joint": ["--n", "400", "--bound", "joint"],
    "sequential": ["--procedure", "sequential", "--n", "1200", "--looks", "50,200,600,1200"],
    "anytime": ["--procedure", "anytime", "--n", "1000", "--tolerance", "0.3"],
    "float": ["--noise", "float", "--n", "400"],
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of one's own with factories and images whose first pixels are from black to white."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    Path("mine.py").write_text((TESTS / "oracles.py").read_text() + OTHERS)
    images = np.random.default_rng(0).integers(0, 256, (12, 16, 16), dtype=np.uint8)
    images[:, 0, 0] = np.linspace(0, 255, 12).astype(np.uint8)
    np.savez("images.npz", images=images, labels=np.arange(12) % 2, classes=np.array(list("abcdefghij")))
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("mine", None)


def invoke(*command: str, status: int = 0) -> str:
    result = CliRunner().invoke(certify, list(command), catch_exceptions=False)
    assert result.exit_code == status, result.output
    return result.output


def run(*more: str, model: str = "mine:factory") -> None:
    settings = ["--data", "images.npz", "--sigma", "0.25", "--alpha", "0.01", "--batch-size", "64", "--seed", "1"]
    invoke("run", model, *settings, "--compile", "off", "--no-check", "--out", str(TABLE), *(more or ["--n", "400"]))


def transfer(*more: str, to: str | None = "mine:shifted", out: Path = OUT) -> str:
    to_model = [] if to is None else ["--to-model", to]
    return invoke("transfer", str(TABLE), *to_model, "--pairs", "300", "--out", str(out), *more)


def rows(path: Path = OUT) -> list[Any]:
    return [TransferredTable.parse(line) for line in path.read_text().splitlines()[1:]]


def edit(path: Path, section: str | None, **values: Any) -> None:
    manifest = json.loads(path.read_text())
    (manifest if section is None else manifest[section]).update(values)
    path.write_text(json.dumps(manifest))


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
    run("--n", "200", "--max", "4", "--dtype", "bfloat16", model=lenet(0))
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
        transfer("--split", "0.4")


def test_a_table_grows_from_its_first_rows_to_all() -> None:
    run()
    transfer(out=Path("whole.tsv"))
    transfer("--max", "3")
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


REFUSALS: dict[str, list[str]] = {
    "was transferred to another classifier": ["recompute", str(OUT), "--alpha", "0.001", "--out", "other.tsv"],
    "radii.tsv|was transferred": ["merge", str(TABLE), str(OUT), "--out", "other.tsv"],
    "was transferred": ["transfer", str(OUT), "--to-batch-size", "3", "--out", "other.tsv"],
    "certify transfer --alpha": ["show", str(OUT), "--simultaneous"],
    "no table of `certify run`": ["verify", str(OUT)],
}


@pytest.mark.parametrize("message", REFUSALS)
def test_who_would_take_its_pairs_for_votes_refuses_it(message: str) -> None:
    """At another alpha, the bound on zeta would have to be another one; the manifest's model did not vote."""
    run()
    transfer()
    with pytest.raises(ValueError, match=message):
        invoke(*REFUSALS[message])
    assert not Path("other.tsv").exists()


def test_the_simultaneous_reading_of_pairs_would_be_false() -> None:
    run()
    transfer()
    with pytest.raises(ValueError, match="counted at its own alpha"):
        population.simultaneous(read(OUT))


def claims(change: Callable[[list[str]], None]) -> None:
    lines = OUT.read_text().splitlines()
    fields = lines[1].split("\t")
    change(fields)
    OUT.write_text("\n".join([lines[0], "\t".join(fields), *lines[2:]]) + "\n")


FORGERIES: dict[str, Callable[[list[str]], None]] = {
    "no pairs, and yet a radius": lambda fields: fields.__setitem__(-1, "0:0:0:0.005"),
    "more lost": lambda fields: fields.__setitem__(-1, "300:90:90:0.005"),
    "more of alpha": lambda fields: fields.__setitem__(-1, "300:0:0:0.006"),
    "a larger bound": lambda fields: fields.__setitem__(9, repr(float(fields[9]) + 0.01)),
    "no text": lambda fields: fields.__setitem__(-1, ""),
    "no part": lambda fields: fields.__setitem__(-1, "300:1:2:0.005"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_row_that_claims_more_than_its_pairs_prove_is_refused(forgery: str) -> None:
    run()
    transfer()
    read(OUT)
    claims(FORGERIES[forgery])
    with pytest.raises(ValueError, match=r"line 2: .*(transfer|claim more|spend|p_a_lower)"):
        read(OUT)
    assert not audit_log(OUT).ok


def _drop(path: Path) -> None:
    path.unlink()


MISTAKES: dict[str, tuple[Callable[[], object], list[str], str]] = {
    "no table": (lambda: _drop(TABLE), [], "radii.tsv"),
    "no manifest": (lambda: _drop(MANIFEST), [], "no manifest at radii.manifest.json"),
    "nothing differs": (lambda: None, ["--to-batch-size", "64"], "say what differs"),
    "no pairs": (lambda: None, ["--pairs", "0"], "--pairs must be at least 1"),
    "too many": (lambda: None, ["--to-model", "mine:shifted", "--pairs", "99999999999"], "--pairs must be at most"),
    "split": (lambda: None, ["--split", "1"], "--split"),
    "alpha": (lambda: None, ["--alpha", "0"], "alpha must lie between 0 and 1"),
    "dtype": (lambda: None, ["--to-dtype", "int8"], "the deployed classifier: dtype must be one of"),
    "compile": (lambda: None, ["--to-compile", "maybe"], "--to-compile must be on or off"),
    "folding": (lambda: None, ["--to-folding", "yes"], "--to-folding must be on or off"),
    "unfolded": (lambda: None, ["--to-folding", "off", "--to-compile", "on"], "pass --to-compile off"),
    "device": (lambda: None, ["--to-device", "tpu"], "must be auto, cpu, cuda"),
    "other model": (lambda: None, ["--to-model", "nowhere.onnx"], "nowhere.onnx"),
    "certified model": (lambda: None, ["mine:shifted", "--to-batch-size", "1"], "this is not what radii.tsv was"),
    "source as output": (lambda: None, ["--to-batch-size", "1", "--out", "radii.tsv"], "would replace radii.tsv"),
    "its manifest": (lambda: None, ["--to-batch-size", "1", "--out", "radii.csv"], "would replace radii.tsv"),
    "weights": (lambda: edit(MANIFEST, "classifier", weights_sha256="0"), ["--to-batch-size", "1"], "this is not what"),
    "images": (lambda: edit(MANIFEST, "data", fingerprint="0"), ["--to-batch-size", "1"], "this is not what"),
    "noise": (lambda: edit(MANIFEST, "noise", clip=3), ["--to-batch-size", "1"], "this is not what"),
    "platform": (lambda: edit(MANIFEST, "classifier", torch="1"), ["--to-batch-size", "1"], "on another platform"),
    "mixture": (lambda: edit(MANIFEST, "notes", micro_batch=[{}]), ["--to-batch-size", "1"], "memory ran out while"),
    "sections": (lambda: edit(MANIFEST, None, noise=3), ["--to-batch-size", "1"], "no section noise"),
    "seed": (lambda: edit(MANIFEST, "noise", seed="x"), ["--to-batch-size", "1"], "does not say noise.seed"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused_with_the_fix_and_nothing_is_written(mistake: str) -> None:
    run("--n", "60", "--max", "2")
    change, more, message = MISTAKES[mistake]
    change()
    before = {path.name: path.read_bytes() for path in Path().glob("*.*") if path.is_file()}
    with pytest.raises((ValueError, OSError), match=message):
        invoke("transfer", str(TABLE), "--out", str(OUT), *more)
    assert {path.name: path.read_bytes() for path in Path().glob("*.*") if path.is_file()} == before


def test_another_number_of_threads_is_told_and_no_more() -> None:
    run("--n", "60", "--max", "2")
    edit(MANIFEST, "notes", threads=99)
    assert "notes.threads: recorded 99" in transfer()


def test_memory_that_runs_out_leaves_no_row_of_another_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    from certify.classifier import BaseClassifier

    run("--n", "60", "--max", "2")
    classify = BaseClassifier.classify

    def smaller(self: BaseClassifier, x_BCHW: torch.Tensor) -> torch.Tensor:
        self.micro_batch = 8
        return classify(self, x_BCHW)

    with monkeypatch.context() as scarce:
        scarce.setattr(BaseClassifier, "classify", smaller)
        with pytest.raises(ValueError, match="memory ran out"):
            transfer()
    assert not OUT.exists() or rows() == [row for row in rows() if row.transfer.n == 0]


def test_a_row_is_the_same_after_writing_and_reading() -> None:
    run()
    transfer()
    for line in OUT.read_text().splitlines()[1:]:
        row = TransferredTable.parse(line)
        assert TransferredTable.format(row) == line
        assert isinstance(row, Row)
        assert row.transfer == parse_pairs(line.split("\t")[-1])
        assert isinstance(row.transfer, Pairs)
