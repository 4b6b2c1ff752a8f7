"""Radii above what n votes can prove, or between what two numbers of votes prove."""

from pathlib import Path

import numpy as np
import pytest
from audited_logs import VOTES, checks, field_log, of, replaced, three_digits_down, with_columns, write

from maxup_smoothing.certify.audit.auditing import LogFinding, audit_log
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound
from maxup_smoothing.certify.statistics.lattice import fit, printed
from maxup_smoothing.certify.statistics.radius import certified_radius


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
    assert of(told, "lattice") == LogFinding(
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
