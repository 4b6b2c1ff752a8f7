"""Files that are damaged or something else: each is a finding with its reason, and none makes the audit raise."""

from pathlib import Path
from typing import Any

import pytest
from audited_logs import HEADER, checks, field_log, of, replaced, with_columns, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maxup_smoothing.certify.audit.auditing import audit_log, render


def test_a_torn_last_line_is_a_warning_and_no_row(tmp_path: Path) -> None:
    path = write(tmp_path, field_log())
    whole = path.read_bytes()
    path.write_bytes(whole[:-12])  # "…\t0.12\t1\t0:00:15\n" loses its correct and time
    result = audit_log(path, n=100_000, alpha=0.001, sigma=0.5)
    assert (result.rows, of(result, "torn-line").level, result.ok) == (499, "warning", True)
    path.write_bytes(whole[:-1])
    result = audit_log(path, n=100_000, alpha=0.001, sigma=0.5)
    assert (result.rows, of(result, "torn-line").level) == (500, "warning")
    path.write_bytes(whole)
    assert "torn-line" not in checks(audit_log(path))


def test_carriage_returns_and_white_space_are_read_and_noted(tmp_path: Path) -> None:
    lines = field_log(repr)
    told: dict[str, Any] = {"n": 100_000, "alpha": 0.001, "sigma": 0.5}
    for spoiled in (
        [f"{line}\r" for line in lines],
        [line.replace("\t", " \t ") for line in lines],
        [lines[0], *(f"{line}\t" for line in lines[1:])],
        [*lines[:7], "", *lines[7:], ""],
    ):
        result = audit_log(write(tmp_path, spoiled), **told)
        assert (result.verdict, checks(result), result.rows) == ("PASS", {"white-space"}, 500)


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = write(tmp_path, field_log(repr))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert audit_log(path, n=100_000, alpha=0.001, sigma=0.5).findings == ()


def test_a_running_count_of_correct_rows_is_one_error_and_the_radii_are_audited_still(tmp_path: Path) -> None:
    lines, hits = field_log(), 0
    for number in range(2, len(lines) + 1):
        hits += lines[number - 1].split("\t")[4] == "1"
        lines = replaced(lines, number, correct=str(hits))
    result = audit_log(write(tmp_path, lines), n=100_000, alpha=0.01)
    assert checks(result, "error") == {"running-count"}
    assert of(result, "rounding").rows > 0
    broken = audit_log(write(tmp_path, replaced(lines, 400, correct="0")))
    assert "running-count" not in checks(broken)
    assert of(broken, "malformed").rows > 100


PREDICTIONS = (
    "idx\tlabel\tpredict\tbasePredict\tcorrect\ttime\r\n0\t3\t3\t2\t1\t0:00:03.101524\r\n40\t4\t8\t8\t0\t0:00:02.94\r\n"
)
VOTES_ONLY = (
    "idx\tlabel\tpredict\tcount\tany_iid_distribution_bound\tcorrect\ttime\n0\t3\t3\t93944\t78.118\t1\t0:00:16.6\n"
)


def test_logs_without_radii_say_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(PREDICTIONS.encode())
    result = audit_log(path)
    assert (result.ok, result.rows) == (True, 2)
    assert "a PREDICT log" in of(result, "no-radius").message
    path.write_bytes(PREDICTIONS.replace("\t8\t0\t", "\t8\t1\t").encode())
    assert checks(audit_log(path), "error") == {"contradiction"}
    path.write_bytes(VOTES_ONLY.encode())
    assert "the votes in the column count" in of(audit_log(path), "no-radius").message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("0.00000\t0.98610\n0.00500\t0.98590\n", "it is a curve"),
        ("Files already downloaded and verified\n", "its first line has the columns Files already downloaded"),
        ("\x00\x01\x02\x03\n", "it is a binary file"),
        ("\x1f\x8b\x08\x00", "it is compressed with gzip"),
    ],
)
def test_a_file_that_is_something_else_is_one_error(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "log"
    path.write_text(content, encoding="latin-1")
    result = audit_log(path)
    assert [finding.check for finding in result.findings] == ["not-a-table"]
    assert message in result.findings[0].message
    assert (result.ok, result.rows, result.verdict) == (False, 0, "FAIL")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("\nx disttype gaussian\nx std 0.5\no 9980 0.9949883769998344 0.9969624183275306\n", "certify audit --n"),
        ("idx\tlabel\tpredict\tradius\tcorrect\tcorrect\n", "one is there twice"),
        ("\x93NUMPY\x00\x01\n", "cannot be read as an array"),
    ],
)
def test_a_log_that_cannot_be_read_as_a_whole_is_one_error(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "log"
    path.write_text(content, encoding="latin-1")
    result = audit_log(path)
    assert [finding.check for finding in result.findings] == ["unreadable"]
    assert message in result.findings[0].message
    assert (result.ok, result.rows, result.verdict) == (False, 0, "FAIL")


def test_a_header_alone_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = audit_log(write(tmp_path, [HEADER.replace(" ", "\t")]))
    assert (result.verdict, checks(result)) == ("PASS with warnings", {"empty"})
    assert [finding.check for finding in audit_log(tmp_path / "nowhere").findings] == ["unreadable"]
    assert not audit_log(tmp_path).ok


def test_a_report_starts_with_the_verdict_and_keeps_to_100_columns(tmp_path: Path) -> None:
    lines = replaced(field_log(), 3, radius="x" * 5000)
    result = audit_log(write(tmp_path, lines, "noise_0.50"))
    text = render(result)
    assert text.startswith("FAIL: ")
    assert max(map(len, text.splitlines())) <= 100
    assert len(text) < 3000
    assert "500 rows; sigma 0.5 (file name), n 100000 (inferred), alpha 0.001 (inferred)" in text
    assert (
        text.index("  error    malformed: line 3")
        < text.index("  warning  rounding")
        < text.index("  note     settings")
    )


BYTES = "".join(
    f"{line}\n" for line in with_columns(field_log()[:60], n="100000", alpha="0.001", count="99000")
).encode()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_makes_the_audit_raise(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(BYTES)
    for _ in range(data.draw(st.integers(0, 6))):
        at = data.draw(st.integers(0, len(content) - 1))
        junk = st.sampled_from(
            [b"\t", b"\n", b"\r", b"-", b"e9", b"e-300", b"e300", b"0.", b"9" * 17, b"\xff", b"", b"\0"]
        )
        content[at : at + data.draw(st.integers(0, 9))] = data.draw(junk)
    path = tmp_path / "log"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    result = audit_log(path)
    assert max(map(len, render(result).splitlines())) <= 100
    assert result.verdict in ("PASS", "PASS with warnings", "FAIL")
