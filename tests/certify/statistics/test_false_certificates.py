"""How many certificates of a table may be false: the exact quantile, over all of its rows."""

from fractions import Fraction
from math import comb

import numpy as np
import pytest
from claimed_rows import ROUNDING, rows
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.tables.population import false_certificates, largest_alpha


@pytest.mark.parametrize("images", [1, 2, 7, 20, 60])
@pytest.mark.parametrize("alpha", [Fraction(1, 1000), Fraction(1, 50), Fraction(3, 10), Fraction(99, 100)])
@pytest.mark.parametrize("confidence", [Fraction(1, 2), Fraction(95, 100), Fraction(999, 1000)])
def test_the_bound_on_false_certificates_is_the_exact_quantile(
    images: int, alpha: Fraction, confidence: Fraction
) -> None:
    found = false_certificates(rows([0] * images, float(alpha)), float(confidence))
    assert found is not None

    def at_most(false: int) -> Fraction:
        return sum(
            (comb(images, k) * alpha**k * (1 - alpha) ** (images - k) for k in range(false + 1)), start=Fraction(0)
        )

    assert at_most(found.at_most) >= Fraction(repr(found.probability)) >= confidence
    assert found.at_most == 0 or at_most(found.at_most - 1) < confidence


def chance(probabilities: list[float]) -> NDArray[np.float64]:
    """The law of the number of independent events that happen."""
    law = np.ones(1)
    for probability in probabilities:
        law = np.convolve(law, [1 - probability, probability])
    return law


@given(st.lists(st.floats(0, 0.2), min_size=1, max_size=12), st.floats(0.5, 0.999))
def test_certificates_that_are_false_less_often_than_alpha_keep_the_bound(
    false: list[float], confidence: float
) -> None:
    found = false_certificates(rows([0] * len(false), 0.2), confidence)
    assert found is not None
    assert chance(false)[: found.at_most + 1].sum() >= found.probability / ROUNDING


def test_all_rows_count_since_the_noise_decides_which_of_them_abstain() -> None:
    # Images of which none has a true certificate to give: each row abstains, or is false with probability alpha.
    images, alpha = 20, 0.04
    law = chance([alpha] * images)

    def miss(counted: list[int]) -> float:
        """Probability of more false certificates than the bound from a table with this many rows of each outcome."""
        total = 0.0
        for false in range(images + 1):
            table = rows([0] * false + [ABSTAIN] * (counted[false] - false), alpha)
            found = false_certificates(table)
            total += law[false] * (found is None or false > found.at_most)
        return total

    assert miss([images] * (images + 1)) <= 0.05
    assert miss([max(false, 1) for false in range(images + 1)]) > 0.5  # only the certificates given are counted


def test_a_number_of_false_certificates_is_at_most_that_of_certificates() -> None:
    few = false_certificates(rows([0, *[ABSTAIN] * 999], 0.01))
    assert few is not None
    assert (few.at_most, few.certificates, few.probability) == (1, 1, 0.95)
    none = false_certificates(rows([ABSTAIN] * 1000, 0.01))
    assert none is not None
    assert (none.at_most, none.certificates, none.probability) == (0, 0, 1.0)
    known = [false_certificates(rows([0] * images)) for images in (500, 10_000)]
    assert [found.at_most for found in known if found] == [2, 15]


def test_no_false_certificate_at_all_has_the_union_bounds_probability() -> None:
    found = false_certificates(rows([0] * 7))
    assert found is not None
    assert (found.at_most, found.probability) == (0, 0.993)


def test_the_largest_alpha_counts_and_none_is_told_by_a_log_without_it() -> None:
    assert largest_alpha(rows([0, 0], [0.001, 0.5])) == 0.5
    assert false_certificates(rows([0, 0], [0.001, 0.5])) == false_certificates(rows([0, 0], 0.5))
    assert largest_alpha(rows([0]).drop(columns="alpha")) is None
    assert false_certificates(rows([0]).drop(columns="alpha")) is None
