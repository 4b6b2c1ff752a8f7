"""What a configuration records of its training: the noisy copies of each image, and the passes they cost."""

from collections.abc import Mapping
from typing import Any

_ONE = ("gaussian", "plain")
# Of keys that came later; a folder that lacks them was trained as these say.
_DEFAULTS: Mapping[str, Any] = {
    "m": 1,
    "reduction": "max",
    "top_k": 1,
    "worst_of": 1,
    "graded": False,
    "reach": 0.0,
}


def copies_text(config: Mapping[str, Any]) -> str | None:
    """Such as ``mean of 4``, ``worst of 4`` or ``graded of 8, and 1 more``; a bare number where nothing is chosen.

    Args:
        config: Of a classifier's training; keys that are missing have their defaults.

    Returns:
        None where there is no objective, or a key that it reads has no value that training takes.
    """
    objective = config.get("objective")
    told = {key: config.get(key, default) for key, default in _DEFAULTS.items()}
    counts = [told[key] for key in ("m", "top_k", "worst_of")]
    if not isinstance(objective, str) or any(type(count) is not int for count in counts):
        return None
    m, top_k, worst_of = counts
    if objective in _ONE:
        return "1"
    if objective == "mean_of_m":
        return _of("mean", m)
    if objective == "maxup":
        words = {"max": "worst", "topk": "worst" if top_k == 1 else f"{top_k:,} worst"}
        words |= {"logsumexp": "soft maximum", "mean": "mean"}
        word = words.get(told["reduction"]) if isinstance(told["reduction"], str) else None
        return None if word is None else _of(word, m)
    if worst_of <= 1:
        return f"{m:,}"
    # Consistency holds the chosen copy against m - 1 further ones; the others do not count it among m.
    further = f", and {m - 1:,} more" if objective == "consistency" and m > 1 else ""
    return _chosen(worst_of, told["graded"], told["reach"]) + further


def _of(word: str, m: int) -> str:
    """With one copy there is nothing to choose or to average."""
    return f"{word} of {m:,}" if m > 1 else f"{m:,}"


def _chosen(worst_of: int, graded: object, reach: object) -> str:
    """How the first copy was chosen among its candidates; reach is read with graded alone."""
    if graded is not True:
        return f"worst of {worst_of:,}"
    moved = f", moved up to {reach:g} sigma" if isinstance(reach, int | float) and reach > 0 else ""
    return f"graded of {worst_of:,}{moved}"


def passes_of(config: Mapping[str, Any]) -> tuple[int, int] | None:
    """Forward and backward passes over each example in an epoch, as ``train.maxup`` makes them.

    MaxUp passes all m copies forward, and the worst once more, forward and backward. With ``selection = "joint"``, and
    where all copies count, it passes all m of them forward and backward.

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
    kept = {"max": 1, "topk": top_k}.get(config.get("reduction", "max"), m)
    return (m, m) if kept >= m or config.get("selection") == "joint" else (m + kept, kept)


def passes_text(config: Mapping[str, Any], epochs: int) -> str | None:
    """Those of a whole training, such as ``50 + 10``; None where they are not known."""
    found = passes_of(config)
    return None if found is None else f"{epochs * found[0]} + {epochs * found[1]}"
