"""Logs of others in the commands of analysis: what may be compared, and folders and curves that every command reads."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from analysis_call import HEADER, call
from scipy.special import ndtri

from maxup_smoothing.analysis.comparison.networks import compare_tables
from maxup_smoothing.analysis.curves import recorded_curve
from maxup_smoothing.certify.audit.auditing import audit_log
from maxup_smoothing.certify.logs.reader import read_log
from maxup_smoothing.certify.logs.settings import norm_of
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound

Call = pytest.MonkeyPatch
Said = pytest.CaptureFixture[str]


def log_of(path: Path, radii: Sequence[float], step: int = 1) -> str:
    path.write_text(HEADER + "".join(f"{step * at}\t1\t1\t{radius:.3g}\t1\t3\n" for at, radius in enumerate(radii)))
    return str(path)


def recognised(sigma: float = 0.25) -> list[float]:
    """Radii of 100,000 votes at alpha = 0.001 near their ceiling, by which a log's settings are known."""
    return [float(sigma * ndtri(lower_confidence_bound(n_a, 100_000, 0.001))) for n_a in range(100_000, 99_900, -2)]


UNRECOGNISED = [0.3 + 0.0123 * at for at in range(50)]  # up to 0.903, on no usual lattice's end


@pytest.fixture
def logs(tmp_path: Path) -> dict[str, str]:
    return {
        "quarter": log_of(tmp_path / "a.tsv", recognised()),
        "above": log_of(tmp_path / "b.tsv", [2 * radius for radius in UNRECOGNISED]),
        "below": log_of(tmp_path / "c.tsv", UNRECOGNISED),
        "other": log_of(tmp_path / "d.tsv", [0.9 * radius for radius in UNRECOGNISED]),
        "shift": log_of(tmp_path / "e.tsv", [10 * radius for radius in UNRECOGNISED]),
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("above", "b has the radius 1.81, above 0.9528, the most that the settings of a can certify"),
        ("below", "the radii of a fit usual settings (a: n = 100000, alpha = 0.001, sigma = 0.25), and those of c fit"),
    ],
)
def test_settings_that_the_radii_refute_are_not_taken_to_be_equal(
    logs: dict[str, str], tmp_path: Path, monkeypatch: Call, capsys: Said, name: str, message: str
) -> None:
    for pair in ((logs["quarter"], logs[name]), (logs[name], logs["quarter"])):
        assert call(monkeypatch, "compare", *pair, "--radii", "0.5") == 2
        said = capsys.readouterr()
        assert message in said.err
        assert "--different-sigma" in said.err
        assert (said.out, "taken to be equal" in said.err) == ("", False)
    assert call(monkeypatch, "compare", *pair, "--radii", "0.5", "--different-sigma") == 0
    said = capsys.readouterr()
    assert "50 images, paired" in said.out
    assert "warning: no table tells n, alpha; taken to be equal" in said.err
    assert call(monkeypatch, "table", *pair, "--radii", "0.5") == 0
    assert f"warning: {message}" in capsys.readouterr().err
    page = tmp_path / "page.html"
    assert call(monkeypatch, "report", *pair, "--out", str(page)) == 0
    assert "Not compared" in page.read_text()
    assert "not the same settings" in page.read_text()


def test_a_report_does_not_take_settings_that_one_log_tells_for_those_of_another_that_exceeds_them(
    logs: dict[str, str], tmp_path: Path, monkeypatch: Call
) -> None:
    told, page = tmp_path / "told.tsv", tmp_path / "page.html"
    options = ["--sigma", "0.25", "--n", "100000", "--alpha", "0.001"]
    assert call(monkeypatch, "import", logs["quarter"], *options, "--out", str(told)) == 0
    assert call(monkeypatch, "report", str(told), logs["above"], "--out", str(page)) == 0
    assert "Not compared: b has the radius 1.81, above 0.9528" in page.read_text()
    assert call(monkeypatch, "report", str(told), logs["below"], "--out", str(page)) == 0
    assert "Not compared" not in page.read_text()


def test_settings_that_nothing_refutes_are_taken_to_be_equal(
    logs: dict[str, str], monkeypatch: Call, capsys: Said
) -> None:
    assert call(monkeypatch, "compare", logs["below"], logs["other"], "--radii", "0.5") == 0
    assert "no table tells sigma, n, alpha; taken to be equal" in capsys.readouterr().err


def test_radii_that_cannot_be_l2_are_asked_for_their_norm(
    logs: dict[str, str], tmp_path: Path, monkeypatch: Call, capsys: Said
) -> None:
    # The rule: above the ceiling of n = 1,000,000, alpha = 0.05 and sigma = 1, the largest of the usual ones.
    ceiling = float(ndtri(lower_confidence_bound(1_000_000, 1_000_000, 0.05)))
    radii = recognised()
    for factor, norm in ((1.0, "l2"), (1.01, None)):
        table = read_log(log_of(tmp_path / "x.tsv", [*radii[:49], ceiling * factor])).table
        assert norm_of(table) == norm
        assert norm_of(table.assign(sigma=2.0)) == "l2"
    for pair in ((logs["shift"], logs["below"]), (logs["below"], logs["shift"])):
        assert call(monkeypatch, "compare", *pair, "--radii", "0.5") == 2
        said = capsys.readouterr()
        assert "note: e: the radius 9.03 is above 4.527, the most that n = 1,000,000" in said.err
        assert "error: the radii of e are too large for l2, and their norm is not told: import" in said.err
        assert said.out == ""
        assert call(monkeypatch, "table", *pair, "--radii", "0.5") == 0
        assert "warning: not comparable: the radii of e are too large for l2" in capsys.readouterr().err
    assert "norm" in {finding.check for finding in audit_log(logs["shift"]).findings}


@pytest.mark.parametrize("norm", ["l1", "linf", "shift"])
def test_radii_of_two_norms_are_never_compared(
    logs: dict[str, str], tmp_path: Path, monkeypatch: Call, capsys: Said, norm: str
) -> None:
    out = tmp_path / "told.tsv"
    told = ["--norm", norm, "--sigma", "0.5", "--n", "1000", "--alpha", "0.001"]
    assert call(monkeypatch, "import", logs["shift"], *told, "--out", str(out)) == 0
    assert out.read_text().splitlines()[0].endswith("\ttime\tsigma\talpha\tn\tnorm")
    table = read_log(out).table
    assert (norm_of(table), table["radius"].max()) == (norm, 9.03)  # no ceiling of l2 holds
    assert audit_log(out).ok
    capsys.readouterr()
    assert call(monkeypatch, "compare", str(out), logs["below"], "--radii", "0.5") == 2
    assert f"the radii are of different norms, {' and '.join(sorted(['l2 (c)', f'{norm} (told)']))}" in (
        capsys.readouterr().err
    )
    with pytest.raises(ValueError, match="a radius of one norm is no radius of another"):
        compare_tables(table, read_log(logs["below"]).table, [0.5])
    page = tmp_path / "page.html"
    assert call(monkeypatch, "report", str(out), logs["below"], "--out", str(page)) == 0
    assert "Not compared: not comparable: the radii are of different norms" in page.read_text()
    figure = str(tmp_path / "c.png")
    assert call(monkeypatch, "curve", str(out), logs["below"], "--envelope", "--out", figure) == 2
    assert "--envelope shows the best run at each radius, and the radii are of different" in capsys.readouterr().err
    again = tmp_path / "again.tsv"
    assert call(monkeypatch, "import", logs["other"], *told, "--out", str(again)) == 0
    assert call(monkeypatch, "compare", str(out), str(again), "--radii", "0.5") == 0


def test_a_norm_must_be_a_word_and_must_not_contradict_the_file(tmp_path: Path, logs: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="norm must be l2, l1, linf or another word"):
        read_log(logs["shift"], norm="L 2")
    path = tmp_path / "log"
    path.write_text(HEADER.replace("time", "time\tnorm") + "0\t1\t1\t0.5\t1\t3\tl1\n")
    with pytest.raises(ValueError, match="the norm l2 was given, but the file says l1"):
        read_log(path, norm="l2")


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    parts = {
        "preds": [[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]],
        "labels": [1, 1, 0],
        "prob_lb": [0.9, 0.7, 0.4],
        "radius_l2": [0.64, 0.26, 0],
        "radius_l1": [1.5, 0.75, 0],
        "radius_linf": [0.02, 0.01, 0],
    }
    for name, values in parts.items():
        np.save(folder / f"{name}.npy", np.array(values, dtype=np.float32))
    return folder


@pytest.mark.parametrize("command", ["table", "curve", "report", "audit", "compare", "groups"])
def test_a_folder_of_arrays_is_read_by_every_command(
    arrays: Path, tmp_path: Path, monkeypatch: Call, capsys: Said, command: str
) -> None:
    outs = {"curve": "x.png", "report": "x.html", "groups": "x.svg"}
    out = ["--out", str(tmp_path / outs[command])] if command in outs else []
    if command == "audit":
        from maxup_smoothing.certify.__main__ import main

        monkeypatch.setattr("sys.argv", ["certify", "audit", str(arrays)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code or 0) == 0
        said = capsys.readouterr().out
        assert "3 rows" in said
    else:
        other = tmp_path / "other.tsv"
        other.write_text(HEADER + "0\t1\t1\t0.5\t1\t3\n1\t1\t1\t0.5\t1\t3\n2\t0\t0\t0.5\t1\t3\n")
        assert call(monkeypatch, command, str(arrays), *([str(other)] if command == "compare" else []), *out) == 0
        said = capsys.readouterr().err + "".join(path.read_text() for path in tmp_path.glob("x.html"))
    assert "radius_l1, radius_linf left out" in " ".join(said.split())


def test_radii_of_another_norm_in_a_folder_are_read_by_name(arrays: Path) -> None:
    log = read_log(arrays, norm="l1")
    assert (log.table["radius"].tolist(), set(log.table["norm"])) == ([1.5, 0.75, 0], {"l1"})
    with pytest.raises(ValueError, match=r"has no radius_shift\.npy, but radii in l1, l2, linf"):
        read_log(arrays, norm="shift")


def test_a_folder_with_some_of_the_arrays_says_which_are_missing(arrays: Path, monkeypatch: Call, capsys: Said) -> None:
    (arrays / "labels.npy").unlink()
    assert call(monkeypatch, "table", str(arrays)) == 2
    assert "run holds some arrays of a log, but no labels.npy; expected preds" in capsys.readouterr().err


def test_a_curve_is_drawn_alone_and_beside_logs(
    logs: dict[str, str], tmp_path: Path, monkeypatch: Call, capsys: Said
) -> None:
    curve, out = tmp_path / "run_acc", tmp_path / "c.svg"
    curve.write_text("0.0\t0.9\n0.25\t0.5\n0.5\t0.3\n")
    for files in ([str(curve)], [str(curve), logs["below"]]):
        assert call(monkeypatch, "curve", *files, "--out", str(out)) == 0
        assert out.read_bytes().startswith(b"<?xml")
        assert "run_acc: images, n and alpha are not told" in capsys.readouterr().err
    for command in ("table", "report"):
        assert call(monkeypatch, command, str(curve), "--out", str(tmp_path / "x.html")) == 2
        assert "no radii of images to show; `analysis curve` draws it" in capsys.readouterr().err


def test_a_told_curve_is_never_above_what_the_file_tells(tmp_path: Path) -> None:
    path = tmp_path / "curve"
    path.write_text("0.0\t0.9\n0.25\t0.5\n0.5\t0.3\n")
    table = read_log(path).table
    for end, radius, accuracy in ((1.0, [0, 0.25, 0.5], [0.9, 0.5, 0.3]), (0.3, [0, 0.25, 0.3], [0.9, 0.5, 0.3])):
        curve = recorded_curve(table, end)
        assert (curve.radius.tolist(), curve.accuracy.tolist()) == (radius, accuracy)
        assert curve.low.tolist() == curve.high.tolist() == accuracy


def test_logs_of_more_images_are_compared_with_common_as_the_error_says(
    tmp_path: Path, monkeypatch: Call, capsys: Said
) -> None:
    many, few = log_of(tmp_path / "many", UNRECOGNISED, 20), log_of(tmp_path / "few", UNRECOGNISED[::2], 40)
    assert call(monkeypatch, "compare", many, few, "--radii", "0.5") == 2
    said = capsys.readouterr().err
    assert "pass --common to compare on the 25 images that all have." in said
    assert "--protocol" not in said
    assert call(monkeypatch, "compare", many, few, "--radii", "0.5", "--common") == 0
    other = str(tmp_path / "other")
    Path(other).write_text(HEADER + "1\t1\t1\t0.5\t1\t3\n")
    assert call(monkeypatch, "compare", many, other, "--radii", "0.5") == 2
    assert "none is in all" in capsys.readouterr().err
