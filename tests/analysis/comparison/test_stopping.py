"""Tables of procedures that stop early are compared only where they were asked to stop alike."""

import sys
from pathlib import Path

import numpy as np
import pytest
from analysis_call import call
from places import HELPERS
from typer.testing import CliRunner

from maxup_smoothing.analysis.runs import run
from maxup_smoothing.certify.commands.app import app


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text((HELPERS / "oracles.py").read_text())
    images = np.zeros((12, 4, 4), dtype=np.uint8)
    images[:, 0, 0] = np.linspace(0, 255, 12)
    np.savez("images.npz", images=images, labels=np.arange(12) % 2, classes=np.array(list("abcdefghij")))
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("mine", None)


def certify(out: str, *more: str) -> None:
    options = ["--data", "images.npz", "--sigma", "0.25", "--seed", "1", "--no-check", "--procedure", "sequential"]
    result = CliRunner().invoke(app, ["run", "mine:factory", *options, *more, "--out", out], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def test_other_radii_to_decide_or_another_cap_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    certify("a.tsv", "--n", "2000", "--radii", "0.1,0.3")
    certify("b.tsv", "--n", "2000", "--radii", "0.1")
    certify("c.tsv", "--n", "1000", "--radii", "0.1,0.3")
    certify("d.tsv", "--n", "2000", "--radii", "0.1,0.3")
    for other, name in (("b.tsv", "radii, [0.1, 0.3] and [0.1]"), ("c.tsv", "n, 2000 and 1000")):
        assert call(monkeypatch, "compare", "a.tsv", other, "--radii", "0.1") == 2
        assert f"were certified with different {name}: when they stopped" in capsys.readouterr().err
    assert call(monkeypatch, "compare", "a.tsv", "d.tsv", "--radii", "0.1") == 0
    captured = capsys.readouterr()
    assert "No difference in ACR is shown" in captured.out
    assert "warning" not in captured.err


def test_where_no_manifest_tells_it_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    certify("a.tsv", "--n", "2000", "--radii", "0.1,0.3")
    certify("d.tsv", "--n", "2000", "--radii", "0.1,0.3")
    Path("d.manifest.json").unlink()
    assert call(monkeypatch, "compare", "a.tsv", "d.tsv", "--radii", "0.1") == 0
    assert "warning: no manifest tells when d stopped; taken to be alike" in capsys.readouterr().err


def test_a_report_says_so_and_compares_nothing() -> None:
    from maxup_smoothing.analysis.report.notices import different_settings
    from maxup_smoothing.analysis.report.subjects import load_subjects

    certify("a.tsv", "--n", "2000", "--radii", "0.1,0.3")
    certify("b.tsv", "--n", "2000", "--radii", "0.1")
    found = different_settings(load_subjects([Path("a.tsv"), Path("b.tsv")]))
    assert any("a and b were certified with different radii" in text for text in found)
    assert run.load(["a.tsv"])[0].stopping is not None
