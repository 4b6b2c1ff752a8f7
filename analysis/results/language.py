"""The part of the report of results that is about language models: a section for each corpus."""

import math
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter

from maxup_smoothing.analysis.literature.claims import Claim
from maxup_smoothing.analysis.results.markdown import (
    UNKNOWN,
    claims_text,
    compute_cells,
    conditions_text,
    escaped,
    minutes_text,
    rate_text,
    table_text,
    told_text,
    values_text,
    warnings_text,
)
from maxup_smoothing.analysis.runs.language import SPLITS, LanguageFolder
from maxup_smoothing.analysis.runs.run import is_named
from maxup_smoothing.analysis.runs.training import passes_text
from maxup_smoothing.certify.statistics.rounding import ceil_text

_MOST_EPOCHS = 12  # columns of the table of epochs
#: What a reader must know of these sections.
READING = """\
Perplexity is e to the mean negative log-likelihood of a token, in nats, over the whole text: every token is predicted,
none is dropped, without noise. Both are rounded up (by epoch, to the nearest). The checkpoint is the one of the epoch
that was best on the validation text, so the validation perplexity is a little too good; the test text was read once,
after training.

There is no interval: each line is one network, and how much another training seed would change it is not known from
one. Tokens of a text depend on each other, so an interval over them is not given either.

Passes are those of the whole training over each training token, forward + backward.
"""
_CONDITIONS: dict[str, Callable[[LanguageFolder], object]] = {
    "training device": lambda folder: folder.environment.get("device"),
    "training threads": lambda folder: folder.environment.get("threads"),
    "training Python": lambda folder: folder.environment.get("python"),
    "training torch": lambda folder: folder.environment.get("torch"),
    "training dtype": lambda folder: folder.config.get("dtype"),
    "network": lambda folder: _network(folder),
    "batch size": lambda folder: folder.config.get("batch_size"),
    "words of back-propagation": lambda folder: folder.config.get("bptt"),
    "optimizer": lambda folder: folder.config.get("optimizer"),
    "learning rate": lambda folder: folder.config.get("lr"),
    "schedule": lambda folder: folder.config.get("schedule"),
    "parameters": lambda folder: folder.parameters,
    "validation tokens": lambda folder: folder.texts["validation"].tokens,
    "test tokens": lambda folder: folder.texts["test"].tokens,
}


def language_sections(folders: Sequence[LanguageFolder], controls: Sequence[str], claims: Sequence[Claim]) -> list[str]:
    """The sections as pieces of Markdown.

    Args:
        folders: Any number.
        controls: See `analysis.results.document.build_report`.
        claims: Shown beside runs of the same corpus.
    """
    parts = []
    for corpus in sorted({folder.corpus for folder in folders}):
        group = [folder for folder in folders if folder.corpus == corpus]
        parts += [f"## {escaped(corpus)}, language models\n", _perplexity_table(group), *warnings_text(group)]
        parts += ["### Validation perplexity after each epoch\n", _epochs_table(group)]
        for control in group:
            if len(group) > 1 and any(is_named(control.name, name) for name in controls):
                parts += [f"### Perplexity against {escaped(control.name)}\n", _differences(control, group)]
        shown = [claim for claim in claims if (claim.data, claim.measure) == (corpus, "perplexity")]
        if shown:
            ours = {split: [folder.texts[split].perplexity for folder in group] for split in SPLITS}
            parts += ["### Claimed for the same text\n", claims_text(shown, ours, _settings(group))]
        parts += ["### Conditions of training\n", conditions_text(group, _CONDITIONS)]
    return parts


def _perplexity_table(group: Sequence[LanguageFolder]) -> str:
    lines = []
    for folder in group:
        texts = [folder.texts[split] for split in SPLITS]
        lines.append(
            [
                escaped(folder.name),
                *(told_text(folder.config.get(key)) for key in ("sigma", "m")),
                UNKNOWN if folder.config.get("m") == 1 else told_text(folder.config.get("reduction")),
                told_text(folder.config.get("seed")),
                *(f"{ceil_text(text.perplexity, 2)} ({ceil_text(text.nats_a_token, 4)})" for text in texts),
                f"{folder.epochs} of {told_text(folder.config.get('epochs'))}",
                told_text(folder.result.get("epoch")),
                passes_text(folder.config, folder.epochs) or UNKNOWN,
                rate_text(folder.median("tokens_per_second")),
                minutes_text(folder.total_seconds()),
            ]
        )
    what = ["run", "sigma", "m", "reduction", "seed", *(f"{split} perplexity (nats a token)" for split in SPLITS)]
    return table_text([*what, "epochs", "best epoch", "passes", "tokens/s (median)", "training time"], lines)


def _epochs_table(group: Sequence[LanguageFolder]) -> str:
    last = max(folder.epochs for folder in group)
    step = max(1, math.ceil(last / _MOST_EPOCHS))
    shown = list(range(last, 0, -step))[::-1]
    lines = []
    for folder in group:
        known = folder.training.get("validation_perplexity")
        found = {} if known is None else dict(zip(folder.training["epoch"], known, strict=True))
        cells = (f"{found[epoch]:.1f}" if epoch in found else UNKNOWN for epoch in shown)
        lines.append([escaped(folder.name), *cells])
    return table_text(["run", *map(str, shown)], lines)


def _differences(control: LanguageFolder, group: Sequence[LanguageFolder]) -> str:
    lines = []
    for folder in group:
        if folder is control:
            continue
        cells = []
        for split in SPLITS:
            ours, theirs = folder.texts[split], control.texts[split]
            nats = ours.nats_a_token - theirs.nats_a_token
            same = folder.reads_what(control, split)
            cells.append(f"{nats:+.4f} ({100 * math.expm1(nats):+.1f} %)" if same else "another text")
        lines.append([escaped(folder.name), *cells, *compute_cells(folder, control)])
    what = (f"{split}, nats a token (perplexity)" for split in SPLITS)
    return table_text(["run", *what, "epochs", "training time"], lines)


def _settings(group: Sequence[LanguageFolder]) -> Mapping[str, str]:
    return {
        "network": values_text(map(_network, group)),
        "parameters": values_text(map(attrgetter("parameters"), group)),
        "epochs": values_text(map(attrgetter("epochs"), group)),
        "m": values_text(folder.config.get("m") for folder in group),
        "sigma": values_text(folder.config.get("sigma") for folder in group),
        "training seed": values_text(folder.config.get("seed") for folder in group),
    }


def _network(folder: LanguageFolder) -> str:
    sizes = ", ".join(f"{key} {folder.config.get(key, UNKNOWN)}" for key in ("layers", "embedding", "hidden"))
    return f"{folder.config.get('arch', UNKNOWN)} ({sizes})"
