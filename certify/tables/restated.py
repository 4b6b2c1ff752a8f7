"""A radius table stated otherwise, in memory: in another norm, or as radii of being among the first k classes.

Neither is written into the column ``radius`` of a file. Everybody reads that column as the l2 radius of one class.

A restated table has a column ``norm``, which all readers of tables heed, or ``among``, the k, which the summary heeds.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from maxup_smoothing.certify.statistics.certificate import limits
from maxup_smoothing.certify.statistics.disagreement import TRANSFER
from maxup_smoothing.certify.statistics.norms import radius_in, require_norm
from maxup_smoothing.certify.statistics.radius import ABSTAIN, two_class_radius
from maxup_smoothing.certify.statistics.top_k import TopK, rivals, top_k_limits, top_k_radius
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.fields import ABSTAINED, CERTIFIED
from maxup_smoothing.certify.tables.radius_table import complete
from maxup_smoothing.certify.tables.row import Row
from maxup_smoothing.data.dataset import UNLABELLED

#: The column that says how many classes a row's class is among.
AMONG = "among"
_MOST = 1000  # bounds of a row: so many classes have no votes to speak of
_WHOLE = 1 - 1e-9  # of what the bounds give: a radius below that had something taken off
_NEEDED = ("n", "n_a", "alpha", "sigma", "counts")


def restated(
    table: pd.DataFrame,
    manifest: Mapping[str, Any] | None = None,
    *,
    norm: str = "l2",
    dimension: int | None = None,
    top_k: int | None = None,
) -> pd.DataFrame:
    """The table as radii of being among the first ``top_k`` classes, in ``norm``.

    Args:
        table: Rows as `certify.tables.radius_table.read` returns them.
        manifest: That of the table, if there is one.
        norm: One of `certify.statistics.norms.NORMS`.
        dimension: Coordinates of an image, C * H * W, where the manifest does not record its shape.
        top_k: See `among_first`; None leaves the radii of one class.

    Raises:
        ValueError: With the fix, if the table does not tell what that takes.
    """
    require_norm(norm)
    if dimension is not None and norm != "linf":
        raise ValueError("--dimension goes with --norm linf alone; leave it out.")
    if top_k is not None:
        table = among_first(table, top_k, manifest)
    return in_norm(table, norm, dimension_of(manifest, dimension) if norm == "linf" else None)


def in_norm(table: pd.DataFrame, norm: str, dimension: int | None = None) -> pd.DataFrame:
    """A copy of a table of l2 radii with these in another norm, and a column ``norm``; the table itself for l2.

    Args:
        table: Rows as `certify.tables.radius_table.read` returns them.
        norm: One of `certify.statistics.norms.NORMS`.
        dimension: Coordinates of an image; only linf needs it.

    Raises:
        ValueError: If the table's radii are not l2 already.
    """
    told = {str(name) for name in table["norm"]} if "norm" in table else {"l2"}
    if not told <= {norm} and told != {"l2"}:
        raise ValueError(f"the radii are {' and '.join(sorted(told))}; only l2 radii can be stated in {norm}.")
    if norm in told or norm == "l2":
        return table
    radii = radius_in(table["radius"].to_numpy(np.float64), norm, dimension)
    return table.assign(radius=radii, norm=norm)


def dimension_of(manifest: Mapping[str, Any] | None, asked: int | None = None) -> int:
    """Coordinates of an image, C * H * W, from ``notes.image_shape`` of a manifest, or else as asked for.

    Raises:
        ValueError: If neither tells it, or they differ.
    """
    if asked is not None and asked < 1:
        raise ValueError(f"--dimension must be at least 1, got {asked}.")
    shape = manifests.told(manifest, "notes", "image_shape")
    if shape:
        told = int(np.prod(shape, dtype=object))
        if asked not in (None, told):
            raise ValueError(f"the manifest says that images have {told} coordinates, --dimension says {asked}.")
        return told
    if asked is None:
        raise ValueError(
            "the table does not tell the shape of its images, which a radius in linf takes; pass --dimension C*H*W, "
            "such as 784 for images of 1x28x28."
        )
    return asked


def among_first(table: pd.DataFrame, k: int, manifest: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """A copy of a table with the radii within which a class stays among the first k of the smoothed classifier.

    The class is the image's label, or, without labels, the one that the selection samples chose. Both are fixed before
    the votes that count. Each row is false with probability at most its alpha. ``predict`` is the class where that is
    shown and an abstention elsewhere; so certified accuracy becomes certified top-k accuracy. The bounds on k + 1
    probabilities share alpha, whatever the rows' own ``bound`` is; see `certify.statistics.top_k`.

    Of procedures that look several times only the last look is taken, at its own level: all looks together spend at
    most alpha, so it does not matter which one was the last. The counts of all classes are known for that look alone.

    What a row claims below its votes is taken off again, from bounds and radius.

    Args:
        table: Rows as `certify.tables.radius_table.read` returns them, with the votes of all classes.
        k: At least 1, and less than the number of classes.
        manifest: That of the table; tables of procedures that stop early need it.

    Raises:
        ValueError: If the table does not tell its votes, or they belong to another classifier or another look.
    """
    _require_votes(table)
    require_among(set(table["procedure"]) if "procedure" in table else {"fixed"}, k, manifest)
    try:
        rows = [complete({str(name): value for name, value in fields.items()}) for fields in table.to_dict("records")]
    except ValueError as error:
        raise ValueError(f"--top-k: {error}") from None
    claims, p_N = claims_of(rows, k, manifest)
    radius_N = np.array([claim.radius for claim in claims])
    labels_N = np.array([row.label for row in rows], dtype=np.int64)
    predict_N = np.where(radius_N > 0, np.array([claim.label for claim in claims], dtype=np.int64), ABSTAIN)
    votes_N = [row.counts.get(claim.label, 0) for row, claim in zip(rows, claims, strict=True)]
    kept = table.drop(columns=[name for name in ("p_b_upper", "bound") if name in table])
    return kept.assign(
        predict=predict_N,
        radius=radius_N,
        correct=((predict_N == labels_N) & (predict_N != ABSTAIN)).astype(np.int64),
        status=np.where(predict_N == ABSTAIN, ABSTAINED, CERTIFIED).astype(object),
        p_a_lower=p_N,
        n_a=np.array(votes_N, dtype=np.int64),
        **{AMONG: np.full(len(rows), k, dtype=np.int64)},
    )


def claims_of(
    rows: Sequence[Row], k: int, manifest: Mapping[str, Any] | None
) -> tuple[list[TopK], NDArray[np.float64]]:
    """What rows of one table prove about the first k classes, see `among_first`; and each class's lower bound, (N,)."""
    proved = [float(two_class_radius(row.p_a_lower, row.p_b_upper, row.sigma)) for row in rows]
    pairs = list(zip(rows, proved, strict=True))
    cut = any(0 < row.radius < _WHOLE * most or (row.radius == 0 and most > 0) for row, most in pairs)
    known = manifests.told(manifest, "noise", "probability_error")
    classes = [row.selected if row.label == UNLABELLED else row.label for row in rows]
    errors = [_error(row, known) for row in rows]
    p_N, radius_N = np.zeros(len(rows)), np.zeros(len(rows))
    for (anytime, sigma), places in _alike(rows).items():
        p_n, q_nk = top_k_limits(
            np.array([rows[i].counts.get(classes[i], 0) for i in places], dtype=np.int64),
            np.array([rivals(rows[i].counts, classes[i], k) for i in places], dtype=np.int64),
            np.array([rows[i].n for i in places], dtype=np.int64),
            np.array([rows[i].looks[-1].level for i in places]),
            anytime=anytime,
            probability_error_N=np.array([errors[i] or 0.0 for i in places]),
        )
        p_N[places], radius_N[places] = p_n, top_k_radius(p_n, q_nk, sigma)
    for i, (row, most) in enumerate(pairs):
        if errors[i] is None or (cut and row.predict == ABSTAIN):
            p_N[i], radius_N[i] = 0.0, 0.0  # how much was taken off is not known
        elif row.predict != ABSTAIN and row.radius < most:
            less = np.nextafter(most - row.radius, np.inf)
            radius_N[i] = max(0.0, float(np.nextafter(radius_N[i] - less, -1.0)))
    return [TopK(k, label, float(radius)) for label, radius in zip(classes, radius_N, strict=True)], p_N


def require_among(procedures: set[str], k: int, manifest: Mapping[str, Any] | None) -> None:
    """Refuse a k of no use, and tables whose counts may not be those of the last look.

    Args:
        procedures: Of the rows.
        k: See `among_first`.
        manifest: That of the table.

    Raises:
        ValueError: With the fix.
    """
    if k < 1:
        raise ValueError(f"--top-k must be at least 1, got {k}.")
    classes = manifests.told(manifest, "classifier", "num_classes")
    if classes is not None and k >= classes:
        raise ValueError(f"--top-k must be less than the number of classes, {classes}, got {k}: all are among so many.")
    if k > _MOST:
        raise ValueError(f"--top-k must be at most {_MOST}, got {k}.")
    if procedures == {"fixed"}:
        return
    if manifest is None or "noise" not in manifest:
        raise ValueError(
            "--top-k needs the manifest of a table whose procedure stops early: without it, nobody knows if its counts "
            "are those of the last look; put it beside the table."
        )
    for step in manifest.get("recomputed") or []:
        if manifests.told(step, "to", "n") is not None:
            raise ValueError(
                "--top-k needs the votes for all classes, and of looks at fewer samples only the largest are stored; "
                "take the table that this one was computed from."
            )


def _require_votes(table: pd.DataFrame) -> None:
    if len(table) == 0:
        raise ValueError("the table has no rows: nothing has been certified yet.")
    if TRANSFER in table:
        raise ValueError("--top-k needs votes of the classifier that is deployed, and a transferred table has none.")
    if missing := [name for name in _NEEDED if name not in table]:
        raise ValueError(f"--top-k needs the votes for all classes, and the table has no column {', '.join(missing)}.")
    if "norm" in table and set(table["norm"]) != {"l2"}:
        raise ValueError("--top-k needs the votes behind l2 radii; name a table of those.")


def _alike(rows: Sequence[Row]) -> dict[tuple[bool, float], list[int]]:
    """The places of rows that can be computed at once."""
    found: dict[tuple[bool, float], list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        found[row.procedure == "anytime", row.sigma].append(place)
    return found


def _error(row: Row, known: float | None) -> float | None:
    """The noise's distance from a Gaussian: what bounds fall short of votes, or the manifest says; None if unknown."""
    full = limits(row.looks, procedure=row.procedure, bound=row.bound)
    short = max(full[0] - row.p_a_lower, row.p_b_upper - full[1], 0.0)
    if known is None and row.p_a_lower == 0 and short > 0:
        return None  # there may have been more to take off than there was
    return max(known or 0.0, float(np.nextafter(short, 1.0)) if short else 0.0)
