"""A run of a language model, from its configuration to a run folder with the test perplexity.

The folder holds what every run folder holds (see ``train.run_folder``), and in the end perplexity.json: what the best
checkpoint, chosen by the validation text, says of the validation and of the test text. The test text is read then and
not before, so nothing can be chosen by it.
"""

import dataclasses
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import torch

from maxup_smoothing.data import text
from maxup_smoothing.data.runtime import console
from maxup_smoothing.data.runtime.atomic import write_atomically
from maxup_smoothing.data.runtime.signals import WORDS, Stop, Stopped
from maxup_smoothing.data.text import Corpus
from maxup_smoothing.train.language import checkpoint, perplexity
from maxup_smoothing.train.language.config import LanguageConfig
from maxup_smoothing.train.language.model import build
from maxup_smoothing.train.language.trainer import Epoch, Trainer
from maxup_smoothing.train.run_folder import RunFolder


def run(
    settings: LanguageConfig,
    path: Path,
    device: torch.device,
    environment: bytes,
    *,
    resume: bool,
    data_root: Path | None,
) -> None:
    """Train, and measure the test perplexity after the last epoch.

    Args:
        settings: What to train.
        path: Run folder.
        device: On which.
        environment: Goes into environment.json.
        resume: Go on with the run in the folder, if there is one.
        data_root: Where known corpora lie.

    Raises:
        ValueError: If the folder holds another run, the corpus is not what it should be, or the loss diverges.
        OSError: If a file is missing or cannot be written.
        Stopped: After the step in which SIGINT or SIGTERM came.
    """
    folder = RunFolder(path, line=Epoch)
    corpus = text.load(settings.corpus, data_root)
    torch.manual_seed(settings.seed)  # initial weights; all else is seeded by what it is for
    with folder.held():
        state = folder.find_state(settings, resume=resume)
        trainer = Trainer(build(settings, len(corpus.words)).to(device), corpus, settings)
        if state is not None:
            folder.restore(trainer, state, corpus.fingerprint)
        folder.begin(settings, environment, trainer.finished)
        found = folder.path / "perplexity.json"
        if trainer.finished < settings.epochs:
            found.unlink(missing_ok=True)  # of weights that will not be those of the end
        elif not folder.checkpoint.exists():
            _save(folder.checkpoint, trainer, corpus)
        print(_title(trainer, corpus, folder), flush=True)
        for line in _epochs(trainer, folder):
            # The state comes last: what it says is finished is on disk already.
            for file in (folder.checkpoint, folder.best)[: 2 if trainer.improved else 1]:
                _save(file, trainer, corpus)
            folder.record(line, {**trainer.state(), "data": corpus.fingerprint})
            print(_report(line, settings.epochs), flush=True)
        if not found.exists():
            write_atomically(found, json.dumps(_perplexities(folder, corpus, device), indent=1).encode() + b"\n")
    print(found.read_text(), end="")


def _save(path: Path, trainer: Trainer, corpus: Corpus) -> None:
    with trainer.averaged():
        checkpoint.save(path, trainer.model, trainer.config, corpus.words, trainer.finished)


def _perplexities(folder: RunFolder, corpus: Corpus, device: torch.device) -> dict[str, object]:
    best = checkpoint.load(folder.best)
    result: dict[str, object] = {
        "corpus": corpus.name,
        "fingerprint": corpus.fingerprint,
        "checkpoint": folder.best.name,
        "epoch": best.epoch,
        "parameters": sum(parameter.numel() for parameter in best.model.parameters()),
    }
    for split, stream in (("validation", corpus.valid), ("test", corpus.test)):
        pairs = perplexity.pairs(stream, corpus.eos, device)
        likelihood = perplexity.measure(best.model.to(device), pairs, best.config.bptt)
        result[split] = {**dataclasses.asdict(likelihood), "perplexity": likelihood.perplexity}
    return result


def _epochs(trainer: Trainer, folder: RunFolder) -> Iterator[Epoch]:
    """Train, and yield each epoch."""
    epochs, total = trainer.config.epochs, trainer.words_BL.numel()
    with Stop("leaving after this step, with the finished epochs on disk") as stop, console.progress() as bar:
        task = bar.add_task("training", total=epochs * total, completed=trainer.finished * total)

        def advance(tokens: int) -> None:
            bar.advance(task, tokens)
            if stop.status is not None:
                raise Stopped(
                    stop.status,
                    f"{WORDS[stop.status]}; what was finished is on disk: {trainer.finished} of {epochs} epochs in "
                    f"{folder.path}. The same command with --resume goes on.",
                )

        while trainer.finished < epochs:
            yield trainer.epoch(advance)


def _title(trainer: Trainer, corpus: Corpus, folder: RunFolder) -> str:
    config = trainer.config
    if trainer.finished >= config.epochs:
        return f"{folder.path} is finished: {config.epochs} epochs."
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    copies = "one copy" if config.m == 1 else f"{config.reduction} of {config.m} copies"
    return (
        f"{config.arch} on {corpus.name}: {len(corpus.train):,} / {len(corpus.valid):,} / {len(corpus.test):,} tokens "
        f"of {len(corpus.words):,} types, {parameters:,} parameters, {copies}, sigma {config.sigma:g}, epochs "
        f"{trainer.finished + 1} to {config.epochs}, {config.dtype} on {trainer.device}"
    )


def _report(line: Epoch, epochs: int) -> str:
    return (
        f"epoch {line.epoch:3d}/{epochs}  loss {line.loss:.4f}  gap {line.gap:.4f}  validation perplexity "
        f"{line.validation_perplexity:.2f}  {line.tokens_per_second:,.0f} tokens/s  "
        f"{timedelta(seconds=round((epochs - line.epoch) * line.seconds))} left"
    )
