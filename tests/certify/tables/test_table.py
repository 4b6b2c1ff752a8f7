"""What a table writes: exact bytes, row by row, of one process at a time, and nothing that it would refuse to read."""

import dataclasses
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest
import tiny_table
from hypothesis import given
from hypothesis import strategies as st
from tiny_table import MANIFEST, make_row

from maxup_smoothing.certify.statistics.certificate import Look
from maxup_smoothing.certify.tables.fields import INVALID, format_seconds
from maxup_smoothing.certify.tables.radius_table import COLUMNS, RadiusTable, format_row, parse_row, read

path = tiny_table.path


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
