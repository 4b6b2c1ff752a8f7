"""Moments of the largest of m normal numbers, against closed forms, an oracle of 30 digits, and training's own."""

import math

import mpmath  # type: ignore[import-untyped]
import pytest

from maxup_smoothing.analysis.theory.constants import blom, moment, root_log, table
from maxup_smoothing.train.objectives.gradient_penalty import expected_maximum

ROOT = math.sqrt(math.pi)
# David and Nagaraja (2003), section 3.2; c_5 after Godwin (1949).
CLOSED = {
    1: (0.0, 1.0),
    2: (1 / ROOT, 1.0),
    3: (3 / (2 * ROOT), 1 + math.sqrt(3) / (2 * math.pi)),
    4: (6 / ROOT**3 * math.atan(math.sqrt(2)), 1 + math.sqrt(3) / math.pi),
    5: (
        5 / (4 * ROOT) + 15 / (2 * ROOT**3) * math.asin(1 / 3),
        1 + 5 * math.sqrt(3) / (4 * math.pi) + 5 * math.sqrt(3) / (2 * math.pi**2) * math.asin(1 / 4),
    ),
}
# m: c_m, E[M_m^2], the variance of M_m; by mpmath with 30 digits.
REFERENCE = {
    2: (0.564189583548, 1.0, 0.68169),
    3: (0.846284375322, 1.275664448, 0.55947),
    4: (1.029375373004, 1.551328895, 0.49172),
    5: (1.162964473641, 1.800020436, 0.44753),
    8: (1.423600306045, 2.399534975, 0.37290),
    10: (1.538752730835, 2.712103790, 0.34434),
    16: (1.765991393055, 3.413735409, 0.29501),
    32: (2.069668827928, 4.525146560, 0.24162),
    100: (2.507593636442, 6.472430659, 0.18440),
}


@pytest.mark.parametrize("m", CLOSED)
def test_moments_have_their_closed_forms(m: int) -> None:
    mean, second = CLOSED[m]
    assert moment(m, 1) == pytest.approx(mean, abs=1e-14)
    assert moment(m, 2) == pytest.approx(second, abs=1e-14)


@pytest.mark.parametrize("m", REFERENCE)
def test_table_has_the_reference_values(m: int) -> None:
    mean, second, variance = REFERENCE[m]
    (row,) = table([m])
    assert row.mean == pytest.approx(mean, abs=1e-12)  # of m = 32 the last digit was cut off, not rounded
    assert row.second == pytest.approx(second, abs=6e-10)
    assert row.variance == pytest.approx(variance, abs=6e-6)


@pytest.mark.parametrize("m", [7, 1000, 10**6])
def test_moments_are_right_to_twelve_digits(m: int) -> None:
    with mpmath.workdps(25):
        centre = float(mpmath.sqrt(2 * mpmath.log(m)))
        pieces = [-12, *(centre + shift for shift in (-4, -2, -1, 0, 1, 2, 4)), centre + 12]
        for power in (1, 2):

            def integrand(z: mpmath.mpf, power: int = power) -> mpmath.mpf:
                return m * z**power * mpmath.npdf(z) * mpmath.ncdf(z) ** (m - 1)

            assert abs(mpmath.quad(integrand, pieces) - moment(m, power)) < 1e-12


@pytest.mark.parametrize("m", [1, 2, 4, 16, 64, 1000])
def test_training_has_the_same_constant(m: int) -> None:
    assert expected_maximum(m) == pytest.approx(moment(m, 1), abs=1e-10)


def test_approximations_are_as_far_off_as_the_documentation_says() -> None:
    assert root_log(4) / moment(4, 1) == pytest.approx(1.6176, abs=1e-4)
    assert all(root_log(m) > moment(m, 1) for m in REFERENCE)
    assert all(abs(blom(m) / moment(m, 1) - 1) < 0.045 for m in REFERENCE)


@pytest.mark.parametrize(("m", "power", "message"), [(0, 1, "m must"), (10**6 + 1, 1, "m must"), (4, 3, "power must")])
def test_other_moments_are_refused(m: int, power: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        moment(m, power)
