"""A table that is continued has the bytes of an undisturbed one, and what is not its own is left alone."""

from pathlib import Path

import pytest
import tiny_table
from tiny_table import MANIFEST, SIX, make_row, write_table

from maxup_smoothing.certify.tables.manifest import manifest_path
from maxup_smoothing.certify.tables.radius_table import COLUMNS, RadiusTable

path = tiny_table.path


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
