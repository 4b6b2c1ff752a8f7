"""One row of a radius table: its columns, its line, and the checks that a row must pass."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound
from maxup_smoothing.certify.statistics.certificate import BOUNDS, PROCEDURES, Look, limits
from maxup_smoothing.certify.statistics.disagreement import TRANSFER
from maxup_smoothing.certify.statistics.radius import (
    ABSTAIN,
    ceiling_radius,
    certified_radius,
    is_right,
    two_class_radius,
)
from maxup_smoothing.certify.statistics.top_k import TOP_K, rivals, top_k_holds, top_k_limits
from maxup_smoothing.certify.tables import fields as kinds
from maxup_smoothing.certify.tables.fields import (
    ABSTAINED,
    CEILING,
    CERTIFIED,
    Field,
    RowError,
    as_attributes,
    contradiction,
    format_counts,
    format_looks,
    format_seconds,
    parse_line,
)

FIELD_COLUMNS = ("idx", "label", "predict", "radius", "correct", "time")  # what this research field's scripts read
COLUMNS = (
    *FIELD_COLUMNS, "n0", "n", "n_a", "p_a_lower", "sigma", "alpha", "status", "counts",
    "selected", "p_b_upper", "procedure", "bound", "looks",
)  # fmt: skip

FIELDS: Mapping[str, Field[Any]] = {
    "idx": kinds.COUNT,
    "label": kinds.LABEL,
    "predict": kinds.PREDICTION,
    "radius": kinds.NOT_NEGATIVE,
    "correct": kinds.FLAG,
    "time": kinds.SECONDS,
    "n0": kinds.COUNT,
    "n": kinds.POSITIVE_COUNT,
    "n_a": kinds.COUNT,
    "p_a_lower": kinds.LOWER_BOUND,
    "sigma": kinds.POSITIVE,
    "alpha": kinds.PROBABILITY,
    "status": kinds.one_of((CERTIFIED, ABSTAINED)),
    "counts": kinds.COUNTS,
    "selected": kinds.COUNT,
    "p_b_upper": kinds.UPPER_BOUND,
    "procedure": kinds.one_of(PROCEDURES),
    "bound": kinds.one_of(BOUNDS),
    "looks": kinds.LOOKS,
    TRANSFER: kinds.PAIRS,
    TOP_K: kinds.TOP_K_CLAIM,
}

# Another version of scipy may differ in the last digits; a claim made in error differs in the first five.
_SLACK, _MOST_LOOKS = 1 + 1e-9, 1000  # a schedule has some tens; each takes up to 3 ms to check


@dataclass(frozen=True, kw_only=True)
class Row:
    """The certificate of one example, or its abstention; units and ranges are those of the columns.

    ``counts`` are the estimation stage's votes by class, `INVALID` for non-finite logits. ``n_a`` are those for
    ``selected``, the class that the selection stage chose, also where the result is an abstention.
    """

    idx: int
    label: int
    predict: int
    radius: float
    correct: bool
    seconds: float
    n0: int
    n: int
    n_a: int
    p_a_lower: float
    sigma: float
    alpha: float
    status: str
    counts: Mapping[int, int]
    selected: int
    p_b_upper: float
    procedure: str
    bound: str
    looks: tuple[Look, ...]

    @property
    def key(self) -> int:
        """What tells the rows of a table apart."""
        return self.idx


def format_row(row: Row) -> str:
    """The row's line, without its end; floats in their shortest exact form, so that what was certified is stored."""
    fields: dict[str, object] = {
        "time": format_seconds(row.seconds),
        "counts": format_counts(row.counts),
        "looks": format_looks(row.looks),
    }
    fields |= {name: getattr(row, name) for name in ("status", "procedure", "bound")}
    exact = ("radius", "p_a_lower", "p_b_upper", "sigma", "alpha")
    fields |= {name: repr(float(getattr(row, name))) for name in exact}
    return "\t".join(str(fields[name] if name in fields else int(getattr(row, name))) for name in COLUMNS)


def parse_row(line: str) -> Row:
    """The inverse of `format_row`.

    Raises:
        RowError: If a field is malformed or contradicts another one.
    """
    return Row(**as_attributes(parse_fields(line, COLUMNS)))


def parse_fields(line: str, header: Sequence[str]) -> dict[str, Any]:
    """The values of a line by column; columns that are not ours stay text.

    Raises:
        RowError: If a field is malformed or contradicts another one.
    """
    fields = parse_line(line, header, FIELDS)
    _check_claim(fields)
    _check_votes(fields)
    if {"selected", "p_b_upper", "procedure", "bound", "looks"} <= fields.keys() >= set(COLUMNS):
        _check_looks(fields)
        if TOP_K in fields:
            _check_top_k(fields)
    return fields


def _check_claim(row: Mapping[str, Any]) -> None:
    predict, radius = row["predict"], row["radius"]
    if row["correct"] != is_right(predict, row["label"]):
        raise contradiction(
            "correct", f"correct is {row['correct']}, but predict is {predict} and label {row['label']}."
        )
    if predict == ABSTAIN and radius != 0:
        raise contradiction("predict", f"an abstention must have radius 0, got {radius}.")
    if "status" in row and row["status"] != (ABSTAINED if predict == ABSTAIN else CERTIFIED):
        raise contradiction("status", f"status is {row['status']}, but predict is {predict}.")
    ceiling = math.inf
    if _plain(row) and {"n", "alpha", "sigma"} <= row.keys():
        ceiling = _ceiling(row["n"], row["alpha"], row["sigma"])
    if radius > ceiling * _SLACK:
        raise RowError(
            f"radius {radius} is above {ceiling}, the most that n={row['n']} votes can certify at "
            f"alpha={row['alpha']} and sigma={row['sigma']}.",
            kind=CEILING,
            field="radius",
        )


def _check_votes(row: Mapping[str, Any]) -> None:
    if {"n", "n_a"} <= row.keys() and row["n_a"] > row["n"]:
        raise contradiction("n_a", f"n_a is {row['n_a']}, more than n={row['n']}.")
    if {"n", "n_a", "counts"} <= row.keys():
        counts = row["counts"]
        if sum(counts.values()) != row["n"]:
            raise contradiction("counts", f"counts sum to {sum(counts.values())}, but n is {row['n']}.")
        if row["predict"] != ABSTAIN and counts.get(row["predict"], 0) != row["n_a"]:
            raise contradiction("n_a", f"counts of class {row['predict']} are not n_a={row['n_a']}.")
        if row["n_a"] not in (0, *counts.values()):
            raise contradiction("n_a", f"no class has n_a={row['n_a']} counts.")
    if _plain(row) and {"n", "n_a", "alpha", "p_a_lower"} <= row.keys():
        bound = _bound(row["n_a"], row["n"], row["alpha"])
        if row["p_a_lower"] > bound * _SLACK:
            raise contradiction(
                "p_a_lower", f"p_a_lower is {row['p_a_lower']}, but n_a={row['n_a']} of n={row['n']} give {bound}."
            )
    if _plain(row) and {"p_a_lower", "sigma"} <= row.keys() and row["radius"] > 0:
        proved = float(certified_radius(row["p_a_lower"], row["sigma"]))
        if row["radius"] > proved * _SLACK:
            raise contradiction(
                "radius", f"radius is {row['radius']}, but p_a_lower={row['p_a_lower']} gives {proved}."
            )


def _plain(row: Mapping[str, Any]) -> bool:
    """Whether the row is one of Cohen's procedure with its bound in l2, as every log is that does not say otherwise."""
    usual = row.get("procedure", "fixed") == "fixed" and row.get("bound", "clopper-pearson") == "clopper-pearson"
    return usual and row.get("norm", "l2") == "l2"


def _check_looks(row: Mapping[str, Any]) -> None:
    looks, selected = row["looks"], row["selected"]
    if len(looks) > _MOST_LOOKS:
        raise contradiction(
            "looks", f"there are {len(looks)} looks, more than the {_MOST_LOOKS} that any schedule has."
        )
    others = [count for label, count in row["counts"].items() if label != selected]
    for earlier, later in itertools.pairwise(looks):
        more, more_others = later.n - earlier.n, (later.n - later.n_a) - (earlier.n - earlier.n_a)
        if not (0 <= later.n_a - earlier.n_a <= more and more > 0 and 0 <= later.n_b - earlier.n_b <= more_others):
            raise contradiction("looks", f"looks must grow, got {format_looks([earlier, later])}.")
    for look in looks:  # no kind of vote had more than n_b then, nor more than it has now
        if look.n - look.n_a > sum(min(count, look.n_b) for count in others):
            raise contradiction("looks", f"the look {format_looks([look])} cannot have led to these counts.")
    rival = max(others, default=0)
    if (looks[-1].n, looks[-1].n_a, looks[-1].n_b) != (row["n"], row["counts"].get(selected, 0), rival):
        raise contradiction("looks", f"the last look, {format_looks(looks[-1:])}, does not agree with n and counts.")
    if row["predict"] not in (ABSTAIN, selected):
        raise contradiction("selected", f"predict is {row['predict']}, but class {selected} was selected.")
    spent = looks[-1].level if row["procedure"] == "anytime" else math.fsum(look.level for look in looks)
    spent += row[TRANSFER].level if TRANSFER in row else 0.0
    if spent > row["alpha"] * _SLACK:
        raise contradiction("alpha", f"the looks spend {spent}, more than alpha={row['alpha']}.")
    p_a_lower, p_b_upper = limits(looks, procedure=row["procedure"], bound=row["bound"])
    if TRANSFER in row:
        p_a_lower, p_b_upper = row[TRANSFER].carried(p_a_lower, p_b_upper, row["bound"])
    if row["p_a_lower"] > p_a_lower * _SLACK or row["p_b_upper"] * _SLACK < p_b_upper:
        raise contradiction(
            "p_a_lower",
            f"p_a_lower={row['p_a_lower']} and p_b_upper={row['p_b_upper']} claim more than the looks prove, "
            f"{p_a_lower} and {p_b_upper}.",
        )
    proved = float(two_class_radius(row["p_a_lower"], row["p_b_upper"], row["sigma"]))
    if row["radius"] > proved * _SLACK:
        raise contradiction("radius", f"radius is {row['radius']}, but the bounds give {proved}.")


def _check_top_k(row: Mapping[str, Any]) -> None:
    claim, last = row[TOP_K], row["looks"][-1]
    if claim.label not in (row["label"], row["selected"]):
        raise contradiction(
            TOP_K, f"top_k is about class {claim.label}, neither the label nor the class that was selected."
        )
    if claim.radius == 0:
        return
    p_N, q_NK = top_k_limits(
        [row["counts"].get(claim.label, 0)],
        [rivals(row["counts"], claim.label, min(claim.k, _MOST_LOOKS))],
        [row["n"]],
        last.level,
        anytime=row["procedure"] == "anytime",
    )
    if claim.k > _MOST_LOOKS or not top_k_holds(float(p_N[0]), q_NK[0], row["sigma"], claim.radius):
        raise contradiction(TOP_K, f"top_k claims the radius {claim.radius}, more than the votes prove.")


# Rows repeat n, alpha and sigma, and many repeat n_a; a scalar call costs as much as an array of a hundred.
@lru_cache(maxsize=4096)
def _bound(n_a: int, n: int, alpha: float) -> float:
    return float(lower_confidence_bound(n_a, n, alpha))


@lru_cache(maxsize=4096)
def _ceiling(n: int, alpha: float, sigma: float) -> float:
    return ceiling_radius(n, alpha, sigma)
