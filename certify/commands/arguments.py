"""Lists and numbers on the command line, as text that a user typed."""

import re

_DIGITS = re.compile("[0-9]{1,9}")  # more are no number of anything here, and int() has limits of its own


def radii(text: str | None) -> list[float] | None:
    """Radii separated by commas, in their order; None for None.

    Raises:
        ValueError: With the fix.
    """
    if text is None:
        return None
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"--radii must be numbers separated by commas, such as 0,0.25,0.5; got {text[:200]!r}."
        ) from None
    if not all(0 <= radius < float("inf") for radius in found):
        raise ValueError(f"--radii must be at least 0 and finite, got {text[:200]!r}.")
    return found


def integers(option: str, text: str | None) -> tuple[int, ...] | None:
    """Positive integers separated by commas; None for None.

    Raises:
        ValueError: With the fix.
    """
    if text is None:
        return None
    parts = text.split(",")
    if not all(_DIGITS.fullmatch(part) and int(part) > 0 for part in parts):
        raise ValueError(f"{option} must be positive integers separated by commas, got {text[:200]!r}.")
    return tuple(map(int, parts))


def batch_size(text: str) -> int | None:
    """A positive integer; None for ``auto``.

    Raises:
        ValueError: With the fix.
    """
    if text == "auto":
        return None
    if not _DIGITS.fullmatch(text) or int(text) < 1:
        raise ValueError(f"--batch-size must be auto or a positive integer, got {text[:200]!r}.")
    return int(text)
