"""How a log was rounded: which rows are above what was proved, and which tie with a radius of the tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from audited_logs import HEADER, THREE_DIGITS, VOTES, checks, field_log, of, proved, three_digits_down, write

from maxup_smoothing.certify.audit.auditing import audit_log
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound
from maxup_smoothing.certify.statistics.lattice import fit, printed
from maxup_smoothing.certify.statistics.radius import certified_radius


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
