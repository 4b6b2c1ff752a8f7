"""A radius table with given outcomes, to be paired with another."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


def table(radii: ArrayLike) -> pd.DataFrame:
    """Label 1, one radius an image; 0 is an abstention, a negative radius a wrong prediction at it."""
    values = np.asarray(radii, dtype=np.float64)
    return pd.DataFrame(
        {
            "idx": np.arange(len(values)),
            "label": 1,
            "predict": np.where(values > 0, 1, np.where(values < 0, 2, -1)),
            "radius": np.abs(values),
            "correct": (values > 0).astype(np.int64),
            "sigma": 0.5,
            "n": 1000,
            "alpha": 0.001,
        }
    )
