"""Runs of different sigma: said where they stand side by side, and compared only if asked for."""

from pathlib import Path

import pytest
from analysis_call import HEADER, call, without_notes
from written_tables import texts, write_run

from maxup_smoothing.analysis.figures.curves import draw
from maxup_smoothing.analysis.literature.curves import Published
from maxup_smoothing.analysis.runs.run import load

DIFFERS = "sigma differs, 0.5 (half) and 1 (one, two): radii under different noise answer different questions"


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    for name, sigma in (("half", 0.5), ("one", 1.0), ("two", 1.0)):
        (tmp_path / name).mkdir()
        write_run(tmp_path / name / "radii.tsv", [300, 700, 990, 1000], sigma=sigma)
    return [tmp_path / name for name in ("half", "one", "two")]


def published(method: str, sigma: float, subset: str = "skip20") -> Published:
    return Published(
        dataset="fashion-mnist", arch="lenet", method=method, sigma=sigma, subset=subset, images=500, seeds=1,
        n=100_000, alpha=0.001, acr=1.0, percent={0.0: 90.0, 0.5: 60.0}, source="there",
    )  # fmt: skip


@pytest.mark.parametrize("command", ["table", "curve", "votes", "samples"])
def test_runs_of_different_sigma_stand_side_by_side_with_one_warning(
    folders: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    out = [] if command == "table" else ["--out", str(tmp_path / "x.png")]
    assert call(monkeypatch, command, *map(str, folders), *out) == 0
    assert without_notes(capsys.readouterr().err) == [f"warning: {DIFFERS}."]
    assert call(monkeypatch, command, *map(str, folders[1:]), *out) == 0
    assert without_notes(capsys.readouterr().err) == []


def test_a_table_tells_the_sigma_n_and_alpha_of_each_run(
    folders: list[Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "table", *map(str, folders[:2]), "--radii", "0") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "run,images,sigma,n,alpha,acr,abstained,false_at_most,0.00"
    assert [line.split(",")[1:5] for line in lines[1:]] == [
        ["4", "0.5", "1000", "0.001"],
        ["4", "1.0", "1000", "0.001"],
    ]


def test_a_figure_names_sigma_at_each_curve_where_it_differs(folders: list[Path], tmp_path: Path) -> None:
    tables = [folder / "radii.tsv" for folder in folders]
    rows = [published("CAT-RS", 0.5), published("MACER", 1.0, "full")]
    shown = texts(draw(load(tables[:2]), published=rows))
    assert {"half, σ = 0.5", "one, σ = 1", "CAT-RS, σ = 0.5", "MACER*, σ = 1"} < set(shown)
    shown = texts(draw(load(tables[1:]), published=rows[1:]))
    assert {"one", "two", "MACER*"} < set(shown)
    (tmp_path / "log").write_text(HEADER + "0\t3\t3\t0.5\t1\t3\n")
    assert "log, σ unknown" in texts(draw(load([*tables[:2], tmp_path / "log"])))
    assert "log" in texts(draw(load([*tables[1:], tmp_path / "log"])))


def test_a_comparison_names_the_option_that_allows_different_sigma(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    half, one, two = map(str, folders)
    assert call(monkeypatch, "compare", half, one) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: sigma differs, 0.5 (half) and 1 (one): radii under different noise answer different")
    assert said.endswith("; pass --different-sigma if yours is another one.\n")
    assert call(monkeypatch, "compare", half, one, "--different-sigma") == 0
    assert call(monkeypatch, "compare", one, two) == 0


def test_a_comparison_with_a_log_that_tells_no_sigma_says_how_to_add_it(
    folders: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log, out = tmp_path / "log", tmp_path / "OUT.tsv"
    log.write_text(HEADER + "".join(f"{idx}\t3\t3\t0.5\t1\t3\n" for idx in range(4)))
    for more, options in (
        ((), "--sigma SIGMA --n N --alpha ALPHA"),
        (("--different-sigma",), "--n N --alpha ALPHA"),
    ):
        assert call(monkeypatch, "compare", str(folders[0]), str(log), *more) == 2
        said = capsys.readouterr().err.splitlines()[-1]
        assert f"with `python -m analysis import {log} {options} --out OUT.tsv`, and compare OUT.tsv." in said
    settings = ["--sigma", "0.5", "--n", "1000", "--alpha", "0.001"]
    assert call(monkeypatch, "import", str(log), *settings, "--out", str(out)) == 0
    assert call(monkeypatch, "compare", str(folders[0]), str(out)) == 0
