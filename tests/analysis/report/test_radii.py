"""At which radii a report states its numbers where its runs do not reach equally far."""

from pathlib import Path

import pytest
from report_pages import LENET, page_of, write_run

from maxup_smoothing.analysis.report.comparisons import pairs
from maxup_smoothing.analysis.report.numbers import card, chosen_radii, shared_radii
from maxup_smoothing.analysis.report.subjects import load_subjects

NAMES = ("graded-8-1.00", "maxup-4", "gaussian")  # sigma 1, whose ceiling is 3.81, and twice 0.5, of which it is 1.90
MIXED = [LENET / "fashion_mnist" / name / "radii.tsv" for name in NAMES]


def test_key_figures_are_at_a_radius_that_all_runs_can_reach() -> None:
    far, near, _ = subjects = load_subjects(MIXED)
    assert shared_radii(subjects) == shared_radii([near]) == chosen_radii([near]) == [0.25 * at for at in range(8)]
    assert chosen_radii(subjects) == chosen_radii([far]) == [0.5 * at for at in range(8)]
    page = page_of(*MIXED)
    for subject in subjects:
        assert f"{card(subject, 1.0).accuracy} %" in page.text
        assert float(card(subject, 1.0).accuracy) > 0
    assert "right, and certified at 1.50 or more" in page.text
    assert "certified at 2.00 or more" not in page.text


def test_a_pair_is_compared_at_the_radii_that_its_own_runs_reach() -> None:
    found = {(pair.subject.name, pair.control.name): pair for pair in pairs(load_subjects(MIXED), "gaussian")[0]}
    assert [row.radius for row in found["maxup-4", "gaussian"].at] == [0.25 * at for at in range(8)]
    assert "sigma: 1 (graded-8-1.00); 0.5 (gaussian)" in str(found["graded-8-1.00", "gaussian"].reason)


@pytest.mark.parametrize("radius", [0.0, 0.6])
def test_a_run_that_certifies_nothing_moves_no_other_to_radius_0(tmp_path: Path, radius: float) -> None:
    paths = [
        write_run(tmp_path / "none", "0\t1\t-1\t0.0\t0\t3\n"),
        write_run(tmp_path / "some", f"0\t1\t{1 if radius else -1}\t{radius}\t{int(radius > 0)}\t3\n"),
    ]
    assert shared_radii(load_subjects(paths)) == ([0.0, 0.25, 0.5] if radius else [0.0])
