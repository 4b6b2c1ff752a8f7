"""JSON as other people's files have it, read so that nobody can read it in two ways."""

import json
import math
from typing import Any

_DEEPEST = 50  # ours has five levels; what is read must also be shown and written again, in Python's recursion


def parse(text: str | bytes) -> Any:
    """The value of a JSON text.

    Stricter than ``json.loads``: a name that is there twice, nan, infinite numbers, halves of surrogate pairs and deep
    nesting are refused.

    Raises:
        ValueError: In words that follow "not JSON": what is wrong.
    """
    try:
        found = json.loads(text, object_pairs_hook=_object, parse_constant=_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError(f"nested more than {_DEEPEST} levels deep") from None
    level, depth = [found], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError(f"nested more than {_DEEPEST} levels deep")
        level = [part for one in level if isinstance(one, dict | list) for part in _parts(one)]
    return found


def _parts(value: dict[str, Any] | list[Any]) -> list[Any]:
    for text in value if isinstance(value, list) else [*value, *value.values()]:
        if isinstance(text, str) and not _is_text(text):
            raise ValueError("it holds half of a surrogate pair, which is no text")
    return value if isinstance(value, list) else list(value.values())


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice[:50]!r} is there twice in one object")
    return found


def _constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:50]} is too large")
    return value
