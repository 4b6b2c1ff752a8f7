"""What is read: each field that is wrong is named with its line, and logs of six columns are tables."""

import contextlib
import tempfile
from pathlib import Path

import pytest
import tiny_table
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_table import SIX, make_row, write_table

from maxup_smoothing.certify.statistics.radius import ceiling_radius
from maxup_smoothing.certify.tables.fields import RowError
from maxup_smoothing.certify.tables.radius_table import COLUMNS, format_row, parse_row, read

path = tiny_table.path

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
        ("counts", "3:990,5:5,5:5", "counts must be class:count pairs .*, each class once"),
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


@pytest.mark.parametrize(
    ("column", "text", "kind", "field"),
    [
        ("radius", "nan", "malformed", "radius"),
        ("counts", "3:990,5:5,5:5", "malformed", "counts"),
        ("radius", "9.5", "ceiling", "radius"),
        ("correct", "0", "contradiction", "correct"),
        ("n", "1001", "contradiction", "counts"),
        ("p_a_lower", "0.9761", "contradiction", "p_a_lower"),
        ("bound", "clopper-pearson\t", "malformed", ""),
    ],
)
def test_an_error_of_a_row_has_its_kind_and_its_column(column: str, text: str, kind: str, field: str) -> None:
    texts = format_row(GOOD).split("\t")
    texts[COLUMNS.index(column)] = text
    with pytest.raises(RowError) as caught:
        parse_row("\t".join(texts))
    assert (caught.value.kind, caught.value.field) == (kind, field)


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
