"""Rounding towards the safe side: no number is stored or printed larger than it is, no upper limit smaller."""

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction


def rounded_down(exact: Fraction) -> float:
    """The largest float that is at most ``exact``, a number that is not negative."""
    nearest = float(exact)
    return nearest if Fraction(nearest) <= exact else math.nextafter(nearest, 0.0)


def radius_text(radius: float) -> str:
    """A radius asked for, exactly, with two decimals or as many as it needs."""
    short = f"{radius:.2f}"
    return short if float(short) == radius else repr(float(radius))


def fraction_text(part: int, whole: int, digits: int) -> str:
    """``part / whole`` in decimals, rounded down by integer arithmetic."""
    scaled = int(part) * 10**digits // int(whole)
    return f"{Decimal(scaled).scaleb(-digits):f}"


def floor_text(value: float, digits: int) -> str:
    """A number >= 0 in decimals, rounded down from its shortest exact form."""
    return f"{Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_FLOOR):f}"


def ceil_text(value: float, digits: int) -> str:
    """A number >= 0 in decimals, rounded up from its shortest exact form."""
    return f"{Decimal(repr(float(value))).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_CEILING):f}"
