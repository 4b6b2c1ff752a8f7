r"""What a radius table proves beyond its rows: about the population of images, and about all its certificates at once.

Each certificate is false with probability at most alpha over its own noise. Three statements follow.

*Population.* Let a be the share of the population whose smoothed class is right and holds within r. An image of that
share is shown as certified at r with some probability at most 1, another one only by a false certificate, so with
probability at most alpha. A random image is shown as certified with probability q <= a + (1 - a) alpha. Therefore
a >= (q - alpha) / (1 - alpha), and a lower confidence bound on q gives one on a. The images must be a random sample
of the population. A fixed protocol such as every k-th image of a test set is treated as one, since nobody looked at
the images to choose it. The first rows of an unfinished table are one only if the order of the test set is random.
Where all of more than four rows are of one class, as every tenth image of labels in cycles of ten, nothing is stated.

*False certificates.* With independent noise for each image, the number of false certificates among N rows is a sum of
independent indicators, each true with probability at most alpha. So it is stochastically at most Binomial(N, alpha),
whose quantile bounds it. N counts all rows: abstentions are never false, but the same noise decides which rows abstain.

*All at once.* Let each of m certificates be taken at alpha / m. Then all are true with probability at least 1 - alpha,
by the union bound, with independent noise or without.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound
from maxup_smoothing.certify.statistics.certificate import Look
from maxup_smoothing.certify.statistics.disagreement import TRANSFER
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.tables.radius_table import complete
from maxup_smoothing.certify.tables.recompute import recompute_row
from maxup_smoothing.certify.tables.row import Row

_NEEDED = ("n", "n_a", "p_a_lower", "sigma", "alpha")
_FEW = 4  # rows
_ACCEPTED = 1 - 1e-9  # the reserve of `certify.statistics.binomial`: `betainc` itself is accurate to 3e-11


@dataclass(frozen=True, kw_only=True)
class FalseCertificates:
    """With ``probability`` or more, ``at_most`` of a table's ``certificates``, abstentions left out, are false."""

    at_most: int
    certificates: int
    probability: float


def largest_alpha(table: pd.DataFrame) -> float | None:
    """The failure probability that no row exceeds; None where the file does not have any."""
    return float(table["alpha"].max()) if "alpha" in table else None


def of_one_class(table: pd.DataFrame) -> bool:
    """Whether many rows are all of one class: they are no sample of a population of several classes.

    Few rows may be of one class by chance, and their bound claims little.
    """
    return "label" in table and len(table) > _FEW and table["label"].nunique() == 1


def population_lower_bound(
    certified: ArrayLike, images: int, alpha: float, confidence: float = 0.95
) -> NDArray[np.float64]:
    r"""Lower confidence bound on the share of the population that is truly robust: (CP_low - alpha) / (1 - alpha).

    P(bound <= share) >= confidence over random images and their noise, for one radius that was fixed beforehand.

    Args:
        certified: Images of the sample shown as certified and right, integers in [0, images], any shape.
        images: Size of the sample, abstentions and wrong predictions included.
        alpha: Failure probability of each certificate, in (0, 1).
        confidence: One-sided, in (0, 1).

    Returns:
        float64, shape of ``certified``, in [0, 1), rounded down; 0.0 where alpha explains all that is certified.

    Raises:
        ValueError: If an argument is out of range.
    """
    _probability("alpha", alpha)
    miss = _printed_below(1 - _probability("confidence", confidence))
    shown = lower_confidence_bound(certified, images, miss)
    surplus = np.nextafter(shown - alpha, -1.0)
    return np.maximum(np.nextafter(surplus / np.nextafter(1 - alpha, 2.0), -1.0), 0.0)[()]


def false_certificates(table: pd.DataFrame, confidence: float = 0.95) -> FalseCertificates | None:
    """Upper bound on the number of false certificates in this very table; None where the file does not have alpha.

    Args:
        table: Rows as `certify.tables.radius_table.read` returns them, certified with noise independent between images.
        confidence: Probability with which the bound holds over the noise, in (0, 1). ``probability`` is greater where
            the union bound says that no certificate is false with more than that.
    """
    miss = _printed_below(1 - _probability("confidence", confidence))
    if (alpha := largest_alpha(table)) is None:
        return None
    rows = len(table)
    certificates = int((table["predict"] != ABSTAIN).sum())
    false = np.arange(1, rows + 1)
    beyond = special.betainc(false, rows - false + 1, alpha)  # P(Binomial(rows, alpha) >= false), falling
    union = 1.0 if certificates == 0 else _printed_below(1 - rows * _probability("alpha", alpha))
    at_most = 0 if union >= confidence else min(int(np.count_nonzero(beyond > miss * _ACCEPTED)), certificates)
    probability = confidence if at_most else max(confidence, union)
    return FalseCertificates(at_most=at_most, certificates=certificates, probability=probability)


def simultaneous(table: pd.DataFrame, alpha: float | None = None) -> pd.DataFrame:
    """The table with certificates that are all true together with probability at least 1 - alpha.

    Each of the m rows is computed again from its votes at alpha / m, whatever its procedure and its bound; see
    `tables.recompute`. What a row claimed below its votes (the noise's distance from a Gaussian, a distance taken off
    its radius) is taken off again. No row claims more than before.

    Args:
        table: Rows as `tables.radius_table.read` returns them, with the columns n, n_a, p_a_lower, sigma and alpha.
        alpha: Probability, at most, that any certificate is false, in (0, 1); the rows' own if None (the smallest).

    Returns:
        A copy with p_a_lower, radius, predict, correct, status and alpha replaced, and p_b_upper and looks where the
        table has them.

    Raises:
        ValueError: If the table has no rows or no votes, or was certified at less than alpha / m.
    """
    _require_votes(table)
    strictest = float(table["alpha"].min())
    alpha = strictest if alpha is None else alpha
    each = _printed_below(_probability("alpha", alpha) / len(table))
    if each > strictest:
        raise ValueError(
            f"alpha={alpha} is {each} an image, looser than the {strictest} of a row; "
            f"take at most {len(table)} times the latter."
        )
    rows = [recompute_row(_row(fields), alpha=each) for fields in table.to_dict("records")]
    numbers = ("p_a_lower", "radius", "predict", "alpha", *(["p_b_upper"] if "p_b_upper" in table else []))
    new: dict[str, Any] = {name: np.array([getattr(row, name) for row in rows]) for name in numbers}
    if "looks" in table:
        new["looks"] = pd.Series([row.looks for row in rows], index=table.index, dtype="object")
    return table.assign(
        **new,
        correct=np.array([row.correct for row in rows], dtype=np.int64),
        status=[row.status for row in rows],
    )


def _require_votes(table: pd.DataFrame) -> None:
    if len(table) == 0:
        raise ValueError("the table has no rows: nothing has been certified yet.")
    if missing := [name for name in _NEEDED if name not in table]:
        raise ValueError(f"the table has no column {', '.join(missing)}, without which no row can be read again.")
    if TRANSFER in table:
        each = float(table["alpha"].min()) / len(table)
        raise ValueError(
            "the pairs of a transferred table were counted at its own alpha; transfer the certified table again with "
            f"`certify transfer --alpha {each:.3g}`."
        )
    if "looks" in table:
        return
    for name, wanted in (("procedure", "fixed"), ("bound", "clopper-pearson")):
        if name in table and (found := set(table[name])) != {wanted}:
            raise ValueError(
                f"without a column looks only {name}={wanted} can be read again at another alpha, got "
                f"{', '.join(sorted(found))}; certify with alpha / {len(table)} instead."
            )


def _row(fields: Mapping[Any, Any]) -> Row:
    """A row whose bound alone is wanted: a smaller alpha makes no abstention a certificate, so its class is none."""
    known = {str(name): value for name, value in fields.items()}
    if "looks" not in known:
        known["looks"] = (Look(known["n"], known["n_a"], known["n"] - known["n_a"], known["alpha"]),)
    return complete({"selected": known["predict"], "counts": {}, **known})


def _probability(name: str, value: float) -> Fraction:
    """The number as it is printed; its binary value differs by less than the reserve of any bound."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must be in (0, 1), got {value}.")
    return Fraction(repr(float(value)))


def _printed_below(exact: Fraction) -> float:
    """A float that is printed as ``exact`` or as less, by its last digit at most."""
    value = float(exact)
    return value if Fraction(repr(value)) <= exact else float(np.nextafter(value, -1.0))
