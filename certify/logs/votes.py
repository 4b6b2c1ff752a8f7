"""Votes of all classes without a header: a line an image, with its label before or after the votes."""

# Shapes: N images, K classes.

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.certify.logs.log import Given, Log, frame
from maxup_smoothing.certify.logs.source import Source, numbered
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound
from maxup_smoothing.certify.statistics.radius import ABSTAIN, certified_radius

_COUNT = re.compile("[0-9]{1,9}")
_LARGEST = 10**9
_LAYOUTS = ("votes, label", "label, votes", "idx, label, votes", "idx, votes, label")


@dataclass(frozen=True)
class VoteRows:
    """Whole numbers: n votes shared by the classes in each line, and the label."""

    name: str = "vote-rows"
    project: str = "votes as `numpy.savetxt` writes them"

    def matches(self, source: Source) -> bool:
        """Whether all lines are as many whole numbers, of which a part sums to the same n."""
        grid = _grid(source)
        return grid is not None and bool(_layouts(grid))

    def read(self, source: Source, given: Given) -> Log:
        """Radii of Gaussian noise from the votes; n is their sum, sigma and alpha are given.

        The class is chosen by the votes that certify it, so alpha is shared by all classes.

        Raises:
            ValueError: If it is not told which number is the label, or sigma or alpha is missing.
        """
        grid = _grid(source)
        ways = {} if grid is None else _layouts(grid)
        if len(ways) != 1:
            raise ValueError(
                f"{source.path} has whole numbers that can be read as {' and as '.join(ways)}; write it with the "
                "columns idx, label and counts (a list such as [3, 97]) under a line that names them, tab-separated."
            )
        layout, (idx, labels, votes_NK) = next(iter(ways.items()))
        classes = votes_NK.shape[1]
        n = given.or_told("n", int(votes_NK[0].sum()))
        sigma, alpha = (given.or_told(name, None) for name in ("sigma", "alpha"))
        n_a, chosen = votes_NK.max(axis=1), votes_NK.argmax(axis=1)
        lower = lower_confidence_bound(n_a, n, alpha / classes)
        radius = np.asarray(certified_radius(lower, sigma))
        predict = np.where(radius > 0, chosen, ABSTAIN)
        rows = len(votes_NK)
        table = frame(
            {
                "idx": (np.arange(rows) if idx is None else idx).tolist(),
                "label": labels.tolist(),
                "predict": predict.tolist(),
                "radius": radius.tolist(),
                "correct": (predict == labels).astype(int).tolist(),
                "n": [n] * rows,
                "n_a": n_a.tolist(),
                "alpha": [alpha / classes] * rows,
                "sigma": [sigma] * rows,
                "p_a_lower": lower.tolist(),
            }
        )
        notes = [
            f"a line is {layout}: n = {n:,} votes for {classes} classes; radii were computed from them.",
            f"classes are chosen by the votes that certify them, so alpha = {alpha:g} is shared by {classes} classes.",
        ]
        if idx is None:
            notes.append("idx is the position in the file: which images these are, it does not tell.")
        return Log(table=table, dialect=self.name, kind="sampling", notes=tuple(notes))


def why_no_votes(source: Source) -> str | None:
    """Why lines of whole numbers are not votes that are known, and what to do; None for other files."""
    lines = numbered(source)
    if not lines or len(lines[0][1]) < 3 or not all(map(_COUNT.fullmatch, lines[0][1])):
        return None
    return (
        "it has lines of whole numbers; votes are read where each line has as many of them, the votes of all classes "
        "sum to the same n in each, and the label stands before or after them"
    )


def _grid(source: Source) -> NDArray[np.int64] | None:
    """The file as whole numbers, (N, columns); None if it is something else."""
    lines = numbered(source)
    if len(lines) < 2 or not 3 <= len(lines[0][1]) <= 10_002:
        return None
    columns = len(lines[0][1])
    if any(
        len(texts) != columns or not all(text.isdecimal() and len(text) < 10 for text in texts) for _, texts in lines
    ):
        return None
    return np.array([[int(text) for text in texts] for _, texts in lines], dtype=np.int64)


def _layouts(
    grid: NDArray[np.int64],
) -> dict[str, tuple[NDArray[np.int64] | None, NDArray[np.int64], NDArray[np.int64]]]:
    """The ways in which all lines can be read, each with idx (None if it is not there), labels and votes (N, K)."""
    found = {}
    for layout in _LAYOUTS:
        names = layout.split(", ")
        with_idx, label_last = names[0] == "idx", names[-1] == "label"
        first, last = int(with_idx) + (not label_last), grid.shape[1] - label_last
        votes_NK = grid[:, first:last]
        labels = grid[:, -1] if label_last else grid[:, int(with_idx)]
        idx = grid[:, 0] if with_idx else None
        sums = votes_NK.sum(axis=1)
        fits = votes_NK.shape[1] >= 2 and sums[0] > 1 and bool((sums == sums[0]).all()) and sums[0] <= _LARGEST
        if fits and labels.max() < votes_NK.shape[1] and (idx is None or _are_indices(idx)):
            found[layout] = (idx, labels, votes_NK)
    return found


def _are_indices(numbers: Sequence[int] | NDArray[np.int64]) -> bool:
    return len(np.unique(numbers)) == len(numbers)
