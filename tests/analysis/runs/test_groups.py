from collections.abc import Sequence

import pandas as pd
import pytest

from maxup_smoothing.analysis.runs.groups import by_class, by_difficulty, extremes
from maxup_smoothing.analysis.runs.run import Run
from maxup_smoothing.certify.tables.summary import summarize


def run(name: str, rows: Sequence[tuple[int, int, float]], first: int = 0) -> Run:
    """Rows of (label, predict, radius)."""
    table = pd.DataFrame(
        {
            "idx": range(first, first + len(rows)),
            "label": [label for label, _, _ in rows],
            "predict": [predict for _, predict, _ in rows],
            "radius": [radius for _, _, radius in rows],
            "correct": [int(label == predict) for label, predict, _ in rows],
            "time": 1.0,
        }
    )
    return Run(name, table, summarize(table))


OURS = run("ours", [(0, 0, 1.0), (2, 1, 0.4), (0, -1, 0.0), (2, 2, 0.2), (2, 2, 0.9)])


def test_classes_part_the_images() -> None:
    first, second = by_class(OURS)
    assert (first.name, second.name) == ("0 (2)", "2 (3)")
    assert first.table["idx"].tolist() == [0, 2]
    assert (second.summary.images, second.summary.correct) == (3, 2)
    assert [part.name for part in by_class(OURS, ("cat", "dog", "emu"))] == ["cat (2)", "emu (3)"]
    with pytest.raises(ValueError, match="ours has the label 2, but there are 2 class names"):
        by_class(OURS, ("cat", "dog"))


def test_difficulty_is_the_references_not_the_runs() -> None:
    reference = run("theirs", [(0, 0, 0.1), (2, 2, 0.3), (0, 0, 0.8), (2, -1, 0.0), (2, 0, 0.5)])
    never, less, more = by_difficulty(OURS, reference)
    # Certified at .1, .3 and .8: the median belongs to the upper half. The last is wrong, whatever its radius.
    assert never.table["idx"].tolist() == [3, 4]
    assert less.table["idx"].tolist() == [0]
    assert more.table["idx"].tolist() == [1, 2]
    names = ["not certified by theirs (2)", "less certified half of theirs (1)", "more certified half of theirs (2)"]
    assert [part.name for part in (never, less, more)] == names


def test_difficulty_joins_images_by_number_whatever_the_order_of_rows() -> None:
    reference = run("theirs", [(0, 0, 0.1), (2, 2, 0.3), (0, 0, 0.8), (2, -1, 0.0), (2, 0, 0.5)])
    turned = Run("theirs", reference.table[::-1].reset_index(drop=True), reference.summary)
    groups = [part.table["idx"].tolist() for part in by_difficulty(OURS, turned)]
    assert groups == [[3, 4], [0], [1, 2]]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        (run("other", [(0, 0, 1.0)] * 5, first=1), "other is about other images than ours"),
        (run("other", [(1, 1, 1.0)] * 5), "other is about other images than ours"),
        (run("copy", [(0, 0, 1.0), (2, 1, 0.4), (0, -1, 0.0), (2, 2, 0.2), (2, 2, 0.9)]), "copy has the same rows as"),
    ],
)
def test_what_cannot_tell_difficulty_is_refused(reference: Run, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        by_difficulty(OURS, reference)


def test_the_hardest_are_the_surest_mistakes_and_the_easiest_the_surest_truths() -> None:
    hardest, easiest = extremes(OURS.table, 3)
    assert hardest["idx"].tolist() == [1, 2, 3]  # wrong at .4, abstained, right at .2
    assert easiest["idx"].tolist() == [0, 4, 3]
    assert extremes(OURS.table, 50)[1]["idx"].tolist() == [0, 4, 3]  # a wrong one is never easy
