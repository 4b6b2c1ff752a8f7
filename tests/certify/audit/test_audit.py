"""Tables of ours: rows, manifests and callers that contradict each other are errors, and nothing else is."""

from pathlib import Path
from typing import Any

import pytest
from audited_logs import HEADER, checks, field_log, of, replaced, write

from maxup_smoothing.certify.audit.auditing import audit_log, render
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound
from maxup_smoothing.certify.statistics.radius import certified_radius
from maxup_smoothing.certify.tables.manifest import encode, manifest_path


def own_table(folder: Path, count: int = 40) -> tuple[Path, list[str]]:
    """A table of ours, of every tenth image of 400, with its manifest."""
    lines = [f"{HEADER} n0 n n_a p_a_lower sigma alpha status counts".replace(" ", "\t")]
    for position in range(count):
        n_a = 1000 - 14 * position
        p_a_lower = float(lower_confidence_bound(n_a, 1000, 0.001))
        radius = float(certified_radius(p_a_lower, 0.25))
        predict = 3 if radius > 0 else -1
        status = "certified" if radius > 0 else "abstain"
        votes = ",".join(f"{label}:{count}" for label, count in ((3, n_a), (5, 1000 - n_a)) if count)
        row = [10 * position, 3, predict, radius, int(predict == 3), "0:00:00.500000", 100, 1000, n_a, p_a_lower]
        lines.append("\t".join(map(str, [*row, 0.25, 0.001, status, votes])))
    path = write(folder, lines, "radii.tsv")
    rewrite_manifest(path)
    return path, lines


def rewrite_manifest(path: Path, images: int = 40, **sampling: Any) -> None:
    told = {"procedure": "fixed", "bound": "clopper-pearson", "sigma": 0.25, "n0": 100, "n": 1000, "alpha": 0.001}
    manifest = {
        "sampling": told | sampling,
        "protocol": {"name": "skip10", "indices": "0:400:10"},
        "notes": {"images": images},
    }
    manifest_path(path).write_bytes(encode(manifest))


def test_a_table_of_ours_passes_without_a_finding(tmp_path: Path) -> None:
    path, _ = own_table(tmp_path)
    result = audit_log(path)
    assert (result.verdict, result.ok, result.rows, result.findings) == ("PASS", True, 40, ())
    assert [str(result.sigma), str(result.n), str(result.alpha)] == ["0.25 (column)", "1000 (column)", "0.001 (column)"]
    assert render(result).startswith("PASS: ")
    assert audit_log(path, n=1000, alpha=0.001, sigma=0.25).findings == ()


@pytest.mark.parametrize(
    ("check", "fields", "message"),
    [
        ("contradiction", {"correct": "0"}, "correct is 0, but predict is 3 and label 3"),
        ("contradiction", {"predict": "-1", "correct": "0"}, "an abstention must have radius 0"),
        ("contradiction", {"status": "abstain"}, "status is abstain, but predict is 3"),
        ("contradiction", {"counts": "3:970,5:28"}, "counts sum to 998, but n is 1000"),
        ("contradiction", {"n_a": "973"}, "counts of class 3 are not n_a=973"),
        ("contradiction", {"n_a": "1001"}, "n_a is 1001, more than n=1000"),
        ("contradiction", {"p_a_lower": "0.96"}, "p_a_lower is 0.96, but n_a=972 of n=1000 give 0.95"),
        ("contradiction", {"radius": "0.5"}, "radius is 0.5, but p_a_lower=0.95"),
        ("ceiling", {"radius": "0.7"}, "radius 0.7 is above 0.615"),
        ("malformed", {"radius": "nan"}, "radius must be a number >= 0, got 'nan'"),
        ("malformed", {"radius": "-0.1"}, "radius must be a number >= 0, got '-0.1'"),
        ("malformed", {"idx": "first"}, "idx must be an integer >= 0"),
        ("malformed", {"counts": "3:972\t5:28"}, "expected 14 tab-separated fields, got 15"),
    ],
)
def test_a_row_that_cannot_be_true_is_an_error_with_its_line(
    tmp_path: Path, check: str, fields: dict[str, str], message: str
) -> None:
    path, lines = own_table(tmp_path)
    write(tmp_path, replaced(lines, 4, **fields), "radii.tsv")
    result = audit_log(path)
    assert not result.ok
    assert checks(result, "error") == {check}
    finding = of(result, check)
    assert (finding.level, finding.rows) == ("error", 1)
    assert finding.message.startswith("line 4: ")
    assert message in finding.message
    assert result.rows == 40


def test_rows_with_one_fault_are_one_finding_and_another_fault_is_another(tmp_path: Path) -> None:
    path, lines = own_table(tmp_path)
    for number in (3, 5, 7, 9):
        lines = replaced(lines, number, correct="0")
    write(tmp_path, replaced(lines, 11, radius="nan"), "radii.tsv")
    result = audit_log(path)
    assert [(finding.check, finding.rows) for finding in result.findings] == [("contradiction", 4), ("malformed", 1)]
    assert "4 such rows: lines 3, 5, 7, …" in of(result, "contradiction").message


def test_a_table_of_ours_needs_its_manifest_and_a_log_of_others_does_not(tmp_path: Path) -> None:
    path, _ = own_table(tmp_path)
    manifest_path(path).unlink()
    result = audit_log(path)
    assert result.verdict == "PASS with warnings"
    assert "no radii.manifest.json beside it" in of(result, "manifest").message
    assert "manifest" not in checks(audit_log(write(tmp_path, field_log())))


@pytest.mark.parametrize("name", ["sigma", "alpha", "n", "n0"])
def test_a_manifest_that_the_rows_contradict_is_an_error(tmp_path: Path, name: str) -> None:
    path, _ = own_table(tmp_path)
    changed: dict[str, Any] = {name: 0.125}
    rewrite_manifest(path, **changed)
    finding = of(audit_log(path), "manifest")
    assert (finding.level, finding.rows) == ("error", 40)
    assert f"lines 2, 3, 4, …: {name} is" in finding.message
    assert "the manifest says 0.125" in finding.message


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"[" * 100_000, b'{"schema": 99}', b'{"schema": 1}', b"\xff", b'{"schema": 1, "sampling": 3}'],
)
def test_a_damaged_manifest_is_an_error(tmp_path: Path, content: bytes) -> None:
    path, _ = own_table(tmp_path)
    manifest_path(path).write_bytes(content)
    result = audit_log(path)
    assert of(result, "manifest").level == "error"
    assert checks(result, "error") == {"manifest"}


def test_images_outside_the_manifests_protocol_are_an_error_and_missing_ones_a_warning(tmp_path: Path) -> None:
    path, lines = own_table(tmp_path)
    write(tmp_path, replaced(lines, 9, idx="75"), "radii.tsv")
    result = audit_log(path)
    assert checks(result, "error") == {"protocol"}
    assert "idx 75 is none of the manifest's images" in of(result, "protocol").message
    assert (of(result, "missing-rows").level, of(result, "missing-rows").rows) == ("warning", 1)


def test_a_run_limited_by_its_command_misses_only_the_images_before_the_limit(tmp_path: Path) -> None:
    path, _ = own_table(tmp_path, count=30)
    assert of(audit_log(path), "missing-rows").rows == 10
    rewrite_manifest(path, images=30)
    assert audit_log(path).findings == ()
    rewrite_manifest(path, images=33)
    assert of(audit_log(path), "missing-rows").rows == 3


def test_settings_of_the_manifest_serve_a_log_without_columns(tmp_path: Path) -> None:
    path = write(tmp_path, field_log())
    rewrite_manifest(path, sigma=0.5, n=100_000, alpha=0.001)
    result = audit_log(path)
    assert [setting.source for setting in (result.sigma, result.n, result.alpha)] == ["manifest"] * 3
    assert "ceiling" not in checks(result)
    rewrite_manifest(path, sigma=0.5, n=10_000, alpha=0.001)
    assert of(audit_log(path), "ceiling").level == "error"


@pytest.mark.parametrize(("name", "value"), [("n", 999), ("alpha", 0.01), ("sigma", 0.5)])
def test_what_the_caller_says_against_the_log_is_an_error(tmp_path: Path, name: str, value: Any) -> None:
    path, _ = own_table(tmp_path)
    result = audit_log(path, **{name: value})
    assert checks(result, "error") == {"settings"}
    assert f"{name} {value} was given, but the log's column says" in of(result, "settings").message
