"""What a run of a language model is: one frozen dataclass. ``train.config_file`` fills it."""

import dataclasses
import math
from dataclasses import dataclass

from maxup_smoothing.train import maxup
from maxup_smoothing.train.config import as_toml, refuse_idle

#: What ``task`` says in the configuration of a language model.
TASK = "language"


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """A training run of a word-level language model. Fields without a default must be given.

    Attributes:
        corpus: Name in ``data.text``, or a folder with ``train.txt``, ``valid.txt`` and ``test.txt``.
        arch: ``lstm`` or ``transformer``.
        sigma: Standard deviation of the noise on the word embeddings, in units of their root mean square; 0 for none.
        epochs: Passes over the training text.
        batch_size: Columns into which the training text is cut; each is read from its beginning to its end.
        bptt: Words through which the gradient goes back.
        lr: Learning rate.
        m: Noisy copies of each window.
        reduction: ``max`` (MaxUp), ``mean``, ``topk`` or ``logsumexp`` over the copies of a sequence.
        top_k: How many copies ``topk`` keeps.
        temperature: Of ``logsumexp``.
        selection: Mode in which copies are compared, ``train`` or ``eval``; see ``train.maxup``.
        embedding: Width of the word embeddings, which are the output's weights, too.
        hidden: Width of the layers: of the LSTM all but the last, of the transformer its feed-forward part.
        layers: How many.
        heads: Of the transformer's attention.
        embedding_dropout: Share of the words whose embedding is dropped wherever they stand.
        input_dropout: Share of the embedding that is dropped, at all times of a sequence alike.
        hidden_dropout: The same between layers.
        output_dropout: The same before the output.
        weight_dropout: LSTM: share of the hidden-to-hidden weights that is dropped.
        optimizer: ``adamw`` or ``asgd``: SGD that averages its weights from when validation stops getting better.
        patience: ASGD: epochs without a better validation perplexity before averaging sets in.
        schedule: ``constant`` or ``cosine``, which would be 0 in the step after the last.
        warmup: Share of all steps in which the learning rate grows to ``lr``.
        weight_decay: Of either optimizer.
        clip: Largest norm of the gradient.
        dtype: Arithmetic of the passes: ``float32`` or ``bfloat16`` (autocast; weights stay float32).
        seed: Fixes initial weights, dropout, noise and where windows begin.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        task: ``language``, by which ``python -m train`` knows this kind of run.
    """

    corpus: str
    arch: str
    sigma: float
    epochs: int
    batch_size: int
    bptt: int
    lr: float
    m: int = 1
    reduction: str = "max"
    top_k: int = 1
    temperature: float = 1.0
    selection: str = "train"
    embedding: int = 200
    hidden: int = 200
    layers: int = 2
    heads: int = 4
    embedding_dropout: float = 0.0
    input_dropout: float = 0.0
    hidden_dropout: float = 0.0
    output_dropout: float = 0.0
    weight_dropout: float = 0.0
    optimizer: str = "adamw"
    patience: int = 5
    schedule: str = "constant"
    warmup: float = 0.0
    weight_decay: float = 0.0
    clip: float = 0.25
    dtype: str = "float32"
    seed: int = 0
    device: str = "auto"
    task: str = TASK

    def __post_init__(self) -> None:
        """Check every value."""
        sizes = ("epochs", "batch_size", "bptt", "embedding", "hidden", "layers", "heads", "patience")
        for name in (*sizes, "lr", "clip"):
            value = getattr(self, name)
            _require(0 < value < math.inf, f"{name} must be positive and finite, got {value}.")
        for name in (*sizes, "m", "top_k"):
            _require(getattr(self, name) < 2**31, f"{name} must be below 2^31, got {getattr(self, name)}.")
        for name in ("sigma", "weight_decay", "seed"):
            value = getattr(self, name)
            _require(0 <= value < math.inf, f"{name} must be finite and at least 0, got {value}.")
        for name in ("embedding", "input", "hidden", "output", "weight"):
            value = getattr(self, f"{name}_dropout")
            _require(0 <= value < 1, f"{name}_dropout must lie in [0, 1), got {value}.")
        _require(0 <= self.warmup < 1, f"warmup is a share of all steps in [0, 1), got {self.warmup}.")
        _require(self.seed < 2**63, f"seed must be below 2^63, got {self.seed}.")
        choices = {
            "task": (TASK,),
            "arch": ("lstm", "transformer"),
            "optimizer": ("adamw", "asgd"),
            "schedule": ("constant", "cosine"),
            "dtype": ("float32", "bfloat16"),
        }
        for name, valid in choices.items():
            value = getattr(self, name)
            _require(value in valid, f"{name} must be one of {', '.join(valid)}, got {value!r}.")
        maxup.check(
            m=self.m,
            reduction=self.reduction,
            top_k=self.top_k,
            temperature=self.temperature,
            selection=self.selection,
        )
        _require(self.selection != "joint", "selection = 'joint' is of images: language models carry a state on.")
        _require(self.m == 1 or self.sigma > 0, f"without noise (sigma = 0) all m = {self.m} copies are one; set m=1.")
        transformer = self.arch == "transformer"
        for active, when, keys in (
            (self.m > 1, "with m above 1", ("reduction", "selection")),
            (self.reduction == "topk", 'with reduction = "topk"', ("top_k",)),
            (self.reduction == "logsumexp", 'with reduction = "logsumexp"', ("temperature",)),
            (self.optimizer == "asgd", 'with optimizer = "asgd"', ("patience",)),
            (transformer, "by the transformer", ("heads",)),
            (transformer or self.layers > 1, "by the transformer, or with layers above 1", ("hidden",)),
        ):
            if not active:
                refuse_idle(self, when, *keys)
        _require(
            not transformer or (self.embedding % self.heads == 0 and self.embedding % 2 == 0),
            f"embedding must be even and a multiple of heads = {self.heads}, got {self.embedding}.",
        )
        _require(
            not (transformer and self.weight_dropout), "weight_dropout is of the LSTM; a transformer does not read it."
        )

    def to_toml(self) -> str:
        """The configuration as a TOML file that ``train.config_file.load`` reads back to an equal one."""
        return as_toml(dataclasses.asdict(self))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)
