"""A radius table of three rows of ours, and where it lies."""

from pathlib import Path

import numpy as np
import pytest
from one_look import certificate

from maxup_smoothing.certify.tables.radius_table import RadiusTable, Row, row_of

MANIFEST = {"certification": {"n": 1000, "alpha": 0.001}, "notes": {"host": "a"}}
SIX = "idx\tlabel\tpredict\tradius\tcorrect\ttime"


def make_row(idx: int, n_a: int = 990, *, n: int = 1000, sigma: float = 0.5, label: int = 3) -> Row:
    votes_V = np.array([0, 0, 0, n_a, 0, n - n_a, 0])
    proved = certificate(np.array([0, 0, 0, 100, 0, 0, 0]), votes_V, 0.001, sigma)
    return row_of(proved, idx, label, n0=100, sigma=sigma, alpha=0.001, seconds=1.25)


def write_table(path: Path, rows: int = 3) -> bytes:
    with RadiusTable.open(path, MANIFEST) as table:
        for idx in range(rows):
            table.append(make_row(20 * idx, 990 - 300 * idx))
    return path.read_bytes()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "x" / "radii.tsv"
