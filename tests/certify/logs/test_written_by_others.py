"""Logs as others save, print and redirect them: read right by import and audit alike, or refused with the fix."""

import bz2
import gzip
import io
import json
import lzma
import pickle
import shlex
from pathlib import Path

import numpy as np
import pytest

from maxup_smoothing.certify.audit.auditing import audit_log, render
from maxup_smoothing.certify.logs.reader import read_log
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound
from maxup_smoothing.certify.statistics.radius import certified_radius

NAMES = ["idx", "label", "predict", "radius", "correct", "time"]
ROWS = [
    ["0", "3", "3", "0.512", "1", "0:00:01.2"],
    ["20", "2", "-1", "0.0", "0", "0:00:01"],
    ["40", "4", "5", "0.25", "0", "3.5"],
]
READ = [[0, 3, 3, 0.512, 1, 1.2], [20, 2, -1, 0, 0, 1], [40, 4, 5, 0.25, 0, 3.5]]
LINES = ["\t".join(NAMES), *("\t".join(row) for row in ROWS)]
TABLE = "\n".join([*LINES, ""])


def write(folder: Path, content: str | bytes, name: str = "log") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def saved(separator: str, *, comma: bool = False, quoted: bool = False) -> str:
    rows = [[text.replace(".", ",") if comma and ":" not in text else text for text in row] for row in ROWS]
    lines = [[f'"{text}"' if quoted else text for text in row] for row in [NAMES, *rows]]
    return "".join(f"{separator.join(line)}\n" for line in lines)


FORMS = {
    "comma": saved(","),
    "quoted": saved(",", quoted=True),
    "index of a data frame": "\n".join(f"{at},{line}" for at, line in enumerate(saved(",").splitlines())).replace(
        "0,idx", ",idx"
    )
    + "\n",
    "semicolon and decimal comma": saved(";", comma=True),
    "spaces": saved(" "),
    "aligned": saved("    "),
    "CR LF": TABLE.replace("\n", "\r\n"),
    "CR": TABLE.replace("\n", "\r"),
    "CR and commas": saved(",").replace("\n", "\r"),
    "byte order mark": "\ufeff" + TABLE,
    "blank lines": TABLE.replace("\n", "\n\n"),
    "comments": f"# certified with n = 1000\n{TABLE}# the end\n",
    "header as a comment": f"# {TABLE}",
    "capital letters": TABLE.replace("idx\tlabel\tpredict", "IDX\tLabel\tPredict"),
    "trailing tabs": TABLE.replace("\n", "\t\n"),
    "trailing tab in the header": TABLE.replace("time\n", "time\t\n"),
    "other order": "".join("\t".join(line.split("\t")[::-1]) + "\n" for line in LINES),
    "output of a terminal": f"Files already downloaded\n=> loading\n{LINES[0]}\n 0%| | 0/3 [00:00<?]\n"
    + "\n 33%|# | 1/3 [00:10<00:20]\n".join(LINES[1:])
    + "\ndone, in 3 s\n",
    "progress bars": "\r  0%| | 0/3\r 33%|# | 1/3\r" + "\n\r 66%|##| 2/3\r".join(LINES) + "\n",
    "colours": "".join(f"\x1b[32m{line}\x1b[0m\n" for line in LINES),
    "logger": "".join(f"INFO:root:{line}\n" for line in LINES),
    "logger with the time": "".join(f"[2024-05-01 10:00:0{at}] {line}\n" for at, line in enumerate(LINES)),
    "repeated header": "\n".join([*LINES[:2], LINES[0], *LINES[2:], ""]),
    "abstain": TABLE.replace("\t-1\t", "\tABSTAIN\t"),
    "abstention without a radius": TABLE.replace("-1\t0.0", "-1\tnan"),
    "floats": TABLE.replace("20\t2\t-1", "20.0\t2.0\t-1.0"),
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS.keys())
def test_a_table_is_read_however_it_was_saved(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, content)
    log = read_log(path)
    assert (log.dialect, log.table[NAMES].values.tolist()) == ("cohen", READ)
    result = audit_log(path)
    assert (result.ok, result.rows) == (True, 3)


@pytest.mark.parametrize(
    ("yes", "no"), [("True", "False"), ("true", "FALSE"), ("yes", "no"), ("Y", "N"), ("T", "F"), ("1.0", "0.0")]
)
def test_correct_in_words_is_read_by_import_and_audit(tmp_path: Path, yes: str, no: str) -> None:
    lines = [line.replace("\t1\t0:", f"\t{yes}\t0:").replace("\t0\t", f"\t{no}\t") for line in LINES]
    path = write(tmp_path, "\n".join([*lines, ""]))
    assert read_log(path).table["correct"].tolist() == [1, 0, 0]
    assert audit_log(path).ok
    path = write(tmp_path, "\n".join([*lines, ""]).replace(f"\t{yes}\t", f"\t{no}\t", 1))
    assert [found.check for found in audit_log(path).findings if found.level == "error"] == ["contradiction"]


def test_what_is_left_out_is_noted_and_a_damaged_row_is_none_of_it(tmp_path: Path) -> None:
    notes = read_log(write(tmp_path, FORMS["output of a terminal"])).notes
    assert "before the line that names the columns, 2 lines were left out: no rows." in notes
    assert "4 lines were left out: no rows; line 4 is the first." in notes
    with pytest.raises(ValueError, match="line 3: expected 6"):
        read_log(write(tmp_path, TABLE.replace("20\t2\t-1\t0.0\t0\t0:00:01", "20")))


@pytest.mark.parametrize("radius", ["nan", "inf", "-0.5", "", "-1"])
def test_a_prediction_needs_a_radius_that_is_a_number(tmp_path: Path, radius: str) -> None:
    path = write(tmp_path, TABLE.replace("0.512", radius))
    with pytest.raises(ValueError, match="line 2: radius must be a number >= 0"):
        read_log(path)
    assert not audit_log(path).ok


def test_correct_follows_from_label_and_predict(tmp_path: Path) -> None:
    path = write(tmp_path, "idx\tlabel\tpredict\tradius\n0\t3\t3\t0.5\n20\t2\t1\t0.7\n")
    assert read_log(path).table["correct"].tolist() == [1, 0]
    assert audit_log(path).ok


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("label\tpredict\tradius\tcorrect\ttime", "it lacks idx, the number of each image in its data set; add it"),
        ("idx\tpredict\tradius\tunperturbed predict\ttime", "neither label nor correct, as of a selection"),
        ("idx\tlabel\tradius\ttime", "it lacks predict; add it"),
    ],
)
def test_a_table_without_a_column_says_which_and_what_to_do(tmp_path: Path, header: str, message: str) -> None:
    path = write(tmp_path, header + "\n" + "\t".join(["1"] * (header.count("\t") + 1)) + "\n")
    with pytest.raises(ValueError, match=message):
        read_log(path)
    (found,) = audit_log(path).findings
    assert (found.level, message in found.message) == ("error", True)


RECORDS = [dict(zip(NAMES, row, strict=True)) for row in ROWS]


def packed_arrays() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, preds=np.zeros(3), labels=np.zeros(3))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "what", "advice"),
    [
        (gzip.compress(TABLE.encode(), mtime=0), "gzip", "gzip -dc"),
        (bz2.compress(TABLE.encode()), "bzip2", "bzip2 -dc"),
        (lzma.compress(TABLE.encode()), "xz", "xz -dc"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "zstd", "zstd -dc"),
        (TABLE.encode("utf-16"), "UTF-16", "iconv -f UTF-16 -t UTF-8"),
        (TABLE.encode("utf-16-le"), "UTF-16LE", "iconv -f UTF-16LE"),
        (TABLE.encode("utf-16-be"), "UTF-16BE", "iconv -f UTF-16BE"),
        (pickle.dumps(RECORDS), "a pickle", "read_pickle"),
        (pickle.dumps(RECORDS, protocol=2), "a pickle", "read_pickle"),
        (json.dumps(RECORDS).encode(), "JSON", "read_json"),
        (json.dumps({"rows": RECORDS}, indent=1).encode(), "JSON", "read_json"),
        ("".join(json.dumps(one) + "\n" for one in RECORDS).encode(), "JSON, one object a line", "lines=True"),
        (packed_arrays(), r"an archive of arrays \(.npz\) with preds, labels", "tab-separated"),
        (b"PAR1" + bytes(50), "a Parquet file", "tab-separated"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "an HDF5 file", "tab-separated"),
        (b"<html><body>404</body></html>", "HTML", "tab-separated"),
        (bytes(range(9)) * 10, "a binary file", "tab-separated"),
    ],
)
def test_a_file_of_another_format_is_named_with_what_to_do(
    tmp_path: Path, content: bytes, what: str, advice: str
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ValueError, match=rf"log is no log that is known here: it is .*{what}.*{advice}"):
        read_log(path)
    assert [found.check for found in audit_log(path).findings] == ["not-a-table"]


def test_advice_is_a_command_whatever_the_file_is_called(tmp_path: Path) -> None:
    for content, advice in ((gzip.compress(b"", mtime=0), "gzip -dc '"), (pickle.dumps(RECORDS), "python -c '")):
        with pytest.raises(ValueError, match=advice) as raised:
            read_log(write(tmp_path, content, "a $(b) log"))
        command = str(raised.value).rpartition("`")[0].rpartition("`")[2]
        assert any(part.endswith("a $(b) log") or '/a $(b) log"' in part for part in shlex.split(command))


def test_what_a_log_says_commands_no_terminal(tmp_path: Path) -> None:
    path = write(tmp_path, TABLE.replace("time\n", "time\tnorm\n").replace("1.2\n", "1.2\t\x1b]0;x\x07\n"))
    assert "\x1b" not in render(audit_log(path))


@pytest.mark.parametrize("header", ["", "idx\tradius\n", "idx radius\n", "idx,radius\n"])
@pytest.mark.parametrize("between", [" ", "\t", "   ", ","])
def test_radii_of_images_are_read_with_and_without_a_header(tmp_path: Path, header: str, between: str) -> None:
    path = write(tmp_path, f"{header}1{between}0.244\n2{between}0.43\n3{between}0.0\n")
    assert read_log(path).table[["idx", "radius"]].values.tolist() == [[1, 0.244], [2, 0.43], [3, 0]]
    assert audit_log(path).rows == 3


def test_an_array_of_predictions_has_no_radius_to_audit(tmp_path: Path) -> None:
    np.save(tmp_path / "log.npy", np.array([["0", "3", "3", "1", "1", "0", "0.99", "0:00:01"]]))
    result = audit_log(tmp_path / "log.npy")
    assert (result.ok, result.rows) == (True, 1)
    assert "no-radius" in {found.check for found in result.findings}


@pytest.mark.parametrize(
    ("lines", "idx", "order"),
    [
        (["900 60 40 0", "1 0 999 2"], [0, 1], "votes, label"),
        (["900\t60\t40\t0", "1\t0\t999\t2"], [0, 1], "votes, label"),
        (["900,60,40,0", "1,0,999,2"], [0, 1], "votes, label"),
        (["0 900 60 40", "2 1 0 999"], [0, 1], "label, votes"),
        (["10 0 900 60 40", "20 2 1 0 999"], [10, 20], "idx, label, votes"),
        (["10 900 60 40 0", "20 1 0 999 2"], [10, 20], "idx, votes, label"),
    ],
)
def test_votes_without_a_header_give_radii(tmp_path: Path, lines: list[str], idx: list[int], order: str) -> None:
    path = write(tmp_path, "\n".join([*lines, ""]))
    with pytest.raises(ValueError, match="import --sigma"):
        read_log(path)
    log = read_log(path, sigma=0.5, alpha=0.001)
    assert (log.kind, log.table["idx"].tolist(), log.table["predict"].tolist()) == ("sampling", idx, [0, 2])
    # Three classes share alpha, since the votes that certify a class also choose it.
    lower = lower_confidence_bound(np.array([900, 999]), 1000, 0.001 / 3)
    assert log.table["radius"].tolist() == np.asarray(certified_radius(lower, 0.5)).tolist()
    assert any(f"a line is {order}: n = 1,000" in note for note in log.notes)
    assert audit_log(path, sigma=0.5, alpha=0.001).ok
    assert [found.check for found in audit_log(path).findings] == ["unreadable"]


@pytest.mark.parametrize("text", ["900 60 40 0\n1 0 998 2\n", "900 60 40\n1 0 999\n", "900 60 40 7\n1 0 999 2\n"])
def test_whole_numbers_that_are_no_votes_with_labels_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="it has lines of whole numbers; votes are read where"):
        read_log(write(tmp_path, text), sigma=0.5, alpha=0.001)


def test_votes_that_can_be_read_in_two_ways_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="can be read as votes, label and as label, votes"):
        read_log(write(tmp_path, "1 2 1\n0 3 0\n"), sigma=0.5, alpha=0.001)


@pytest.mark.parametrize(
    ("text", "radii", "accuracies"),
    [
        ("0.0\t0.9\n0.25\t0.5\n0.5\t0.3\n", [0, 0.25, 0.5], [0.9, 0.5, 0.3]),
        ("0 0.9\n0.5 0.5\n1 0.3\n", [0, 0.5, 1], [0.9, 0.5, 0.3]),
        ("radius,accuracy\n0,0.9\n1,0.3\n", [0, 1], [0.9, 0.3]),
        ("0.0\t0.25\t0.5\n0.634\t0.4\t0.0\n", [0, 0.25, 0.5], [0.634, 0.4, 0]),
        (
            "0 0.25 0.5 0.75 1 1.25\n0.9 0.8 0.3 0.2 0.1 0\n",
            [0, 0.25, 0.5, 0.75, 1, 1.25],
            [0.9, 0.8, 0.3, 0.2, 0.1, 0],
        ),
        ("0.0\t1.25\n0.9\t0.1\n", [0, 1.25], [0.9, 0.1]),  # an accuracy cannot be 1.25
    ],
)
def test_a_curve_is_read_as_its_values_say(
    tmp_path: Path, text: str, radii: list[float], accuracies: list[float]
) -> None:
    log = read_log(write(tmp_path, text))
    assert (log.kind, log.table["radius"].tolist(), log.table["accuracy"].tolist()) == ("curve", radii, accuracies)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0.0\t0.25\n0.634\t0.0\n", "can be read both ways"),
        ("0.0\t0.1\n0.5\t0.05\n", "can be read both ways"),
        ("0 0.25 0.5 0.75\n1 0.8 0.5 0.1\n", "may be a curve or radii of images"),
        ("0 0.9\n1 0.5\n2 0.3\n3 0.1\n", "may be a curve, of radii and accuracies, or radii of images"),
        ("0.0 0.25 0.5\n0.6 0.4 0.0\n0.7 0.5 0.1\n", "expected a radius and an accuracy a line, or two lines"),
        ("0.0\t98.6\n0.25\t50.0\n", r"accuracies are in \[0, 1\]"),
        ("0.5\t0.3\n0.25\t0.4\n0.0\t0.5\n", "line 2: .* radii rise"),
    ],
)
def test_numbers_that_two_ways_or_none_make_a_curve_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=message):
        read_log(path)
    assert not audit_log(path).ok
