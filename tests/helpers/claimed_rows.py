"""Rows of a radius table that claim certificates, and the slack that comparisons of rounded bounds need."""

import pandas as pd

ROUNDING = 1 + 1e-9  # of the enumeration itself


def rows(predict: list[int], alpha: float | list[float] = 0.001) -> pd.DataFrame:
    return pd.DataFrame({"predict": predict, "alpha": alpha, "label": 0, "correct": 0, "radius": 0.0})
