"""Lists and numbers on the command line, as text that a user typed."""


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
        raise ValueError(f"--radii must be numbers separated by commas, such as 0,0.25,0.5; got {text!r}.") from None
    if not all(0 <= radius < float("inf") for radius in found):
        raise ValueError(f"--radii must be at least 0 and finite, got {text!r}.")
    return found


def integers(option: str, text: str | None) -> tuple[int, ...] | None:
    """Positive integers separated by commas; None for None.

    Raises:
        ValueError: With the fix.
    """
    if text is None:
        return None
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise ValueError(f"{option} must be positive integers separated by commas, got {text!r}.")
    return tuple(map(int, parts))


def batch_size(text: str) -> int | None:
    """A positive integer; None for ``auto``.

    Raises:
        ValueError: With the fix.
    """
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"--batch-size must be auto or a positive integer, got {text!r}.")
    return int(text)
