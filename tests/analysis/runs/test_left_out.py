"""Folders that hold no run among those that are named: left out with a note, or an error that says what was meant."""

from collections.abc import Callable
from pathlib import Path

import pytest
from analysis_call import HEADER, call, without_notes
from result_folders import evaluated, folder, language
from written_tables import write_run

Call = pytest.MonkeyPatch
Said = pytest.CaptureFixture[str]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs, and a folder that holds only other runs, as after `make demo`."""
    for name in ("a", "b", "demo/maxup", "demo/gaussian", "deep/mnist/a"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        write_run(tmp_path / "runs" / name / "radii.tsv", [300, 700, 990, 1000])
    return tmp_path / "runs"


@pytest.mark.parametrize(
    ("command", "suffix"),
    [("curve", ".png"), ("table", ".csv"), ("votes", ".png"), ("samples", ".png"), ("report", ".html")],
)
def test_a_folder_that_holds_no_run_is_left_out_with_a_note(
    runs: Path, tmp_path: Path, monkeypatch: Call, capsys: Said, command: str, suffix: str
) -> None:
    out = tmp_path / f"x{suffix}"
    named = [str(runs / name) for name in ("a", "demo", "b")]
    assert call(monkeypatch, command, *named, "--out", str(out)) == 0
    said = capsys.readouterr()
    assert said.err == f"note: {runs}/demo holds no radius table and is left out\n"
    assert said.out == f"wrote {out}\n"
    alone = tmp_path / f"y{suffix}"
    assert call(monkeypatch, command, named[0], named[2], "--out", str(alone)) == 0
    assert alone.read_bytes() == out.read_bytes()


def test_labels_and_parts_are_of_the_runs_that_are_left(runs: Path, monkeypatch: Call, capsys: Said) -> None:
    named = [str(runs / name) for name in ("demo", "a")]
    assert call(monkeypatch, "table", *named, "--labels", "A", "--radii", "0") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("A,4,")
    assert call(monkeypatch, "table", *named, "--by", "class", "--radii", "0") == 0
    assert capsys.readouterr().out.splitlines()[1].startswith("3 (4),4,")


def test_a_pattern_of_a_comparison_skips_them_too(runs: Path, monkeypatch: Call, capsys: Said) -> None:
    for pattern in (str(runs / "[ad]*"), str(runs / "a")):
        assert call(monkeypatch, "compare", pattern, str(runs / "b"), "--radii", "0") == 0
    assert f"note: {runs}/demo holds no radius table and is left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("named", "message"),
    [
        (["demo"], "{runs}/demo has no radii.tsv; did you mean {runs}/demo/gaussian?"),
        (["deep"], "{runs}/deep has no radii.tsv; did you mean {runs}/deep/mnist/a?"),
        (["demo", "deep"], "{runs}/demo has no radii.tsv; did you mean {runs}/demo/gaussian?"),
        (["none"], "{runs}/none has no radii.tsv; certify its model with `certify run {runs}/none`."),
    ],
)
def test_where_no_run_is_left_the_error_says_what_was_meant(
    runs: Path, tmp_path: Path, monkeypatch: Call, capsys: Said, named: list[str], message: str
) -> None:
    (runs / "none").mkdir()
    for command, out in (("curve", "x.png"), ("report", "x.html")):
        paths = [str(runs / name) for name in named]
        assert call(monkeypatch, command, *paths, "--out", str(tmp_path / out)) == 2
        assert capsys.readouterr().err == f"error: {message.format(runs=runs)}\n"


def test_a_missing_file_is_an_error_and_not_left_out(runs: Path, monkeypatch: Call, capsys: Said) -> None:
    (runs / "log").write_text(HEADER + "".join(f"{idx}\t3\t3\t0.5\t1\t3\n" for idx in range(4)))
    assert call(monkeypatch, "table", str(runs / "a"), str(runs / "gone")) == 2
    assert "No such file or directory" in capsys.readouterr().err
    assert call(monkeypatch, "table", str(runs / "a"), str(runs / "log"), str(runs / "demo")) == 0
    assert without_notes(capsys.readouterr().err) == []


@pytest.mark.parametrize("make", [folder, evaluated, language])
def test_results_leave_out_what_holds_none(
    tmp_path: Path, monkeypatch: Call, capsys: Said, make: Callable[[Path], Path]
) -> None:
    run, out = make(tmp_path / "runs" / "a"), tmp_path / "r.md"
    make(tmp_path / "runs" / "demo" / "maxup")
    demo = run.with_name("demo")
    assert call(monkeypatch, "results", str(demo), str(run), "--out", str(out)) == 0
    said = capsys.readouterr()
    assert said.err == f"note: {demo} holds no radius table, test accuracy or perplexity and is left out\n"
    assert "| a |" in out.read_text()
    assert call(monkeypatch, "results", str(demo), "--out", str(out)) == 2
    message = f"error: {demo} has none of radii.tsv, test.json, perplexity.json; did you mean {demo}/maxup?\n"
    assert capsys.readouterr().err == message
    (tmp_path / "none").mkdir()
    assert call(monkeypatch, "results", str(tmp_path / "none"), "--out", str(out)) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/none has no config.toml: train it with")
