"""MaxUp on sequences against a double loop, the carried state, and runs that are stopped and go on."""

# Shapes: B sequences, M copies, T words, E width of the embeddings.

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_language import corpus, model, settings, trainer, write
from torch import Tensor
from typer.testing import CliRunner

from maxup_smoothing.train import checkpoint as classifiers
from maxup_smoothing.train import config_file
from maxup_smoothing.train.__main__ import app
from maxup_smoothing.train.language import checkpoint
from maxup_smoothing.train.language import optimizer as optimizers
from maxup_smoothing.train.language.config import LanguageConfig
from maxup_smoothing.train.language.model import State, sequence_losses
from maxup_smoothing.train.language.trainer import Trainer
from maxup_smoothing.train.maxup import Reduction
from maxup_smoothing.train.seeds import derive_seed, generator
from maxup_smoothing.train.step import DROPOUT, same_randomness

CPU = torch.device("cpu")
M, SEED = 4, 5
DROPOUTS = {"input_dropout": 0.3, "hidden_dropout": 0.3, "output_dropout": 0.3, "weight_dropout": 0.3}


def all_copies(subject: Trainer, state: State) -> tuple[Tensor, list[State]]:
    """(B, M) losses by one pass a copy, all with gradient, and the state after each copy."""
    words_BT, next_BT = subject.words_BL[:, :5], subject.next_BL[:, :5]
    losses, states = list[Tensor](), list[State]()
    for copy in range(M):
        noise_BTE = torch.empty(4, 5, 6).normal_(generator=generator(CPU, SEED, copy)) * subject.config.sigma
        with same_randomness(CPU, derive_seed(SEED, DROPOUT)):
            output = subject.model(words_BT, state, noise_BTE)
        losses.append(sequence_losses(output, next_BT))
        states.append(output[1])
    return torch.stack(losses, 1), states


def some_state(subject: Trainer) -> State:
    g = torch.Generator().manual_seed(0)
    start = subject.model.body.start(4)
    return tuple((torch.randn(h.shape, generator=g) * 0.3, torch.randn(c.shape, generator=g) * 0.3) for h, c in start)


@pytest.mark.parametrize("reduction", ["max", "mean"])
def test_loss_gradient_and_carried_state_equal_those_of_all_copies(reduction: Reduction, tmp_path: Path) -> None:
    """With every kind of dropout on: all copies start in one state and meet the same masks."""
    subject = trainer(corpus(tmp_path), m=M, reduction=reduction, sigma=2.0, **DROPOUTS)
    with torch.no_grad():
        subject.model.embedding.weight.mul_(20)  # as after training: copies differ visibly
    before = some_state(subject)
    result = subject.loss(subject.words_BL[:, :5], subject.next_BL[:, :5], before, SEED)
    loss_BM, states = all_copies(subject, before)
    parameters = list(subject.model.parameters())
    chosen_B = loss_BM.argmax(1) if reduction == "max" else torch.zeros(4, dtype=torch.long)
    expected = loss_BM.amax(1).mean() if reduction == "max" else loss_BM.mean()
    torch.testing.assert_close(result.loss, expected)
    torch.testing.assert_close(result.copies_BM, loss_BM.detach())
    ours, twins = (torch.autograd.grad(loss, parameters) for loss in (result.loss, expected))
    for mine, twin in zip(ours, twins, strict=True):
        torch.testing.assert_close(mine, twin, rtol=1e-4, atol=1e-6)
    for layer in range(2):
        for part in range(2):
            twin = torch.stack([states[chosen_B[b]][layer][part][:, b] for b in range(4)], 1)
            torch.testing.assert_close(result.output[1][layer][part], twin)
    if reduction == "max":
        assert len(set(chosen_B.tolist())) > 1
        for wrong in (loss_BM.amax(0).mean(), loss_BM.T.reshape(4, M).amax(1).mean(), loss_BM.mean(0).amax()):
            assert abs(wrong.item() - result.loss.item()) > 1e-4


def test_a_step_carries_the_winners_state_without_gradient(tmp_path: Path) -> None:
    subject = trainer(corpus(tmp_path), m=M, sigma=2.0)
    before = some_state(subject)
    seed = derive_seed(subject.config.seed, 1, 0, 3)
    expected = subject.loss(subject.words_BL[:, :5], subject.next_BL[:, :5], before, seed).output[1]
    _, after = subject._step(slice(0, 5), before, 3)
    for mine, twin in zip(after, expected, strict=True):
        assert not mine[0].requires_grad
        assert not mine[1].requires_grad
        assert torch.equal(mine[0], twin[0])
        assert torch.equal(mine[1], twin[1])


def test_without_noise_one_copy_is_plain_training(tmp_path: Path) -> None:
    subject = trainer(corpus(tmp_path), m=1, sigma=0.0)
    words_BT, next_BT, state = subject.words_BL[:, :5], subject.next_BL[:, :5], some_state(subject)
    result = subject.loss(words_BT, next_BT, state, SEED)
    logits_BTV = subject.model(words_BT, state)[0]
    plain = torch.nn.functional.cross_entropy(logits_BTV.flatten(0, 1), next_BT.flatten())
    torch.testing.assert_close(result.loss, plain)
    assert result.gap == 0


def test_the_gradient_is_clipped(tmp_path: Path) -> None:
    subject = trainer(corpus(tmp_path), clip=1e-3)
    subject._step(slice(0, 5), some_state(subject), 0)
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in subject.model.parameters() if p.grad is not None))
    assert norm == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {"m": 2, **DROPOUTS, "schedule": "cosine"},
        {"optimizer": "asgd", "lr": 3.0, "patience": 1},
        {"arch": "transformer"},
    ],
    ids=["adamw", "asgd", "transformer"],
)
def test_a_resumed_run_ends_with_the_same_bits(changes: dict[str, Any], tmp_path: Path) -> None:
    text = corpus(tmp_path)
    whole = trainer(text, epochs=4, **changes)
    for _ in range(2):
        whole.epoch()
    torch.save(whole.state(), tmp_path / "state.pt")
    resumed = trainer(text, epochs=4, **changes)
    resumed.restore(torch.load(tmp_path / "state.pt", weights_only=True))
    for subject in (whole, resumed):
        torch.rand(3)  # what others draw does not matter
        subject.epoch()
        subject.epoch()
    assert whole.history == resumed.history
    for mine, twin in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(mine, twin)


def test_averaging_begins_when_validation_stalls_and_is_the_mean_of_the_steps_since(tmp_path: Path) -> None:
    subject = trainer(corpus(tmp_path), optimizer="asgd", lr=1.0, patience=2)
    optimizer, weight = subject.optimizer, subject.model.embedding.weight
    subject._step(slice(0, 5), some_state(subject), 0)
    for history, begins in (([5.0, 6, 7], False), ([5.0, 6, 7, 4], False), ([5.0, 4, 6, 6, 4.5], True)):
        optimizers.average_if_stalled(optimizer, history, 2)
        assert optimizers.averages(optimizer) == begins
    seen = list[Tensor]()
    for step in range(3):
        subject._step(slice(5, 10), some_state(subject), step)
        seen.append(weight.detach().clone())
    with subject.averaged():
        torch.testing.assert_close(weight.detach(), torch.stack(seen).mean(0))
    assert torch.equal(weight.detach(), seen[-1])


@pytest.mark.parametrize("optimizer", ["adamw", "asgd"])
def test_each_step_is_taken_with_its_own_rate(optimizer: str) -> None:
    """One weight with gradient 1: SGD moves it by the rate, and AdamW nearly so while the gradient stays the same."""
    weight = torch.nn.Parameter(torch.zeros(1))
    module = torch.nn.Module()
    module.weight = weight
    stepper = optimizers.build(module, settings(optimizer=optimizer, lr=0.1))
    for rate in (0.1, 0.2, 0.3, 0.05):
        before = weight.item()
        optimizers.set_rate(stepper, rate)
        weight.grad = torch.ones(1)
        stepper.step()
        assert before - weight.item() == pytest.approx(rate, rel=1e-5)


def test_a_rate_rises_and_falls_to_nearly_nothing() -> None:
    config = settings(schedule="cosine", warmup=0.1, lr=2.0)
    rates = [optimizers.rate(config, step, 100) for step in range(100)]
    assert rates[:3] == pytest.approx([0.2, 0.4, 0.6])
    assert max(rates) == 2.0
    assert rates[-1] < 1e-2
    assert {optimizers.rate(settings(lr=2.0), step, 100) for step in range(100)} == {2.0}


CONFIG = """task = "language"
corpus = "{corpus}"
arch = "lstm"
sigma = 0.2
m = 2
epochs = 3
batch_size = 4
bptt = 6
lr = 0.03
embedding = 8
hidden = 8
"""


def test_the_command_trains_resumes_and_looks_at_the_test_text_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(CONFIG.format(corpus=write(tmp_path / "text", lines=300).as_posix()))
    call = [str(tmp_path / "tiny.toml"), "--set", "device=cpu", "--out"]
    assert CliRunner().invoke(app, [*call, str(tmp_path / "run")], catch_exceptions=False).exit_code == 0
    run = tmp_path / "run"
    rows = [line.split(",") for line in (run / "train.csv").read_text().splitlines()]
    reached = [float(row[rows[0].index("validation_perplexity")]) for row in rows[1:]]
    assert len(reached) == 3
    # A line has 4 * 3 * 4 * 3 equal choices in its 7 tokens: with the empty lines no less than 2.1 is to be had, and
    # uniform guesses among the 12 words are at 12.
    assert 2 < reached[-1] < 6
    found = json.loads((run / "perplexity.json").read_text())
    best = checkpoint.load(run / "best.safetensors")
    assert found["epoch"] == best.epoch == 1 + reached.index(min(reached))
    assert found["test"]["tokens"] == 11 + 6 * 10 - 0
    assert found["validation"]["perplexity"] == pytest.approx(min(reached), rel=1e-4)
    before = (run / "best.safetensors").read_bytes()
    (run / "perplexity.json").unlink()
    whole = (run / "checkpoint.safetensors").read_bytes()
    (run / "checkpoint.safetensors").unlink()
    again = CliRunner().invoke(app, [*call, str(run), "--resume"], catch_exceptions=False)
    assert "is finished: 3 epochs" in again.output
    assert json.loads((run / "perplexity.json").read_text()) == found
    assert (run / "best.safetensors").read_bytes() == before
    assert (run / "checkpoint.safetensors").read_bytes() == whole
    # Trained anew, it is measured anew.
    (run / "state.pt").unlink()
    (run / "perplexity.json").write_text('{"of": "other weights"}')
    assert CliRunner().invoke(app, [*call, str(run), "--resume"], catch_exceptions=False).exit_code == 0
    assert json.loads((run / "perplexity.json").read_text()) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("sigm=1", "unknown key 'sigm'; did you mean 'sigma'"),
        ("task=speech", "task must be one of language, got 'speech'"),
        ("sigma=0", r"without noise \(sigma = 0\) all m = 2 copies are one"),
        ("m=0", "m, the number of copies, must be at least 1, got 0"),
        ("weight_dropout=1.0", r"weight_dropout must lie in \[0, 1\), got 1.0"),
        ("arch=gru", "arch must be one of lstm, transformer, got 'gru'"),
        ("optimizer=adam", "optimizer must be one of adamw, asgd, got 'adam'"),
        ("clip=0", "clip must be positive and finite, got 0"),
        ("heads=2", "heads = 2 has no effect: it is read by the transformer"),
        ("patience=9", 'patience = 9 has no effect: it is read with optimizer = "asgd"'),
        ("top_k=2", 'top_k = 2 has no effect: it is read with reduction = "topk"'),
        ("bptt=9223372036854775807", r"bptt must be below 2\^31"),
        ("batch_size=100000", "batch_size = 100000 columns need as many tokens"),
    ],
)
def test_bad_keys_and_values_are_refused_in_one_line(change: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(CONFIG.format(corpus=write(tmp_path / "text").as_posix()))
    with pytest.raises(ValueError, match=message):
        CliRunner().invoke(
            app, [str(tmp_path / "tiny.toml"), "--set", change, "--out", str(tmp_path / "run")], catch_exceptions=False
        )
    assert not (tmp_path / "run").exists()


def test_other_files_are_no_language_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        checkpoint.load(tmp_path / "none")
    (tmp_path / "cut").write_bytes(b"abc")
    with pytest.raises(ValueError, match="is not a readable safetensors file"):
        checkpoint.load(tmp_path / "cut")
    config, words = settings(), tuple("abcdefghijk")
    checkpoint.save(tmp_path / "good", model(config, 11), config, words, 2)
    assert checkpoint.load(tmp_path / "good").words == words
    checkpoint.save(tmp_path / "bad", model(config, 12), config, words, 2)
    with pytest.raises(ValueError, match="bad cannot be read: "):
        checkpoint.load(tmp_path / "bad")
    with pytest.raises(ValueError, match="good is a language model of this project, and no classifier of images"):
        classifiers.load(tmp_path / "good")


@pytest.mark.parametrize("prefix", ["ptb", "wikitext2"])
def test_shipped_configurations_differ_in_noise_and_reduction_alone(prefix: str) -> None:
    plain, mean, maxup = (
        vars(config_file.load(f"{prefix}_{name}", kind=LanguageConfig)) for name in ("plain", "mean_of_4", "maxup")
    )
    assert mean == maxup | {"reduction": "mean"}
    assert maxup == plain | {"sigma": maxup["sigma"], "m": 4}
    assert (plain["sigma"], plain["m"], maxup["reduction"]) == (0, 1, "max")
