"""Settings that nobody told: n, alpha and sigma from the radii, the name or other columns."""

from pathlib import Path
from typing import Any

import pytest
from audited_logs import HEADER, THREE_DIGITS, VOTES, checks, field_log, of, replaced, write

from maxup_smoothing.certify.audit.auditing import audit_log, render
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound
from maxup_smoothing.certify.statistics.lattice import ALPHAS, SAMPLES, candidates, printed
from maxup_smoothing.certify.statistics.radius import certified_radius


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


@pytest.mark.parametrize(
    "wrong", [{"n": 0}, {"n": 10**10}, {"alpha": 0.0}, {"alpha": 1.0}, {"sigma": 0.0}, {"sigma": float("nan")}]
)
def test_settings_out_of_range_are_the_callers_mistake(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        audit_log(write(tmp_path, field_log()), **wrong)
