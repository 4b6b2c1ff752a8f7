"""How a training used its copies, in words, and where that stands."""

from pathlib import Path
from typing import Any

import pytest
from result_folders import folder, report

from maxup_smoothing.analysis.runs.training import copies_text


@pytest.mark.parametrize(
    ("config", "words"),
    [
        # What an objective does not read says nothing of it.
        ({"objective": "gaussian", "m": 1, "reduction": "max"}, "1"),
        ({"objective": "plain"}, "1"),
        ({"objective": "mean_of_m", "m": 4, "reduction": "max"}, "mean of 4"),
        ({"objective": "mean_of_m", "m": 1}, "1"),
        ({"objective": "maxup", "m": 4, "reduction": "max"}, "worst of 4"),
        ({"objective": "maxup", "m": 4}, "worst of 4"),  # of a time before `reduction`
        ({"objective": "maxup", "m": 4, "reduction": "topk", "top_k": 2}, "2 worst of 4"),
        ({"objective": "maxup", "m": 4, "reduction": "topk", "top_k": 1}, "worst of 4"),
        ({"objective": "maxup", "m": 4, "reduction": "logsumexp"}, "soft maximum of 4"),
        ({"objective": "maxup", "m": 4, "reduction": "mean"}, "mean of 4"),
        ({"objective": "maxup", "m": 1}, "1"),
        ({"objective": "macer", "m": 1600, "reduction": "max"}, "1,600"),
        ({"objective": "consistency", "m": 2}, "2"),
        ({"objective": "consistency", "m": 2, "worst_of": 1, "graded": False, "reach": 0.0}, "2"),
        ({"objective": "consistency", "m": 2, "worst_of": 8}, "worst of 8, and 1 more"),
        ({"objective": "consistency", "m": 4, "worst_of": 8, "graded": True}, "graded of 8, and 3 more"),
        (
            {"objective": "consistency", "m": 2, "worst_of": 8, "graded": True, "reach": 2.0},
            "graded of 8, moved up to 2 sigma, and 1 more",
        ),
        ({"objective": "stability", "m": 1, "worst_of": 8}, "worst of 8"),
        ({"objective": "smoothadv", "m": 2, "worst_of": 8, "graded": True}, "graded of 8"),
        ({"m": 4}, None),
        ({"objective": ["maxup"], "m": 4}, None),
        ({"objective": "maxup", "m": "many"}, None),
        ({"objective": "maxup", "m": 4, "reduction": "median"}, None),
        ({"objective": "maxup", "m": 4, "reduction": ["max"]}, None),
    ],
)
def test_copies_are_told_in_words_of_what_the_objective_reads(config: dict[str, Any], words: str | None) -> None:
    assert copies_text(config) == words


def test_the_table_of_trainings_tells_the_copies_of_each(tmp_path: Path) -> None:
    text = report(
        folder(tmp_path / "mean", objective="mean_of_m", m=4),
        folder(tmp_path / "edge", objective="consistency", m=2, worst_of=8, graded=True, reach=2.0),
        folder(tmp_path / "torn", objective="maxup", m="many"),
    ).markdown
    head = "| run | objective | arch | copies | batch size | dtype | epochs | images/s (median) | training time |"
    assert head in text
    assert "| mean | mean_of_m | lenet | mean of 4 | 256 |" in text
    assert "| edge | consistency | lenet | graded of 8, moved up to 2 sigma, and 1 more | 256 |" in text
    assert "| torn | maxup | lenet | – | 256 |" in text
