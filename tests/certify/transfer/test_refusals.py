"""``certify transfer``: who refuses its tables, rows that claim more than their pairs prove, and mistakes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transferred_runs
from transferred_runs import MANIFEST, OUT, TABLE, invoke, rows, run, transfer

from maxup_smoothing.certify.audit.auditing import audit_log
from maxup_smoothing.certify.tables import population
from maxup_smoothing.certify.tables.radius_table import read

_here = transferred_runs.here


def edit(path: Path, section: str | None, **values: Any) -> None:
    manifest = json.loads(path.read_text())
    (manifest if section is None else manifest[section]).update(values)
    path.write_text(json.dumps(manifest))


REFUSALS: dict[str, list[str]] = {
    "was transferred to another classifier": ["recompute", str(OUT), "--alpha", "0.001", "--out", "other.tsv"],
    "radii.tsv|was transferred": ["merge", str(TABLE), str(OUT), "--out", "other.tsv"],
    "was transferred": ["transfer", str(OUT), "--to-batch-size", "3", "--out", "other.tsv"],
    "certify transfer --alpha": ["show", str(OUT), "--simultaneous"],
    "was carried over to another network": ["verify", str(OUT)],
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
    "split": (lambda: None, ["--alpha-share", "1"], "--alpha-share"),
    "alpha": (lambda: None, ["--alpha", "0"], r"alpha must be in \(0, 1\)"),
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
    "sections": (lambda: edit(MANIFEST, None, noise=None), ["--to-batch-size", "1"], "no section noise"),
    "seed": (lambda: edit(MANIFEST, "noise", seed=None), ["--to-batch-size", "1"], "does not say noise.seed"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused_with_the_fix_and_nothing_is_written(mistake: str) -> None:
    run("--n", "60", "--limit", "2")
    change, more, message = MISTAKES[mistake]
    change()
    before = {path.name: path.read_bytes() for path in Path().glob("*.*") if path.is_file()}
    with pytest.raises((ValueError, OSError), match=message):
        invoke("transfer", str(TABLE), "--out", str(OUT), *more)
    assert {path.name: path.read_bytes() for path in Path().glob("*.*") if path.is_file()} == before


def test_another_number_of_threads_is_told_and_no_more() -> None:
    run("--n", "60", "--limit", "2")
    edit(MANIFEST, "notes", threads=99)
    assert "notes.threads: recorded 99" in transfer()


def test_memory_that_runs_out_leaves_no_row_of_another_classifier(monkeypatch: pytest.MonkeyPatch) -> None:
    from maxup_smoothing.certify.models.classifier import BaseClassifier

    run("--n", "60", "--limit", "2")
    classify = BaseClassifier.classify

    def smaller(self: BaseClassifier, x_BCHW: torch.Tensor) -> torch.Tensor:
        self.micro_batch = 8
        return classify(self, x_BCHW)

    with monkeypatch.context() as scarce:
        scarce.setattr(BaseClassifier, "classify", smaller)
        with pytest.raises(ValueError, match="memory ran out"):
            transfer()
    assert not OUT.exists() or rows() == [row for row in rows() if row.transfer.n == 0]
