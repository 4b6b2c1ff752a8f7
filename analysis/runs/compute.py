"""How many passes a training made: what equal compute is counted in where machines differ."""

from collections.abc import Mapping
from typing import Any


def passes_of(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Forward and backward passes over each example in an epoch, as ``train.maxup`` makes them.

    MaxUp passes all m copies forward, and the worst once more, forward and backward.

    Args:
        config: Of a run, of a classifier or a language model.

    Returns:
        None where it depends on more than the configuration, or the objective is another one.
    """
    numbers = [config.get(name, default) for name, default in (("m", 1), ("top_k", 1), ("m_start", 0))]
    if any(type(number) is not int for number in numbers):
        return None
    m, top_k, m_start = numbers
    kind = "maxup" if config.get("task") == "language" else config.get("objective")
    if kind in ("plain", "gaussian"):
        return 1, 1
    if kind == "mean_of_m":
        return m, m
    if kind != "maxup" or m_start:
        return None
    kept = {"max": 1, "topk": top_k}.get(config.get("reduction", "max"))
    return (m, m) if m == 1 or kept is None else (m + kept, kept)


def passes_text(config: Mapping[str, Any], epochs: int) -> str | None:
    """Those of a whole training, such as ``50 + 10``; None where they are not known."""
    found = passes_of(config)
    return None if found is None else f"{epochs * found[0]} + {epochs * found[1]}"
