import csv
from collections.abc import Callable
from decimal import ROUND_FLOOR, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from certify.audit import Audit, Finding, audit_log, render
from certify.binomial import lower_confidence_bound
from certify.inference import ALPHAS, SAMPLES, candidates, fit, printed
from certify.manifest import encode, manifest_path
from certify.radius import certified_radius

LOGS = Path(__file__).parents[2] / "shared" / "reference-logs" / "logs"
needs_logs = pytest.mark.skipif(not LOGS.is_dir(), reason="the reference logs are not on this machine")
# 500 CIFAR-10 images of a published log: the votes of 100,000 for the predicted class, at sigma 0.5.
with (Path(__file__).parent / "reference" / "counts-to-radius.tsv").open() as _lines:
    VOTES = [row for row in csv.DictReader(_lines, delimiter="\t") if row["sigma"] == "0.50" and row["pixels"] == "32"]

HEADER = "idx label predict radius correct time"
THREE_DIGITS: Callable[[float], str] = "{:.3}".format


def three_digits_down(radius: float) -> str:
    """As many digits as ``{:.3}``, but never above the radius."""
    number = Decimal(radius)
    return str(
        float(number.quantize(Decimal(1).scaleb(number.adjusted() - 2), rounding=ROUND_FLOOR)) if radius else 0.0
    )


def proved(row: dict[str, str], n: int = 100_000, alpha: float = 0.001, sigma: float = 0.5) -> float:
    if row["predict"] == "-1":
        return 0.0
    return float(certified_radius(lower_confidence_bound(int(row["count"]), n, alpha), sigma))


def field_log(print_radius: Callable[[float], str] = THREE_DIGITS, **setting: Any) -> list[str]:
    """The lines of a six-column log of `VOTES`, as the field's scripts write them."""
    lines = [HEADER.replace(" ", "\t")]
    for row in VOTES:
        radius = proved(row, **setting)
        predict = row["predict"] if radius > 0 else "-1"
        fields = [row["idx"], row["label"], predict, print_radius(radius), str(int(predict == row["label"])), "0:00:15"]
        lines.append("\t".join(fields))
    return lines


def write(folder: Path, lines: list[str], name: str = "log") -> Path:
    path = folder / name
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def of(result: Audit, check: str) -> Finding:
    found = [finding for finding in result.findings if finding.check == check]
    assert len(found) == 1, f"{check}: {render(result)}"
    return found[0]


def checks(result: Audit, *levels: str) -> set[str]:
    return {finding.check for finding in result.findings if finding.level in (levels or ("error", "warning", "note"))}


def replaced(lines: list[str], number: int, **fields: str) -> list[str]:
    """The log with other fields in the line of that number; the header is line 1."""
    header, texts = lines[0].split("\t"), lines[number - 1].split("\t")
    texts = [fields.get(name, text) for name, text in zip(header, texts, strict=True)]
    return [*lines[: number - 1], "\t".join(texts), *lines[number:]]


def with_columns(lines: list[str], **values: str) -> list[str]:
    names, texts = "\t".join(values), "\t".join(values.values())
    return [f"{line}\t{texts if number else names}" for number, line in enumerate(lines)]


# --- our own tables


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


# --- the ceiling and the lattice


def test_the_same_votes_pass_at_their_own_alpha_and_break_the_ceiling_of_a_smaller_one(tmp_path: Path) -> None:
    path = write(tmp_path, field_log(alpha=0.01))
    result = audit_log(path, n=100_000, alpha=0.001, sigma=0.5)
    finding = of(result, "ceiling")
    # Radii above Phi^-1(0.001^(1/100000)) / 2 = 1.90573 by more than the rounding of 1.91.
    above = sum(float(line.split("\t")[3]) > 1.915 for line in field_log(alpha=0.01)[1:])
    assert (finding.level, finding.rows) == ("error", above)
    assert "is above 1.90573" in finding.message
    assert audit_log(path, n=100_000, alpha=0.01, sigma=0.5).ok


def test_a_ceiling_that_was_only_rounded_up_is_no_error(tmp_path: Path) -> None:
    lines = field_log()
    assert any("\t1.91\t" in line for line in lines)
    result = audit_log(write(tmp_path, lines), n=100_000, alpha=0.001, sigma=0.5)
    assert result.verdict == "PASS with warnings"
    over = replaced(lines, 2, predict=VOTES[0]["label"], radius="1.92", correct="1")
    finding = of(audit_log(write(tmp_path, over), n=100_000, alpha=0.001, sigma=0.5), "ceiling")
    assert finding.message.startswith("line 2: radius 1.92 is above 1.90573")


def test_columns_tell_the_settings_of_a_log_without_votes(tmp_path: Path) -> None:
    lines = with_columns(field_log(), sigma="0.5", n="100000", alpha="0.001")
    # 1.91 is above the ceiling 1.9057 that such a row itself states: no rounding is allowed to a row that says so.
    result = audit_log(write(tmp_path, lines))
    assert checks(result, "error") == {"ceiling"}
    down = with_columns(field_log(three_digits_down), sigma="0.5", n="100000", alpha="0.001")
    assert audit_log(write(tmp_path, down)).ok


def test_a_radius_between_two_numbers_of_votes_is_found(tmp_path: Path) -> None:
    # At sigma 0.5 the two largest radii are 1.9057 and 1.8715; nothing between can be printed but 1.91 and 1.87.
    lines = replaced(field_log(), 2, predict=VOTES[0]["label"], radius="1.89", correct="1")
    path = write(tmp_path, lines)
    told = audit_log(path, n=100_000, alpha=0.001, sigma=0.5)
    assert of(told, "lattice") == Finding(
        "error",
        "lattice",
        "line 2: no number of votes gives radius 1.89 at n=100000, alpha=0.001, sigma=0.5; 1 such row.",
        1,
    )
    inferred = audit_log(path)
    assert (of(inferred, "lattice").level, inferred.n.value) == ("warning", 100_000)
    assert "lattice" not in checks(audit_log(write(tmp_path, field_log()), n=100_000, alpha=0.001, sigma=0.5))


@pytest.mark.parametrize(("n", "alpha", "sigma"), [(50, 0.01, 0.5), (137, 0.001, 0.25), (400, 0.05, 1.0)])
def test_possible_raised_and_proved_are_what_enumerating_all_votes_says(n: int, alpha: float, sigma: float) -> None:
    lattice = np.asarray(certified_radius(lower_confidence_bound(np.arange(n + 1), n, alpha), sigma))
    texts = [f"{value / 1000:.3f}" for value in range(1, int(1.1 * 1000 * lattice[-1]))]
    found = fit(printed(texts), n, alpha, sigma)
    assert not found.down
    for position, text in enumerate(texts):
        value = float(text)
        near = lattice[(lattice > 0) & (np.abs(lattice - value) <= 0.0005)]
        assert found.possible[position] == (len(near) > 0)
        assert found.raised[position] == (len(near) > 0 and bool(np.all(near < value)))
        assert found.proved[position] == (len(near) > 0 and bool(np.all(near >= value)))
    assert 0 < found.raised.sum() < found.possible.sum() < len(texts)
    assert found.proved.sum() > 0


@pytest.mark.parametrize(
    ("texts", "half", "name"),
    [
        (["1.91", "0.378", "0.0734", "1.7"], [0.005, 0.0005, 0.00005, 0.005], "3 significant digits"),
        (["0.5", "0.25"], [0.0005, 0.0005], "3 significant digits"),
        (["1.9100", "0.3780", "0.0734"], [0.00005] * 3, "4 decimals"),
        (["5.63e-05", "1.2"], [0.5e-7, 0.005], "3 significant digits"),
        (["0.43812", "0.3654", "1.2"], [0.5e-5, 0.5e-5, 0.5e-4], "5 significant digits"),
        (["0.340864400239099", "1.3509164789650392"], [0.0, 0.0], "full precision"),
    ],
)
def test_digits_tell_the_precision(texts: list[str], half: list[float], name: str) -> None:
    radii = printed(texts)
    assert radii.half_unit == pytest.approx(half, rel=1e-12)
    assert (radii.format, radii.in_full) == (name, half[0] == 0)


def test_other_procedures_have_other_ceilings(tmp_path: Path) -> None:
    over = replaced(field_log(), 2, predict=VOTES[0]["label"], radius="3.5", correct="1")
    for procedure, bound, level in (
        ("fixed", "clopper-pearson", "error"),
        ("sequential", "clopper-pearson", None),
        ("fixed", "joint", None),
    ):
        lines = with_columns(over, procedure=procedure, bound=bound)
        found = checks(audit_log(write(tmp_path, lines), n=100_000, alpha=0.001, sigma=0.5), "error")
        assert found == ({"ceiling"} if level else set())


# --- rounding and ties


def test_radii_in_full_and_at_most_what_was_proved_pass(tmp_path: Path) -> None:
    result = audit_log(write(tmp_path, field_log(repr)), n=100_000, alpha=0.001, sigma=0.5)
    assert (result.verdict, result.findings) == ("PASS", ())
    inferred = audit_log(write(tmp_path, field_log(repr)))
    assert (inferred.verdict, checks(inferred)) == ("PASS", {"settings"})


def test_rows_said_to_be_rounded_up_are_above_what_their_votes_prove(tmp_path: Path) -> None:
    finding = of(audit_log(write(tmp_path, field_log()), n=100_000, alpha=0.001, sigma=0.5), "rounding")
    certain = fit(printed([THREE_DIGITS(proved(row)) for row in VOTES if proved(row) > 0]), 100_000, 0.001, 0.5)
    truly = np.array([float(THREE_DIGITS(proved(row))) > proved(row) for row in VOTES if proved(row) > 0])
    assert finding.level == "warning"
    assert finding.rows == certain.raised.sum() > 10
    assert not np.any(certain.raised & ~truly)
    assert not np.any(certain.proved & truly)


def test_with_votes_each_row_rounded_up_is_counted(tmp_path: Path) -> None:
    header, *body = field_log()
    lines = [f"{header}\tcount", *(f"{line}\t{row['count']}" for line, row in zip(body, VOTES, strict=True))]
    truly = sum(float(THREE_DIGITS(proved(row))) > proved(row) for row in VOTES)
    result = audit_log(write(tmp_path, lines), n=100_000, alpha=0.001, sigma=0.5)
    assert of(result, "rounding").rows == truly
    assert result.ok


def test_settings_that_do_not_explain_a_log_do_not_tell_how_it_was_rounded(tmp_path: Path) -> None:
    path = write(tmp_path, field_log())
    wrong = audit_log(path, n=1_000, alpha=0.05, sigma=0.5)
    assert of(wrong, "lattice").rows > 50
    assert "about half" in of(wrong, "rounding").message
    assert "certainly" in of(audit_log(path), "rounding").message


def test_a_log_rounded_down_is_recognised_and_not_blamed(tmp_path: Path) -> None:
    result = audit_log(write(tmp_path, field_log(three_digits_down)))
    assert (result.n.value, result.alpha.value) == (100_000, 0.001)
    assert (result.verdict, of(result, "rounding").level) == ("PASS", "note")
    assert "ties" not in checks(result)


def test_without_settings_rounding_is_stated_and_not_counted(tmp_path: Path) -> None:
    result = audit_log(write(tmp_path, field_log(n=123_456)))
    assert "none of the settings tried" in of(result, "settings").message
    assert "about half" in of(result, "rounding").message
    assert "by up to 0.5 %" in of(result, "rounding").message
    assert result.verdict == "PASS with warnings"


def test_ties_at_table_radii_are_counted_with_their_effect(tmp_path: Path) -> None:
    lines = [HEADER.replace(" ", "\t")]
    #           tie     wrong   tie     no tie  tie    tie
    for idx, (radius, label) in enumerate([("0.5", 1), ("0.5", 2), ("0.25", 1), ("0.51", 1), ("1.0", 1), ("0.5", 1)]):
        lines.append(f"{idx}\t{label}\t1\t{radius}\t{int(label == 1)}\t1.0")
    finding = of(audit_log(write(tmp_path, lines)), "ties")
    assert (finding.level, finding.rows) == ("warning", 4)
    assert "4 rows (1 at 0.25, 2 at 0.5, 1 at 1)" in finding.message
    assert "33.33 points of certified accuracy, at 0.5" in finding.message  # 2 of 6 images


def test_a_tie_that_every_number_of_votes_proves_is_none(tmp_path: Path) -> None:
    # 1.754 and 1.746 are the radii nearest to 1.75 at n = 1e5, alpha = .001: three decimals tell them from 1.75.
    lattice = certified_radius(lower_confidence_bound(np.arange(99_000, 100_001), 100_000, 0.001), 0.5)
    assert not np.any(np.abs(lattice - 1.75) < 0.0005)
    lines = [HEADER.replace(" ", "\t"), *(f"{k}\t1\t1\t{r:.5f}\t1\t1.0" for k, r in enumerate(lattice[-50:]))]
    told: dict[str, Any] = {"n": 100_000, "alpha": 0.001}
    for sigma, ties in ((0.5, 0), (0.5 * 1.75 / (lattice[-10] + 2e-6), 1)):
        # Scaled by sigma so that the tenth largest radius is just below 1.75, and printed as 1.75000.
        body = [f"{k}\t1\t1\t{r * sigma / 0.5:.5f}\t1\t1.0" for k, r in enumerate(lattice[-50:])]
        result = audit_log(write(tmp_path, [lines[0], *body]), sigma=sigma, **told)
        assert result.ok
        assert sum(f.rows for f in result.findings if f.check == "ties") == ties
    up = 0.5 * 1.75 / (lattice[-10] - 2e-6)  # just above: printed the same, and proved
    body = [f"{k}\t1\t1\t{r * up / 0.5:.5f}\t1\t1.0" for k, r in enumerate(lattice[-50:])]
    assert any("\t1.75000\t" in line for line in body)
    assert "ties" not in checks(audit_log(write(tmp_path, [lines[0], *body]), sigma=up, **told))


# --- settings that nobody told


@pytest.mark.parametrize("n", [1_000, 10_000, 100_000])
@pytest.mark.parametrize("alpha", [0.001, 0.01])
@pytest.mark.parametrize("sigma", [0.12, 0.25, 0.5, 1.0])
def test_n_alpha_and_sigma_are_read_off_the_tail(n: int, alpha: float, sigma: float) -> None:
    votes = sorted({n * int(row["count"]) // 100_000 for row in VOTES})
    radii = certified_radius(lower_confidence_bound(votes, n, alpha), sigma)
    found = candidates(printed([THREE_DIGITS(r) for r in radii if r > 0]), SAMPLES, ALPHAS, [0.12, 0.25, 0.5, 1.0])
    assert (found[0].n, found[0].alpha, found[0].sigma, found[0].off) == (n, alpha, sigma, 0)
    assert all(candidate.off > 0 for candidate in found[1:])
    assert found[0].evidence >= 3


def test_settings_with_one_ceiling_are_all_named_and_none_is_taken(tmp_path: Path) -> None:
    # ln(0.01)/100000 = ln(0.001)/150000 = ln(0.0001)/200000: unanimous votes alone cannot tell them apart.
    lines = [HEADER.replace(" ", "\t"), *(f"{idx}\t1\t1\t0.978\t1\t1.0" for idx in range(50))]
    result = audit_log(write(tmp_path, lines))
    finding = of(result, "settings")
    assert finding.level == "warning"
    for setting in ("n=100000, alpha=0.01,", "n=150000, alpha=0.001,", "n=200000, alpha=0.0001,"):
        assert setting in finding.message
    assert "3 settings" in finding.message
    assert (result.n.value, result.alpha.value) == (None, None)
    assert audit_log(write(tmp_path, lines), n=100_000).alpha.source == "unknown"  # one radius is no evidence
    assert "too few to be sure" in of(audit_log(write(tmp_path, lines), n=100_000), "settings").message


def test_a_forged_radius_does_not_hide_the_settings_of_the_others(tmp_path: Path) -> None:
    lines = replaced(field_log(), 2, predict=VOTES[0]["label"], radius="2.5", correct="1")
    result = audit_log(write(tmp_path, lines))
    assert (result.n.value, result.alpha.value, result.sigma.value) == (100_000, 0.001, 0.5)
    assert of(result, "ceiling").message.startswith("line 2: radius 2.5 is above 1.90573")
    assert of(result, "ceiling").level == "warning"


@pytest.mark.parametrize(
    ("name", "sigma", "source"),
    [
        ("noise_0.50_2341", 0.5, "file name"),
        ("noise_0.25/test/sigma_0.50", 0.5, "file name"),
        ("sigma_0.50/log.tsv", 0.5, "file name"),
        ("log", 0.5, "inferred"),
        ("python3.11/log", 0.5, "inferred"),
    ],
)
def test_sigma_is_that_of_the_name_or_inferred(tmp_path: Path, name: str, sigma: float, source: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    result = audit_log(write(path.parent, field_log(), path.name))
    assert (result.sigma.value, result.sigma.source, result.n.source) == (sigma, source, "inferred")
    assert "the file name says" not in render(result)


def test_a_name_with_another_sigma_than_the_radii_is_reported(tmp_path: Path) -> None:
    result = audit_log(write(tmp_path, field_log(), "noise_0.25"))
    assert (result.sigma.value, result.sigma.source) == (0.5, "inferred")
    assert "the file name says sigma 0.25, the radii say 0.5" in render(result)


def test_votes_and_radius_under_other_names_make_an_exact_check(tmp_path: Path) -> None:
    names = list(VOTES[0])
    lines = ["\t".join(names), *("\t".join(row.values()) for row in VOTES)]
    clean = audit_log(write(tmp_path, lines))
    assert (clean.n.value, clean.alpha.value, clean.sigma.source) == (100_000, 0.001, "column")
    assert checks(clean) == {"columns", "settings", "rounding"}
    radius = VOTES[0]["exact_radius"]
    told: dict[str, Any] = {"n": 100_000, "alpha": 0.001}
    more = audit_log(write(tmp_path, replaced(lines, 2, exact_radius=f"{float(radius) + 2e-5:.5f}")), **told)
    assert (of(more, "votes").level, of(more, "votes").rows) == ("error", 1)
    assert f"which {VOTES[0]['count']} votes prove" in of(more, "votes").message
    less = audit_log(write(tmp_path, replaced(lines, 2, exact_radius=f"{float(radius) - 2e-5:.5f}")), **told)
    assert (less.ok, of(less, "lattice").level) == (True, "note")
    many = audit_log(write(tmp_path, replaced(lines, 2, count="100001")), **told)
    assert "100001 votes are more than n=100000" in of(many, "counts").message
    assert not many.ok


# --- which images


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


# --- files that are damaged or something else


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
        ("\nx disttype gaussian\nx k None\nx std 0.5\no 9980 0.9949883769998344 0.9969624183275306\n", "DSRS"),
        ("0.00000\t0.98610\n0.00500\t0.98590\n", "it is a curve"),
        ("idx,label,predict,radius,correct,time\n0,1,1,0.5,1,1.0\n", "something else separates them"),
        ("idx\tlabel\tpredict\tradius\tcorrect\tcorrect\n", "one is there twice"),
        ("Files already downloaded and verified\n", "its first line must name the columns idx label predict"),
        ("\x93NUMPY\x00\x01\n", "it is a binary file"),
    ],
)
def test_a_file_that_is_something_else_is_one_error(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "log"
    path.write_text(content, encoding="latin-1")
    result = audit_log(path)
    assert [finding.check for finding in result.findings] == ["not-a-table"]
    assert message in result.findings[0].message
    assert (result.ok, result.rows, result.verdict) == (False, 0, "FAIL")


def test_a_header_alone_and_a_file_that_is_not_there(tmp_path: Path) -> None:
    result = audit_log(write(tmp_path, [HEADER.replace(" ", "\t")]))
    assert (result.verdict, checks(result)) == ("PASS with warnings", {"empty"})
    assert [finding.check for finding in audit_log(tmp_path / "nowhere").findings] == ["unreadable"]
    assert not audit_log(tmp_path).ok


@pytest.mark.parametrize(
    "wrong", [{"n": 0}, {"n": 10**10}, {"alpha": 0.0}, {"alpha": 1.0}, {"sigma": 0.0}, {"sigma": float("nan")}]
)
def test_settings_out_of_range_are_the_callers_mistake(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        audit_log(write(tmp_path, field_log()), **wrong)


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


# --- published logs


@needs_logs
@pytest.mark.parametrize(
    ("name", "alpha", "sigma", "rows", "warnings"),
    [
        ("cohen-cifar10-0.12", 0.001, 0.12, 500, {"rounding"}),
        ("cohen-cifar10-0.25", 0.01, 0.25, 500, {"rounding"}),
        ("cohen-imagenet-0.25", 0.01, 0.25, 427, {"rounding", "ties", "truncated"}),
        ("cohen-imagenet-1.00", 0.01, 1.0, 500, {"rounding", "ties"}),
        ("gaussian4-cifar10-0.50.tsv", 0.001, 0.5, 10_000, {"rounding", "ties"}),
        ("cohen-fmnist-0.50.tsv", 0.001, 0.5, 10_000, {"rounding", "ties"}),
        ("catrs-fmnist-0.50.tsv", 0.001, 0.5, 10_000, {"rounding", "ties"}),
        ("salman-consistency-mnist-0.50", 0.001, 0.5, 10_000, {"rounding", "ties"}),
    ],
)
def test_published_logs_pass_with_the_settings_their_tails_tell(
    tmp_path: Path, name: str, alpha: float, sigma: float, rows: int, warnings: set[str]
) -> None:
    result = audit_log(LOGS / name)
    assert (result.n.value, result.alpha.value, result.sigma.value, result.rows) == (100_000, alpha, sigma, rows)
    assert (result.verdict, checks(result, "warning")) == ("PASS with warnings", warnings)
    unnamed = tmp_path / "log"
    unnamed.write_bytes((LOGS / name).read_bytes())
    anonymous = audit_log(unnamed)
    assert (anonymous.n.value, anonymous.alpha.value, anonymous.sigma.value) == (100_000, alpha, sigma)
    # Their README says 0.001: all but one of Cohen's logs here break that ceiling.
    assert audit_log(LOGS / name, n=100_000, alpha=0.001).ok == (alpha == 0.001)


@needs_logs
@pytest.mark.parametrize(
    ("name", "ok", "found"),
    [
        ("dsrs-sampling-mnist-0.50.txt", False, {"not-a-table"}),
        ("salman-consistency-mnist-0.50_acc", False, {"not-a-table"}),
        ("smoothadv-predict-cifar10", True, {"no-radius", "white-space"}),
        ("gengaussian-counts-cifar10-0.50", True, {"no-radius"}),
    ],
)
def test_published_files_of_other_kinds_are_named(name: str, ok: bool, found: set[str]) -> None:
    result = audit_log(LOGS / name)
    assert (result.ok, checks(result)) == (ok, found)
