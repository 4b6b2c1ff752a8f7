import os
import subprocess
import sys
from pathlib import Path

import pytest
from analysis_call import HEADER, call, without_notes


@pytest.fixture
def logs(tmp_path: Path) -> tuple[str, str]:
    for name, count in (("a", 3), ("b", 2)):
        (tmp_path / name).write_text(HEADER + "".join(f"{idx}\t1\t1\t0.5\t1\t3\n" for idx in range(count)))
    return str(tmp_path / "a"), str(tmp_path / "b")


def test_a_table_is_printed_with_a_warning_on_stderr_where_images_differ(
    logs: tuple[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "table", *logs) == 0
    said = capsys.readouterr()
    assert said.out == (
        "run,images,sigma,n,alpha,acr,abstained,false_at_most,0.00,0.25,0.50\n"
        "a,3,,,,0.500000,0,,1.000000,1.000000,1.000000\n"
        "b,2,,,,0.500000,0,,1.000000,1.000000,1.000000\n"
    )
    assert without_notes(said.err) == [
        "warning: not comparable: a has 1 images that b has not, and 0 are missing the other way round."
    ]


def test_a_table_is_written_in_the_chosen_format_at_the_chosen_radii(
    logs: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "t.md"
    arguments = ["--radii", "0.5, 1", "--format", "markdown", "--labels", "X", "--out", str(out)]
    assert call(monkeypatch, "table", logs[0], *arguments) == 0
    assert out.read_text().splitlines()[0] == "| run | images | sigma | n | alpha | ACR | abstained | 0.50 | 1.00 |"
    assert "| X | 3 |" in out.read_text()
    assert capsys.readouterr().out == f"wrote {out}\n"


def test_a_table_states_the_population_with_all_certificates_true_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "ours"
    columns = "\tn\tn_a\tp_a_lower\tsigma\talpha\n"
    path.write_text(
        HEADER.rstrip("\n")
        + columns
        + "0\t1\t1\t0.7\t1\t3\t100\t99\t0.93\t0.5\t0.01\n"
        + "1\t1\t1\t0.01\t1\t3\t100\t64\t0.51\t0.5\t0.01\n"
    )
    arguments = ["table", str(path), "--format", "markdown", "--radii", "0"]
    # Of two, CP_low is 0.05^(1/2) = 0.2236; of one of two 1 - 0.95^(1/2) = 0.0253. Less alpha, through 1 - alpha.
    assert call(monkeypatch, *arguments, "--population") == 0
    assert capsys.readouterr().out.splitlines()[2] == "| ours | 2 | 0.5 | 100 | 0.01 | 0.355 | 0 | 1.000 (≥ 0.215) |"
    assert call(monkeypatch, *arguments, "--population", "--simultaneous") == 0
    line = capsys.readouterr().out.splitlines()[2]
    assert line.startswith("| ours | 2 | 0.5 | 100 | 0.005 | 0.3")
    assert line.endswith(" | 1 | 0.500 (≥ 0.020) |")


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_figure_is_written(
    logs: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    out = tmp_path / f"curve.{suffix}"
    assert call(monkeypatch, "curve", *logs, "--out", str(out), "--radii-max", "1", "--title", "T") == 0
    assert out.stat().st_size > 1000
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", out.name}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["curve", "{a}", "--out", "{tmp}/x.jpg"], "a figure is written as .png, .svg, .pdf; got the suffix '.jpg'"),
        (["curve", "{a}", "--out", "{tmp}/x"], "got the suffix ''"),
        (["curve", "{a}", "--out", "/proc/none/x.png"], "No such file or directory: '/proc/none/x.png'"),
        (["curve", "{a}", "--out", "{tmp}/x.png", "--radii-max", "0"], "must be positive and finite, got 0.0"),
        (["curve", "{a}", "{a}", "--out", "{tmp}/x.png"], "is given 2 times"),
        (["table", "{tmp}/none"], "No such file or directory: '{tmp}/none'"),
        (["table", "{tmp}"], "{tmp} has no radii.tsv; certify its model with `certify run {tmp}`"),
        (["table", "{a}", "--format", "xlsx"], "--format must be one of csv, markdown, latex, html, got 'xlsx'"),
        (["table", "{a}", "--radii", "0;1"], "--radii must be numbers separated by commas"),
        (["table", "{a}", "--radii", "0,-1"], "radii must be finite numbers >= 0"),
        (["table", "{a}", "--radii", "0,nan"], "radii must be finite numbers >= 0"),
        (["table", "{a}", "--radii", "0,0.0"], "must name each number once"),
        (
            ["table", "{a}", "--population"],
            "csv has no column for the population bounds; write markdown, latex or html",
        ),
        (["table", "{a}", "--simultaneous"], "a: the table has no column n, n_a, p_a_lower, sigma, alpha, without"),
        (["table", "{a}", "--labels", "x,y"], "labels must be 1 different names"),
        (["table", "{tmp}/empty"], "empty: the table has no rows"),
        (["table", "{tmp}/bad"], "bad, line 2: radius must be a number >= 0, got 'x'"),
        (["table", "{a}", "--out", "{tmp}"], "{tmp} is a folder"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_status_2(
    logs: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    (tmp_path / "empty").write_text(HEADER)
    (tmp_path / "bad").write_text(HEADER + "0\t1\t1\tx\t1\t3\n")
    before = set(tmp_path.iterdir())
    assert call(monkeypatch, *(part.format(a=logs[0], tmp=tmp_path) for part in arguments)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.split(": ")[0] for line in without_notes(said.err)] == ["error"]
    assert message.format(a=logs[0], tmp=tmp_path) in said.err
    assert set(tmp_path.iterdir()) == before


def test_the_module_runs_without_torch_or_a_display_and_its_help_is_the_manual(logs: tuple[str, str]) -> None:
    script = (
        "import sys; sys.argv = ['analysis', 'table', sys.argv[1]]\n"
        "import analysis.__main__ as module\n"
        "assert 'python -m analysis curve' in module.app.info.help\n"
        "assert 'torch' not in sys.modules and 'matplotlib.pyplot' not in sys.modules\n"
        "module.main()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, logs[0]],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, without_notes(done.stderr)) == (0, [])
    assert done.stdout.startswith("run,images,")
