"""Published curves behind runs: of the same data set, and with a warning where conditions differ."""

import json
from pathlib import Path

import pytest
from analysis_call import HEADER, call, without_notes
from written_tables import texts, write_run

from maxup_smoothing.analysis.figures.curves import draw
from maxup_smoothing.analysis.literature.curves import Published, different_conditions, load_published, require_data
from maxup_smoothing.analysis.runs.run import load


def run(folder: Path, data: str | None, n: int = 1000) -> Path:
    folder.mkdir()
    write_run(folder / "radii.tsv", [300 * n // 1000, 990 * n // 1000, n], n=n)
    manifest = {"schema": 1, "data": {"name": data}} if data is not None else {"schema": 1}
    (folder / "radii.manifest.json").write_text(json.dumps(manifest))
    return folder


def rows(sigma: float = 0.5) -> list[Published]:
    return [row for row in load_published() if (row.dataset, row.sigma) == ("fashion-mnist", sigma) and row.percent]


@pytest.mark.parametrize("data", ["mnist", "cifar10", "own.npz"])
def test_published_curves_of_another_data_set_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: str
) -> None:
    files = [str(run(tmp_path / "same", "fashion-mnist")), str(run(tmp_path / "other", data))]
    out = tmp_path / "curve.png"
    assert call(monkeypatch, "curve", *files, "--published", "fashion-mnist", "--out", str(out)) == 2
    assert capsys.readouterr().err == (
        f"error: other was certified on {data}, so published results of fashion-mnist do not belong behind it; name "
        "the data set of the runs, or leave this run out.\n"
    )
    assert not out.exists()


@pytest.mark.parametrize(
    ("data", "n", "told"),
    [
        ("fashion-mnist", 1000, "fashion-mnist, n = 1,000, alpha = 0.001"),
        ("fashion-sample", 1000, "fashion-sample, n = 1,000, alpha = 0.001"),
        ("fashion-sample", 100_000, "fashion-sample, n = 100,000, alpha = 0.001"),
        (None, 1000, "unknown, n = 1,000, alpha = 0.001"),
        ("fashion-mnist", 100_000, None),
        (None, 100_000, None),
    ],
)
def test_a_warning_names_the_conditions_of_both_where_they_differ(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    data: str | None,
    n: int,
    told: str | None,
) -> None:
    folder, out = run(tmp_path / "a", data, n), tmp_path / "curve.png"
    assert call(monkeypatch, "curve", str(folder), "--published", "fashion-mnist", "--out", str(out)) == 0
    published = "fashion-mnist, n = 100,000, alpha = 0.001"
    expected = [] if told is None else [f"warning: not comparable: published are {published}; the runs are {told}."]
    assert without_notes(capsys.readouterr().err) == expected
    assert call(monkeypatch, "curve", str(folder), "--out", str(out)) == 0
    assert without_notes(capsys.readouterr().err) == []


def test_a_damaged_manifest_is_named_before_a_curve_is_drawn_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = run(tmp_path / "a", "mnist"), tmp_path / "curve.png"
    (folder / "radii.manifest.json").write_text("{")
    assert call(monkeypatch, "curve", str(folder), "--published", "fashion-mnist", "--out", str(out)) == 2
    assert "radii.manifest.json is damaged: not JSON" in capsys.readouterr().err
    assert not out.exists()
    assert call(monkeypatch, "table", str(folder)) == 0  # nothing of it is needed


def test_what_runs_do_not_tell_is_not_taken_for_the_published(tmp_path: Path) -> None:
    (tmp_path / "log").write_text(HEADER + "0\t1\t1\t0.5\t1\t3\n")
    (log,) = load([tmp_path / "log"])
    found = different_conditions(rows(), [log.summary], ["fashion-mnist"])
    assert found is not None
    assert found.endswith("; the runs are fashion-mnist, n = unknown, alpha = unknown")


def test_a_sample_is_of_its_own_data_set_alone() -> None:
    require_data("fashion-mnist", {"a": "fashion-sample", "b": "fashion-mnist", "c": None})
    with pytest.raises(ValueError, match="a was certified on fashion-sample, so published results of mnist"):
        require_data("mnist", {"a": "fashion-sample"})
    with pytest.raises(ValueError, match="b was certified on fashion-mnist, so published results of fashion-sample"):
        require_data("fashion-sample", {"b": "fashion-mnist"})


def test_a_figure_says_of_what_data_and_n_its_published_curves_are(tmp_path: Path) -> None:
    figure = draw(load([run(tmp_path / "a", "fashion-sample") / "radii.tsv"]), published=rows())
    assert "dotted: published,\nfashion-mnist,\nn = 100,000\n* on all test images" in texts(figure)
    names = {row.method for row in rows()}
    axes = figure.axes[0]
    figure.draw_without_rendering()
    (note,) = [text for text in axes.texts if text.get_text().startswith("dotted")]
    top = note.get_window_extent().y1
    assert all(text.get_window_extent().y0 > top for text in axes.texts if text.get_text().rstrip("*") in names)
