"""Radius tables written for figures, and the texts that a figure shows."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from one_look import certificate

from maxup_smoothing.certify.tables.radius_table import RadiusTable, row_of


def write_run(path: Path, votes: list[int], n: int = 1000, sigma: float = 0.5) -> Path:
    with RadiusTable.open(path, {}) as table:
        for idx, n_a in enumerate(votes):
            votes_V = np.array([0, 0, 0, n_a, n - n_a, 0])
            proved = certificate(np.array([0, 0, 0, 100, 0, 0]), votes_V, 0.001, sigma)
            table.append(row_of(proved, idx, 3, n0=100, sigma=sigma, alpha=0.001, seconds=0.1))
    return path


def texts(figure: Figure) -> list[str]:
    axes = figure.axes[0]
    legends = [legend for legend in (axes.get_legend(), *figure.legends) if legend is not None]
    return [text.get_text() for text in [*axes.texts, *(text for legend in legends for text in legend.get_texts())]]
