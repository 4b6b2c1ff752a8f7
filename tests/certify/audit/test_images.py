"""Which images a log is of: rows that are there twice, missing, or cut off at the end."""

from pathlib import Path

import pytest
from audited_logs import HEADER, checks, field_log, of, replaced, write

from maxup_smoothing.certify.audit.auditing import audit_log


def test_an_idx_that_is_there_twice_is_an_error(tmp_path: Path) -> None:
    lines = field_log()
    result = audit_log(write(tmp_path, [*lines, lines[3], lines[3], lines[4]]))
    finding = of(result, "duplicate-idx")
    assert (finding.level, finding.rows) == ("error", 3)
    assert "idx 40 is there 3 times, lines 4, 502, 503;" in finding.message


def test_rows_missing_from_a_regular_stride_are_counted(tmp_path: Path) -> None:
    lines = field_log()
    finding = of(audit_log(write(tmp_path, [*lines[:10], *lines[12:300], *lines[301:]])), "missing-rows")
    assert (finding.level, finding.rows) == ("warning", 3)
    assert "steps of 20, but 3 of the rows are missing, that of idx 180 first" in finding.message
    faulty = audit_log(write(tmp_path, replaced(lines, 7, radius="nan")))
    assert "missing-rows" not in checks(faulty)  # the row is there, though it is none


@pytest.mark.parametrize(
    ("indices", "missing"),
    [
        (range(0, 10_000, 20), None),
        (range(0, 50_000, 100), None),
        (range(0, 42_700, 100), 73),
        (range(0, 5_000, 20), 250),
        (range(26_032), None),
        (range(500, 1000), None),
        (range(513), 9_487),
        (range(9), 9_991),
    ],
)
def test_a_log_that_stops_early_is_told_from_a_whole_one(tmp_path: Path, indices: range, missing: int | None) -> None:
    lines = [HEADER.replace(" ", "\t"), *(f"{idx}\t1\t-1\t0.0\t0\t1.0" for idx in indices)]
    result = audit_log(write(tmp_path, lines))
    assert [f.rows for f in result.findings if f.check == "truncated"] == ([] if missing is None else [missing])
    if missing:
        assert f"the last idx is {indices[-1]}, in steps of {indices.step} from 0" in of(result, "truncated").message
