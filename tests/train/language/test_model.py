"""Dropout, tied weights, noise and state of language models, against slow twins."""

# Shapes: B sequences, T words, E width of the embeddings, V words.

import math

import pytest
import torch
import torch.nn.functional as F
from tiny_language import model, settings
from torch import Tensor

from maxup_smoothing.train.language import perplexity
from maxup_smoothing.train.language.model import Lstm, locked_dropout
from maxup_smoothing.train.language.perplexity import columns, windows
from maxup_smoothing.train.step import same_randomness

B, T, V = 4, 5, 11
CPU = torch.device("cpu")
WORDS_BT = torch.randint(V, (B, T), generator=torch.Generator().manual_seed(1))


def test_locked_dropout_is_the_same_at_all_times_and_differs_between_sequences() -> None:
    with same_randomness(CPU, 0):
        dropped_BTE = locked_dropout(torch.ones(8, T, 50), 0.4, training=True)
    assert torch.equal(dropped_BTE, dropped_BTE[:, :1].expand_as(dropped_BTE))
    assert len({tuple(row.tolist()) for row in dropped_BTE[:, 0]}) == 8
    assert dropped_BTE.unique().tolist() == pytest.approx([0.0, 1 / 0.6])
    assert torch.equal(locked_dropout(torch.ones(B, T, 3), 0.4, training=False), torch.ones(B, T, 3))


def test_weight_dropout_drops_hidden_to_hidden_weights_once_a_pass() -> None:
    body = Lstm(6, 6, 1, hidden_dropout=0.0, weight_dropout=0.5).double()
    x_BTE = torch.randn(B, T, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    layer = body.layers[0]
    weight = layer.get_parameter("weight_hh_l0")
    with same_randomness(CPU, 3):
        dropped = F.dropout(weight, 0.5).detach()
    with same_randomness(CPU, 3):
        out_BTE, _ = body(x_BTE, body.start(B))
    w_ih, b = layer.get_parameter("weight_ih_l0"), layer.get_parameter("bias_ih_l0") + layer.get_parameter("bias_hh_l0")
    h, c, rows = x_BTE.new_zeros(B, 6), x_BTE.new_zeros(B, 6), list[Tensor]()
    for t in range(T):
        i, f, g, o = (x_BTE[:, t] @ w_ih.T + h @ dropped.T + b).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        rows.append(h)
    torch.testing.assert_close(out_BTE, torch.stack(rows, 1))
    out_BTE.sum().backward()
    assert weight.grad is not None
    assert bool((weight.grad[dropped == 0] == 0).all())
    assert bool((weight.grad[dropped != 0] != 0).any())
    assert (body.eval()(x_BTE, body.start(B))[0] - out_BTE).abs().max() > 1e-3


def test_embedding_dropout_drops_words_wherever_they_stand() -> None:
    net, words_BT = model(settings(embedding_dropout=0.5), V), torch.tensor([[0, 1, 0, 2, 1], [3, 0, 4, 1, 3]])
    seen: list[Tensor] = []
    net.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with same_randomness(CPU, 1):
        net(words_BT, net.body.start(2))
    kept_BT = seen[0].abs().sum(2) > 0
    assert {len(set(kept_BT[words_BT == word].tolist())) for word in range(5)} == {1}
    assert 0 < kept_BT.sum() < kept_BT.numel()


def test_output_weights_are_the_embeddings() -> None:
    net = model(settings(), V).eval()
    features: list[Tensor] = []
    net.body.register_forward_hook(lambda _, inputs, output: features.append(output[0]))
    logits_BTV, _ = net(WORDS_BT, net.body.start(B))
    torch.testing.assert_close(logits_BTV, features[0] @ net.embedding.weight.T + net.bias)
    assert [name for name, _ in net.named_parameters() if "body" not in name] == ["bias", "embedding.weight"]


def test_noise_is_in_units_of_the_embeddings_root_mean_square() -> None:
    net = model(settings(), V).eval()
    seen: list[Tensor] = []
    net.body.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    noise_BTE = torch.randn(B, T, 6, generator=torch.Generator().manual_seed(0))
    net(WORDS_BT, net.body.start(B), noise_BTE)
    unit = math.sqrt(sum(value**2 for value in net.embedding.weight.flatten().tolist()) / (V * 6))
    torch.testing.assert_close(seen[0], net.embedding(WORDS_BT) + unit * noise_BTE)


@pytest.mark.parametrize("arch", ["lstm", "transformer"])
def test_no_word_is_predicted_from_itself_or_a_later_one(arch: str) -> None:
    net, changed_BT = model(settings(arch=arch), V).eval(), WORDS_BT.clone()
    changed_BT[:, 3] = (changed_BT[:, 3] + 1) % V
    before, after = (net(words, net.body.start(B))[0] for words in (WORDS_BT, changed_BT))
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert bool(((before - after)[:, 3].abs().amax(1) > 1e-6).all())


def test_columns_and_windows_cover_the_text_once() -> None:
    cut_BL = columns(torch.arange(23), 4)
    assert cut_BL.tolist() == [list(range(5 * b, 5 * b + 5)) for b in range(4)]
    for first in range(1, 6):
        parts = list(windows(17, 5, first))
        assert [t for part in parts for t in range(17)[part]] == list(range(17))
        assert parts[0].stop == first
        assert all(part.stop - part.start == 5 for part in parts[1:-1])
    with pytest.raises(ValueError, match="batch_size = 24 columns need as many tokens; the training text has 23"):
        columns(torch.arange(23), 24)


@pytest.mark.parametrize("piece", [1, 7, 512])
def test_perplexity_is_that_of_reading_word_by_word(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every token is predicted once, the first from <eos>, with all words before it in mind."""
    monkeypatch.setattr(perplexity, "PIECE", piece)
    net = model(settings(hidden_dropout=0.5), V)
    stream_N = torch.randint(V, (40,), generator=torch.Generator().manual_seed(2))
    words_N = torch.cat([torch.tensor([9]), stream_N[:-1]])
    found = perplexity.measure(net, (words_N, stream_N), window=3)
    assert net.training
    net.eval()
    nats = 0.0
    for n in range(40):
        logits_1TV, _ = net(words_N[None, : n + 1], net.body.start(1))
        nats -= logits_1TV[0, -1].log_softmax(0)[stream_N[n]].item()
    assert found.tokens == 40
    assert found.perplexity == pytest.approx(math.exp(nats / 40), rel=1e-5)


def test_a_transformers_perplexity_is_that_of_its_windows() -> None:
    net = model(settings(arch="transformer"), V).eval()
    stream_N = torch.randint(V, (11,), generator=torch.Generator().manual_seed(2))
    words_N = torch.cat([torch.tensor([9]), stream_N[:-1]])
    nats = 0.0
    for n in range(11):
        logits_1TV, _ = net(words_N[None, n - n % 4 : n + 1], ())
        nats -= logits_1TV[0, -1].log_softmax(0)[stream_N[n]].item()
    found = perplexity.measure(net, (words_N, stream_N), window=4)
    assert found.nats == pytest.approx(nats, rel=1e-5)
