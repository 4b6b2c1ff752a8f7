import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal
from places import REFERENCE, ROOT, SHARED
from scipy.io import savemat

from maxup_smoothing.analysis.runs.run import load
from maxup_smoothing.certify.logs import reader
from maxup_smoothing.certify.logs.reader import DIALECTS, read_log
from maxup_smoothing.certify.logs.settings import infer_settings
from maxup_smoothing.certify.tables import radius_table as tables
from maxup_smoothing.certify.tables.summary import certified_accuracy, summarize

LOGS = SHARED / "reference-logs"
EXCERPTS = REFERENCE / "logs"
SIX = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"

needs_logs = pytest.mark.skipif(not LOGS.exists(), reason="the reference logs beside the repository are not here")


def write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path


def answers() -> list[dict[str, object]]:
    return json.loads((LOGS / "answers.json").read_text()) if LOGS.exists() else []


@needs_logs
@pytest.mark.parametrize("answer", answers(), ids=lambda answer: str(answer["file"]))
def test_published_numbers_come_out_exactly(answer: dict[str, object]) -> None:
    log = read_log(LOGS / str(answer["file"]))
    summary = summarize(log.table)
    assert (log.kind, summary.images) == ("radii", answer["rows"])
    assert round(summary.acr, 6) == answer["ACR"]
    assert round(summary.abstained / summary.images, 6) == answer["abstain"]
    assert summary.largest_radius == answer["max_radius"]
    assert round(summary.median_seconds, 4) == answer["median_seconds"]
    stated = answer["certified_accuracy"]
    assert isinstance(stated, dict)
    curve = certified_accuracy(log.table, [float(radius) for radius in stated])
    assert [round(share, 6) for share in curve["accuracy"]] == list(stated.values())


@needs_logs
def test_the_authors_own_curve_comes_out_at_each_of_its_radii() -> None:
    curve = read_log(LOGS / "logs" / "salman-consistency-mnist-0.50_acc")
    log = read_log(LOGS / "logs" / "salman-consistency-mnist-0.50")
    # Its authors multiplied in floating point, and 70 * 0.005 is above 0.35: what is printed as 0.35 fell out there.
    theirs = certified_accuracy(log.table, [step * 0.005 for step in range(801)])
    assert (curve.kind, len(curve.table)) == ("curve", 801)
    assert theirs["accuracy"].tolist() == curve.table["accuracy"].tolist()
    exact = certified_accuracy(log.table, curve.table["radius"].tolist())
    more = exact["accuracy"] - curve.table["accuracy"]
    assert (more >= 0).all()
    assert sorted(exact["radius"][more > 0])[:3] == [0.35, 0.47, 0.57]
    assert (more > 0).sum() == 23


@needs_logs
@pytest.mark.parametrize(
    ("name", "sigma", "alpha"),
    [
        ("cohen-cifar10-0.12", 0.12, 0.001),
        ("cohen-cifar10-0.25", 0.25, 0.01),
        ("cohen-imagenet-0.25", 0.25, 0.01),
        ("cohen-imagenet-1.00", 1.0, 0.01),
        ("gaussian4-cifar10-0.50.tsv", 0.5, 0.001),
    ],
)
def test_the_tail_tells_alpha_and_n(name: str, sigma: float, alpha: float) -> None:
    log = read_log(LOGS / "logs" / name)
    for known in (sigma, None):
        found = infer_settings(log.table["radius"], known)
        assert found is not None
        assert (found.n, found.alpha, found.sigma) == (100_000, alpha, sigma)
    assert sum(f"the tail fits alpha = {alpha:g}, n = 100,000" in note for note in log.notes) == 1
    assert {"n", "alpha"}.isdisjoint(log.table)  # what is inferred is not told


def test_too_few_radii_tell_no_settings() -> None:
    assert infer_settings([1.91]) is None
    assert infer_settings(["1.91", "1.86", "0.3"], 0.5) is None
    assert infer_settings([]) is None


@needs_logs
def test_a_log_that_stops_early_says_so() -> None:
    notes = read_log(LOGS / "logs" / "cohen-imagenet-0.25").notes
    assert any(note.startswith("stops after 427 rows") for note in notes)
    assert any("3 significant digits, rounded to the nearest: up to 0.5 % too large" in note for note in notes)


def test_a_log_with_six_columns_is_what_the_radius_table_reader_gives() -> None:
    for path in (EXCERPTS / "cohen-seconds", EXCERPTS / "catrs.tsv"):
        assert_frame_equal(read_log(path).table, tables.read(path))


@pytest.mark.parametrize(
    ("name", "dialect", "kind", "rows"),
    [
        ("cohen-seconds", "cohen", "radii", 60),
        ("catrs.tsv", "cohen", "radii", 100),
        ("smoothadv-predict", "predict", "predictions", 60),
        ("dsrs-sampling.txt", "dsrs-sampling", "sampling", 60),
        ("curve_acc", "curve", "curve", 100),
    ],
)
def test_excerpts_are_known_by_their_content(tmp_path: Path, name: str, dialect: str, kind: str, rows: int) -> None:
    path = tmp_path / "no-suffix"
    path.write_bytes((EXCERPTS / name).read_bytes())
    log = read_log(path)
    assert (log.dialect, log.kind, len(log.table)) == (dialect, kind, rows)


def test_both_ways_of_writing_a_time(tmp_path: Path) -> None:
    times = ("0:00:13.736080", "0:00:15", "15.4", "1 day, 0:00:01", "2 days, 1:00:00.5")
    text = SIX + "".join(f"{idx}\t1\t1\t0.5\t1\t{time}\n" for idx, time in enumerate(times))
    assert read_log(write(tmp_path / "a", text)).table["time"].tolist() == [13.73608, 15, 15.4, 86401, 176400.5]


def test_a_radius_counts_at_itself_and_the_grid_has_no_float_error(tmp_path: Path) -> None:
    table = read_log(write(tmp_path / "a", SIX + "0\t1\t1\t1.91\t1\t1\n1\t1\t1\t0.3\t1\t1\n")).table
    grid = [step / 100 for step in range(200)]
    accuracy = dict(zip(grid, certified_accuracy(table, grid)["accuracy"], strict=True))
    assert (accuracy[1.91], accuracy[1.92], accuracy[0.3], accuracy[0.31]) == (0.5, 0, 1, 0.5)
    assert np.cumsum([0.01] * 191)[-1] > 1.91  # what such a grid must not be


def test_abstentions_and_wrong_predictions(tmp_path: Path) -> None:
    table = read_log(write(tmp_path / "a", SIX + "0\t3\t-1\t0.0\t0\t1\n1\t3\t2\t0.0125\t0\t1\n")).table
    assert table[["predict", "radius", "correct"]].values.tolist() == [[-1, 0, 0], [2, 0.0125, 0]]


def test_a_last_line_that_is_cut_off_is_left_out_with_a_note(tmp_path: Path) -> None:
    text = SIX + "0\t3\t3\t0.5\t1\t0:00:01\n1\t3\t3\t1.2"
    log = read_log(write(tmp_path / "a", text))
    assert len(log.table) == 1
    assert any("line 3, the last, is cut off" in note for note in log.notes)
    with pytest.raises(ValueError, match="line 3: correct is 1"):  # whole, and wrong
        read_log(write(tmp_path / "c", text.replace("3\t3\t1.2", "3\t2\t1.2\t1\t1")))
    with pytest.raises(ValueError, match="line 3: expected 6"):  # a whole line that is short is a fault
        read_log(write(tmp_path / "b", text + "\n"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1\t3\t3\tnan\t1\t1", "line 3: radius must be a number >= 0"),
        ("1\t3\t3\tinf\t1\t1", "line 3: radius must be"),
        ("1\t3\t3\t1e999\t1\t1", "line 3: radius must be"),
        ("1\t3\t3\t-0.5\t1\t1", "line 3: radius must be"),
        ("0\t3\t3\t0.5\t1\t1", "line 3: idx 0 is there twice"),
        (f"{10**30}\t3\t3\t0.5\t1\t1", "line 3: idx must be"),
        ("1\t3\t-2\t0\t0\t1", "line 3: predict must be"),
        ("1\t3\t-1\t0.5\t0\t1", "line 3: an abstention must have radius 0"),
        ("1\t3\t2\t0.5\t1\t1", "line 3: correct is 1, but predict is 2 and label 3"),
        ("1\t3\t3\t0.5\t1\tsoon", "line 3: time must be"),
    ],
)
def test_impossible_rows_are_refused_with_their_line(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_log(write(tmp_path / "a", f"{SIX}0\t3\t3\t0.5\t1\t1\n{row}\n"))


@pytest.mark.parametrize("header", [SIX, SIX.rstrip(), SIX.replace("\tradius", ""), "idx\tlabel\tcounts\n"])
def test_a_header_alone_has_no_rows(tmp_path: Path, header: str) -> None:
    with pytest.raises(ValueError, match="the table has no rows"):
        read_log(write(tmp_path / "a", header))


def test_an_unknown_file_names_its_columns_and_the_dialects(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has the columns epoch loss\. Known dialects: .*cohen, .*predict"):
        read_log(write(tmp_path / "a", "epoch\tloss\n1\t2\n"))
    with pytest.raises(ValueError, match=r"columns \(none\)"):
        read_log(write(tmp_path / "b", ""))
    with pytest.raises(FileNotFoundError):
        read_log(tmp_path / "c")
    with pytest.raises(IsADirectoryError):
        read_log(tmp_path)


def test_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "LARGEST", 10)
    with pytest.raises(ValueError, match="more than 10"):
        read_log(write(tmp_path / "a", SIX))


def test_what_is_given_becomes_a_column_and_must_not_contradict(tmp_path: Path) -> None:
    path = write(tmp_path / "a", SIX + "0\t1\t1\t0.5\t1\t1\n")
    table = read_log(path, sigma=0.5, n=100_000, alpha=0.001).table
    assert table[["sigma", "n", "alpha"]].values.tolist() == [[0.5, 100_000, 0.001]]
    assert table["n"].dtype == np.int64
    assert table["radius"].tolist() == [0.5]
    told = write(tmp_path / "b", "idx\tlabel\tpredict\tradius\tcorrect\tsigma\ttime\n0\t1\t1\t0.5\t1\t0.3\t1\n")
    with pytest.raises(ValueError, match=r"sigma=0\.5 was given, but the file says \[0\.3\]"):
        read_log(told, sigma=0.5)
    for name, value in (("sigma", 0.0), ("sigma", float("nan")), ("alpha", 1.0), ("n", 0), ("n", 10**10)):
        with pytest.raises(ValueError, match=f"{name} must be"):
            read_log(path, **{name: value})  # type: ignore[arg-type]


def test_any_dialect_with_radii_is_a_run_and_others_say_why_not(tmp_path: Path) -> None:
    runs = load([EXCERPTS / "catrs.tsv", EXCERPTS / "dsrs-sampling.txt"])
    assert [run.summary.images for run in runs] == [100, 60]
    assert runs[1].summary.acr > 1
    for name in ("smoothadv-predict", "curve_acc"):
        with pytest.raises(ValueError, match="has no radii of images"):
            load([EXCERPTS / name])


def test_names_of_dialects_differ_and_ours_stays_ours() -> None:
    names = [dialect.name for dialect in DIALECTS]
    assert len(set(names)) == len(names)
    ours = ROOT / "docs" / "results" / "lenet" / "fashion_mnist" / "maxup-4" / "radii.tsv"
    log = read_log(ours)
    assert log.dialect == "maxup-smoothing"
    assert_frame_equal(log.table, tables.read(ours))


def arrays() -> Iterator[bytes]:
    for compressed in (False, True):
        mat = io.BytesIO()
        savemat(mat, {"hard": np.array([0.5, -1.0])}, do_compression=compressed)  # type: ignore[arg-type]
        yield mat.getvalue()
    npy = io.BytesIO()
    np.save(npy, np.array([["0", "3", "3", "1", "1", "0", "0.99", "0:00:01"]]))
    yield npy.getvalue()


SEEDS = [*(path.read_bytes()[:600] for path in sorted(EXCERPTS.iterdir())), *arrays()]
HEADERS = [
    SIX.encode(),
    b"idx\tlabel\tcounts\n",
    b"MATLAB 5.0 MAT-file",
    b"\x93NUMPY\x01\x00",
    b"x std 0.5\n",
    b"0 1.5",
]


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "log"


def attempt(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        log = read_log(path, sigma=0.5, n=1000, alpha=0.001)
    except (ValueError, OSError):
        return
    assert log.kind in ("radii", "predictions", "curve", "sampling")
    assert len(log.table) > 0
    if "radius" in log.table:
        assert np.isfinite(log.table["radius"]).all()
        assert (log.table["radius"] >= 0).all()
    assert isinstance(log.table, pd.DataFrame)


@settings(max_examples=300, deadline=None)
@given(start=st.sampled_from([b"", *HEADERS]), rest=st.binary(max_size=200))
def test_any_bytes_are_a_log_or_a_value_error(scratch: Path, start: bytes, rest: bytes) -> None:
    attempt(scratch, start + rest)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), seed=st.sampled_from(SEEDS))
def test_any_damage_to_a_log_leaves_a_log_or_a_value_error(scratch: Path, data: st.DataObject, seed: bytes) -> None:
    start = data.draw(st.integers(0, len(seed)))
    end = data.draw(st.integers(start, min(len(seed), start + 30)))
    piece = data.draw(st.one_of(st.binary(max_size=12), st.text("0123456789.-+e\t\n nanif[],xo", max_size=12)))
    attempt(scratch, seed[:start] + (piece if isinstance(piece, bytes) else piece.encode()) + seed[end:])
