import numpy as np
import pandas as pd
import pytest

from maxup_smoothing.analysis.curves import step_curve
from maxup_smoothing.certify.statistics.binomial import proportion_interval
from maxup_smoothing.certify.tables.summary import certified_accuracy

TABLE = pd.DataFrame({"radius": [0.5, 0.25, 0.75, 0.0, 0.25], "correct": [1, 1, 0, 0, 1]})


def test_the_curve_steps_down_after_each_certified_radius() -> None:
    curve = step_curve(TABLE, 1.0)
    assert curve.radius.tolist() == [0.0, 0.25, 0.5, 1.0]
    # At 0 and up to 0.25 three of five images are certified, up to 0.5 one, beyond none; the wrong one never counts.
    assert curve.accuracy.tolist() == [0.6, 0.6, 0.2, 0.0]
    low, high = proportion_interval([3, 3, 1, 0], 5)
    assert curve.low.tolist() == low.tolist()
    assert curve.high.tolist() == high.tolist()


def test_the_steps_are_the_certified_accuracy_at_every_radius() -> None:
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"radius": rng.choice(np.linspace(0, 1, 30), 200), "correct": rng.integers(0, 2, 200)})
    curve = step_curve(table, 1.2)
    radii = np.linspace(0, 1.2, 500)
    stepped = curve.accuracy[np.searchsorted(curve.radius, radii)]
    assert stepped.tolist() == certified_accuracy(table, radii.tolist())["accuracy"].tolist()


def test_a_curve_may_end_before_its_largest_radius() -> None:
    curve = step_curve(TABLE, 0.5)
    assert curve.radius.tolist() == [0.0, 0.25, 0.5]
    assert curve.accuracy.tolist() == [0.6, 0.6, 0.2]


@pytest.mark.parametrize("end", [0.0, -1.0, np.inf, np.nan])
def test_the_end_must_be_positive_and_finite(end: float) -> None:
    with pytest.raises(ValueError, match="must be positive and finite"):
        step_curve(TABLE, end)
