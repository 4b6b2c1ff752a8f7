import contextlib
import dataclasses
import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certify.looks import Look
from certify.manifest import manifest_path
from certify.procedures import certificate
from certify.radius import ceiling_radius
from certify.table import COLUMNS, INVALID, RadiusTable, Row, format_row, format_seconds, parse_row, read, row_of

MANIFEST = {"certification": {"n": 1000, "alpha": 0.001}, "notes": {"host": "a"}}
SIX = "idx\tlabel\tpredict\tradius\tcorrect\ttime"


def make_row(idx: int, n_a: int = 990, *, n: int = 1000, sigma: float = 0.5, label: int = 3) -> Row:
    votes_V = np.array([0, 0, 0, n_a, 0, n - n_a, 0])
    proved = certificate(np.array([0, 0, 0, 100, 0, 0, 0]), votes_V, 0.001, sigma)
    return row_of(proved, idx, label, n0=100, sigma=sigma, alpha=0.001, seconds=1.25)


def write_table(path: Path, rows: int = 3) -> bytes:
    with RadiusTable.open(path, MANIFEST) as table:
        for idx in range(rows):
            table.append(make_row(20 * idx, 990 - 300 * idx))
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "x" / "radii.tsv"


def test_a_table_is_exactly_these_bytes(path: Path) -> None:
    row = dataclasses.replace(make_row(7), counts={5: 9, 3: 990, INVALID: 1, 8: 0}, seconds=90061.5)
    row = dataclasses.replace(row, looks=(Look(1000, 990, 9, 0.001),))
    with RadiusTable.open(path, MANIFEST) as table:
        table.append(row)
    assert path.read_text() == (
        "idx\tlabel\tpredict\tradius\tcorrect\ttime\tn0\tn\tn_a\tp_a_lower\tsigma\talpha\tstatus\tcounts\t"
        "selected\tp_b_upper\tprocedure\tbound\tlooks\n"
        f"7\t3\t3\t{row.radius!r}\t1\t25:01:01.500000\t100\t1000\t990\t{row.p_a_lower!r}\t0.5\t0.001\tcertified\t"
        f"invalid:1,3:990,5:9\t3\t{row.p_b_upper!r}\tfixed\tclopper-pearson\t1000:990:9:0.001\n"
    )


def test_a_row_is_on_disk_before_append_returns(path: Path) -> None:
    with RadiusTable.open(path, MANIFEST) as table:
        table.append(make_row(0))
        assert len(read(path)) == 1
        table.append(make_row(1, 300))
        assert len(read(path)) == 2


def test_what_is_written_is_read_back(path: Path) -> None:
    rows = [make_row(0), make_row(20, 300), make_row(40, label=5)]
    with RadiusTable.open(path, MANIFEST) as table:
        for row in rows:
            table.append(row)
    frame = read(path)
    assert tuple(frame.columns) == COLUMNS
    assert [parse_row(format_row(row)) for row in rows] == rows
    assert frame["radius"].tolist() == [row.radius for row in rows]
    assert frame["correct"].tolist() == [1, 0, 0]
    assert frame["time"].tolist() == [1.25] * 3
    assert frame["counts"].tolist() == [row.counts for row in rows]
    assert frame["predict"].dtype == "int64"


@given(
    st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))),
    st.floats(1e-3, 100),
    st.integers(0, 10**12),
    st.integers(0, 3),
)
def test_every_row_survives_its_line(votes: tuple[int, int], sigma: float, microseconds: int, label: int) -> None:
    n, n_a = votes
    row = make_row(5, n_a, n=n, sigma=sigma, label=label)
    counts = {label: count for label, count in row.counts.items() if count}
    row = dataclasses.replace(row, seconds=microseconds / 1e6, counts=counts)
    read_back = parse_row(format_row(row))
    assert read_back.seconds == pytest.approx(row.seconds, abs=1e-6)
    assert dataclasses.replace(read_back, seconds=row.seconds) == row


def test_a_continued_table_has_the_bytes_of_an_uninterrupted_one(path: Path, tmp_path: Path) -> None:
    whole = write_table(path)
    other = tmp_path / "other.tsv"
    for idx in range(3):  # a new process a row
        with RadiusTable.open(other, {**MANIFEST, "notes": {"host": str(idx)}}) as table:
            assert list(table.done) == [20 * done for done in range(idx)]
            table.append(make_row(20 * idx, 990 - 300 * idx))
            assert table.manifest["notes"] == {"host": "0"}
    assert other.read_bytes() == whole


def test_cut_anywhere_in_its_last_row_a_table_resumes_to_the_same_bytes(path: Path) -> None:
    whole = write_table(path)
    last = whole.rfind(b"\n", 0, -1) + 1
    for size in range(last, len(whole)):
        path.write_bytes(whole[:size])
        with RadiusTable.open(path, MANIFEST) as table:
            assert list(table.done) == [0, 20]
            assert path.read_bytes() == whole[:last]
            table.append(make_row(40, 390))
        assert path.read_bytes() == whole


def test_a_last_line_with_missing_fields_or_zeros_is_redone(path: Path) -> None:
    whole = write_table(path)
    for tail in [b"60\t3\t3\n", b"\0" * 30, b"\n", b"60\t3\t3\xff"]:
        path.write_bytes(whole + tail)
        with RadiusTable.open(path, MANIFEST) as table:
            assert list(table.done) == [0, 20, 40]
        assert path.read_bytes() == whole


def test_cut_anywhere_before_its_first_row_a_table_begins_again(path: Path) -> None:
    whole = write_table(path, 0)
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        # Without rows there is nothing that another manifest could misdescribe.
        with RadiusTable.open(path, {"certification": {"alpha": size}}) as table:
            assert table.done == {}
            assert table.manifest["certification"] == {"alpha": size}
        assert path.read_bytes() == whole


def test_damage_before_the_last_line_is_refused_and_left_alone(path: Path) -> None:
    whole = write_table(path)
    damaged = whole.replace(b"20\t3\t3\t", b"20\t3\tx\t")
    path.write_bytes(damaged + b"torn")
    with pytest.raises(ValueError, match=r"radii\.tsv, line 3: predict must be an integer >= -1, got 'x'"):
        RadiusTable.open(path, MANIFEST)
    assert path.read_bytes() == damaged + b"torn"
    twice = whole + whole.splitlines(keepends=True)[1]
    path.write_bytes(twice)
    with pytest.raises(ValueError, match="line 5: idx 0 is there twice"):
        RadiusTable.open(path, MANIFEST)
    assert path.read_bytes() == twice


def test_another_manifest_is_refused_by_field_and_values(path: Path) -> None:
    whole = write_table(path) + b"60\t3"
    path.write_bytes(whole)
    beside = manifest_path(path).read_bytes()
    with pytest.raises(
        ValueError,
        match=r"radii\.tsv was certified with certification\.alpha=0\.001, this run uses certification\.alpha=0\.01; "
        r"write to another file or pass --overwrite",
    ):
        RadiusTable.open(path, {"certification": {"n": 1000, "alpha": 0.01}})
    assert path.read_bytes() == whole
    assert manifest_path(path).read_bytes() == beside


@pytest.mark.parametrize(
    ("content", "with_manifest"),
    [
        (b"precious\n", False),
        (b"precious", False),
        (b"precious\n", True),
        (b"precious", True),
        (SIX.encode() + b"\n", False),
        (SIX.encode() + b"\n", True),
        (SIX.encode(), False),  # with our manifest beside it, this would be our own header, torn
    ],
)
def test_a_foreign_file_is_never_touched(path: Path, content: bytes, with_manifest: bool) -> None:
    if with_manifest:
        write_table(path, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(ValueError, match="--overwrite"):
        RadiusTable.open(path, MANIFEST)
    assert path.read_bytes() == content


def test_a_damaged_manifest_stops_a_continuation(path: Path) -> None:
    whole = write_table(path)
    manifest_path(path).write_text("{")
    with pytest.raises(ValueError, match=r"radii\.manifest\.json is damaged"):
        RadiusTable.open(path, MANIFEST)
    assert path.read_bytes() == whole


def test_overwrite_begins_anew_with_the_new_manifest(path: Path) -> None:
    write_table(path)
    new = {"certification": {"alpha": 0.5}}
    with RadiusTable.open(path, new, overwrite=True) as table:
        assert table.done == {}
        assert table.manifest == {"schema": 1, **new}
    assert path.read_text() == "\t".join(COLUMNS) + "\n"


def test_what_json_cannot_say_stops_before_anything_is_touched(path: Path) -> None:
    whole = write_table(path)
    with pytest.raises(ValueError, match="JSON"):
        RadiusTable.open(path, {"alpha": float("inf")}, overwrite=True)
    assert path.read_bytes() == whole


def _try_to_open(path: Path, answer: Any) -> None:
    try:
        RadiusTable.open(path, MANIFEST, overwrite=True)
        answer.put("opened")
    except ValueError as error:
        answer.put(str(error))


def test_a_second_process_is_refused_until_the_first_has_closed(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    answer: Any = context.Queue()
    with RadiusTable.open(path, MANIFEST) as table:
        table.append(make_row(0))
        process = context.Process(target=_try_to_open, args=(path, answer))
        process.start()
        assert "is being written by another process" in answer.get(timeout=60)
        process.join()
        with pytest.raises(ValueError, match="is being written by another process"):
            RadiusTable.open(path, MANIFEST)
        assert len(read(path)) == 1
    RadiusTable.open(path, MANIFEST).close()


def test_a_full_disk_leaves_the_earlier_rows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with RadiusTable.open(path, MANIFEST) as table:
        table.append(make_row(0))
        before = path.read_bytes()
        monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:10]))  # a short write
        with pytest.raises(OSError, match=r"cannot write: No space left on device.*radii\.tsv"):
            table.append(make_row(1))
        assert path.read_bytes() == before

        def full(descriptor: int, data: bytes) -> int:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "write", full)
        with pytest.raises(OSError, match=r"No space left on device.*radii\.tsv"):
            table.append(make_row(1))
        monkeypatch.undo()
        table.append(make_row(1))  # and goes on when there is room again
    assert list(read(path)["idx"]) == [0, 1]


def test_a_row_twice_or_one_that_read_would_refuse_is_not_written(path: Path) -> None:
    with RadiusTable.open(path, MANIFEST) as table:
        table.append(make_row(0))
        before = path.read_bytes()
        with pytest.raises(ValueError, match="has a row for idx 0 already"):
            table.append(make_row(0))
        with pytest.raises(ValueError, match=r"row for idx 1 is refused: .*radius"):
            table.append(dataclasses.replace(make_row(1), radius=1.0))
        assert path.read_bytes() == before


GOOD = make_row(0)
ABSTENTION = make_row(0, 300)


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("idx", "-1", "idx must be an integer >= 0, got '-1'"),
        ("idx", "1_0", "idx must be an integer"),
        ("label", "3.0", "label must be an integer >= 0, got '3.0'"),
        ("predict", "-2", "predict must be an integer >= -1"),
        ("radius", "-0.1", "radius must be a number >= 0"),
        ("radius", "nan", "radius must be a number >= 0, got 'nan'"),
        ("radius", "inf", "radius must be a number >= 0"),
        ("radius", "1e999", "radius must be a number >= 0"),
        ("radius", "", "radius must be a number >= 0, got ''"),
        ("radius", repr(ceiling_radius(1000, 0.001, 0.5) * 1.0001), "the most that n=1000 votes can certify"),
        ("radius", repr(GOOD.radius * 1.0001), "but p_a_lower=0.97603"),
        ("correct", "2", r"correct must be an integer in \[0, 1\]"),
        ("correct", "0", "correct is 0, but predict is 3 and label 3"),
        ("time", "soon", "time must be a time, h:mm:ss.ffffff or seconds, got 'soon'"),
        ("time", "0:60:00", "time must be"),
        ("time", "-1", "time must be"),
        ("n", "0", "n must be an integer >= 1"),
        ("n", "1001", "counts sum to 1000, but n is 1001"),
        ("n_a", "1001", "n_a is 1001, more than n=1000"),
        ("n_a", "991", "counts of class 3 are not n_a=991"),
        ("p_a_lower", "1.0", r"p_a_lower must be a number in \[0, 1\)"),
        ("p_a_lower", "0.9761", "but n_a=990 of n=1000 give 0.97603"),
        ("sigma", "0", "sigma must be a number > 0"),
        ("sigma", "0.49", "but p_a_lower=0.97603"),
        ("alpha", "1", r"alpha must be a number in \(0, 1\)"),
        ("alpha", "0.0001", "p_a_lower is 0.97603"),
        ("status", "fine", "status must be one of certified, abstain"),
        ("status", "abstain", "status is abstain, but predict is 3"),
        ("counts", "3:990", "counts sum to 990, but n is 1000"),
        ("counts", "3:990,5:5,5:5", "counts must be class:count pairs with each class once"),
        ("counts", "3:990,5", "counts must be class:count pairs"),
        ("counts", "3:1000,5:0", "counts must be class:count pairs"),
        ("counts", "-2:10,3:990", "counts must be class:count pairs"),
    ],
)
def test_a_bad_field_is_named_with_its_line(tmp_path: Path, field: str, text: str, message: str) -> None:
    texts = format_row(make_row(0)).split("\t")
    texts[COLUMNS.index(field)] = text
    path = tmp_path / "t"
    path.write_text("\t".join(COLUMNS) + "\n" + format_row(make_row(9)) + "\n" + "\t".join(texts) + "\n")
    with pytest.raises(ValueError, match=f"t, line 3: .*{message}"):
        read(path)


def test_an_abstention_certifies_nothing(tmp_path: Path) -> None:
    for field, text, message in [
        ("radius", "0.1", "an abstention must have radius 0"),
        ("correct", "1", "correct is 1, but predict is -1"),
        ("status", "certified", "status is certified, but predict is -1"),
        ("n_a", "299", "no class has n_a=299 counts"),
    ]:
        texts = format_row(ABSTENTION).split("\t")
        texts[COLUMNS.index(field)] = text
        with pytest.raises(ValueError, match=message):
            parse_row("\t".join(texts))


def test_a_log_of_six_columns_is_read_and_foreign_columns_stay_text(tmp_path: Path) -> None:
    path = tmp_path / "noise_0.25"
    path.write_bytes(f"{SIX}\tstage\r\n20\t7\t7\t0.0734\t1\t15.4\t2\r\n40\t7\t-1\t0.0\t0\t0:00:15\t1\r\n".encode())
    table = read(path)
    assert table["radius"].tolist() == [0.0734, 0.0]
    assert table["time"].tolist() == [15.4, 15.0]
    assert table["stage"].tolist() == ["2", "1"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:00:13.736080", 13.73608),
        ("0:00:15", 15.0),
        ("15.4", 15.4),
        ("25:01:01.500000", 90061.5),
        ("1 day, 1:01:01.500000", 90061.5),
        ("2 days, 0:00:00", 172800.0),
    ],
)
def test_every_known_way_to_write_a_time_is_seconds(tmp_path: Path, text: str, seconds: float) -> None:
    path = tmp_path / "t"
    path.write_text(f"{SIX}\n0\t1\t1\t0.5\t1\t{text}\n")
    assert read(path)["time"].tolist() == [seconds]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0:00:00.000000"),
        (15.0, "0:00:15.000000"),
        (59.9999999, "0:01:00.000000"),
        (360000.25, "100:00:00.250000"),
    ],
)
def test_times_are_written_with_six_decimals_and_without_days(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is not a radius table: .*missing: idx label predict radius correct time"),
        ("idx\tlabel\tpredict\tcorrect\ttime\n", "missing: radius"),
        (f"{SIX}\tidx\n", "one is there twice"),
        (f"{SIX}\n0\t1\t1\t0.5\t1\n", "line 2: expected 6 tab-separated fields, got 5"),
        (f"{SIX}\n0\t1\t1\t0.5\t1\t3\n0\t1\t1\t0.5\t1\t3\n", "line 3: idx 0 is there twice"),
        (f"{SIX}\n\n", "line 2: expected 6"),
    ],
)
def test_what_is_no_radius_table_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "t"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read(path)


def test_a_table_without_rows_is_read(path: Path) -> None:
    write_table(path, 0)
    table = read(path)
    assert len(table) == 0
    assert table["idx"].dtype == "int64"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing_here"):
        read(tmp_path / "nothing_here")


@settings(max_examples=300)
@given(st.binary(max_size=60) | st.text("0123456789\t\n.:-e", max_size=60).map(str.encode))
def test_any_bytes_are_a_table_or_a_clear_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t"
        path.write_bytes(f"{SIX}\n".encode() + content)
        with contextlib.suppress(ValueError):
            read(path)
