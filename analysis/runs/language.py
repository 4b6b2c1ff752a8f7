"""Run folders of language models, whose perplexity was measured at the end of their training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors

from maxup_smoothing.analysis.runs.folders import TrainedFolder, load_trained, read_object

PERPLEXITY = "perplexity.json"
FINISH = "finish its training, with the command that began it and --resume"
SPLITS = ("validation", "test")
_MOST_NATS = 50  # a token; a guess among 30,000 words costs 10


@dataclass(frozen=True, kw_only=True)
class Text:
    """What the best checkpoint says of a text: ``nats`` is the negative log-likelihood of all ``tokens`` together."""

    tokens: int
    nats: float

    @property
    def nats_a_token(self) -> float:
        """The mean, whose exponential is the perplexity."""
        return self.nats / self.tokens

    @property
    def perplexity(self) -> float:
        """As many equally likely words would be as hard to guess."""
        return math.exp(self.nats_a_token)


@dataclass(frozen=True, kw_only=True)
class LanguageFolder(TrainedFolder):
    """What training and its end left.

    Attributes:
        name: As shown.
        result: perplexity.json as it was read.
        texts: By split, ``validation`` and ``test``.
        parameters: Of the model; None where neither perplexity.json nor a checkpoint records.
    """

    name: str
    result: Mapping[str, Any]
    texts: Mapping[str, Text]
    parameters: int | None

    @property
    def corpus(self) -> str:
        """The text."""
        return str(self.result.get("corpus") or self.config.get("corpus", "unknown"))

    def reads_what(self, other: "LanguageFolder", split: str) -> bool:
        """Whether the other one reads the same text; by its length where the fingerprint of one is not told."""
        prints = {folder.result.get("fingerprint") for folder in (self, other)} - {None}
        return len(prints) < 2 and self.texts[split].tokens == other.texts[split].tokens


def is_language(config: Mapping[str, Any]) -> bool:
    """Whether a configuration is of a language model."""
    return config.get("task") == "language"


def load_language(path: Path, name: str) -> LanguageFolder:
    """Read a run folder with perplexity.json.

    Raises:
        ValueError: If a file is missing or damaged.
        OSError: If one cannot be read.
    """
    trained = load_trained(path)
    result = read_object(path / PERPLEXITY, f"delete it and {FINISH}")
    texts = {split: _text(path / PERPLEXITY, split, result.get(split)) for split in SPLITS}
    told = result.get("parameters")
    parameters = told if type(told) is int else _parameters(path / "best.safetensors")
    return LanguageFolder(name=name, result=result, texts=texts, parameters=parameters, **vars(trained))


def _text(path: Path, split: str, told: object) -> Text:
    values = told if isinstance(told, dict) else {}
    tokens, nats = values.get("tokens"), values.get("nats")
    if not isinstance(tokens, int) or not isinstance(nats, int | float):
        tokens, nats = 0, 0.0
    if not (0 < tokens < 10**12 and 0 <= nats <= _MOST_NATS * tokens):
        raise ValueError(f"{path} must tell the tokens and nats of the {split} text; delete it and {FINISH}.")
    return Text(tokens=tokens, nats=float(nats))


def _parameters(path: Path) -> int | None:
    """Numbers in a checkpoint of a language model, which has no buffers, from its header alone."""
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); restore it, or delete it if weights are not kept.") from None
