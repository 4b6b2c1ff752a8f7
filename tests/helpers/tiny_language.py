"""A made-up text, and tiny language models that read it."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from maxup_smoothing.data import text
from maxup_smoothing.data.text import Corpus
from maxup_smoothing.train.language.config import LanguageConfig
from maxup_smoothing.train.language.model import LanguageModel, build
from maxup_smoothing.train.language.trainer import Trainer

NOUNS, VERBS, PLACES = ("fox", "hen", "owl", "cat"), ("sees", "hears", "follows"), ("here", "there", "<unk>")


def write(folder: Path, lines: int = 60) -> Path:
    """Sentences of a tiny grammar, with an empty line now and then, in three files."""
    draw = np.random.default_rng(0)
    for split, count in (("train", lines), ("valid", 12), ("test", 11)):
        sentences = [
            f" the {draw.choice(NOUNS)} {draw.choice(VERBS)} the {draw.choice(NOUNS)} {draw.choice(PLACES)} "
            if number % 10
            else ""
            for number in range(1, count + 1)
        ]
        folder.mkdir(exist_ok=True)
        (folder / f"{split}.txt").write_text("".join(f"{sentence}\n" for sentence in sentences))
    return folder


def settings(**changes: Any) -> LanguageConfig:
    plain: dict[str, Any] = {"corpus": "text", "arch": "lstm", "sigma": 0.5, "epochs": 2, "batch_size": 4, "bptt": 5}
    small = {"lr": 0.01, "embedding": 6, "hidden": 7, "layers": 2}
    heads = {"heads": 2} if changes.get("arch") == "transformer" else {}
    return LanguageConfig(**{**plain, **small, **heads, **changes})


def model(config: LanguageConfig, words: int, seed: int = 0) -> LanguageModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(config, words)


def trainer(corpus: Corpus, **changes: Any) -> Trainer:
    config = settings(**changes)
    return Trainer(model(config, len(corpus.words), config.seed), corpus, config)


def corpus(folder: Path) -> Corpus:
    return text.load(str(write(folder)))
