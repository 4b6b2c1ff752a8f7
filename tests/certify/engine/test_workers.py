"""Several workers that classify batches at the same time: the votes of one, and only where that is safe."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.fx
from little_memory import Small, votes
from shared_runs import run
from torch import Tensor, nn

from maxup_smoothing.certify.engine.votes import Item, count_votes
from maxup_smoothing.certify.models import contents, tuning
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise import ESTIMATION
from maxup_smoothing.certify.noise.exact import ExactNoise
from maxup_smoothing.data import registry
from maxup_smoothing.train import checkpoint, models
from maxup_smoothing.train.checkpoint import Architecture

SHAPE = (1, 28, 28)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def items(n: int = 500) -> list[Item]:
    images = torch.randint(256, (3, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return [Item(image_CHW, number, ESTIMATION, 0, n) for number, image_CHW in enumerate(images)]


def lenet(batch_size: int = 64) -> BaseClassifier:
    return BaseClassifier(models.build("lenet", SHAPE, 10).eval(), 10, batch_size=batch_size, image_shape=SHAPE)


def test_three_workers_count_the_votes_of_one() -> None:
    f, drawn = lenet(), list[int]()
    expected = count_votes(f, ExactNoise(1.0, 0), items())
    assert f.employ(3)
    assert len(f.workers) == 3
    assert (count_votes(f, ExactNoise(1.0, 0), items(), drawn.append) == expected).all()
    assert sum(drawn) == expected.sum() == 1500


def test_all_workers_classify() -> None:
    f, seen = lenet(), set[int]()
    f.employ(2)
    both = threading.Barrier(2, timeout=60)  # which breaks unless two threads run at the same time

    for worker in f.workers:
        classify = worker.classify

        def waiting(x_BCHW: Tensor, classify=classify) -> Tensor:  # type: ignore[no-untyped-def]
            both.wait()
            seen.add(threading.get_ident())
            return classify(x_BCHW)

        worker.classify = waiting  # type: ignore[method-assign]
    assert count_votes(f, ExactNoise(1.0, 0), [Item(items()[0].image_CHW, 0, ESTIMATION, 0, 128)]).sum() == 128
    assert len(seen) == 2


def test_weights_are_shared_and_a_change_of_any_worker_is_noticed() -> None:
    network = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(784, affine=False), nn.Linear(784, 10)).eval()
    f = BaseClassifier(network, 10, batch_size=8)
    f.employ(2)
    one, two = (worker._model for worker in f.workers)
    assert [weight.data_ptr() for weight in one.parameters()] == [weight.data_ptr() for weight in two.parameters()]
    mark = f.mark(torch.zeros((1, *SHAPE), dtype=torch.uint8))
    assert f.change_since(mark) is None
    next(buffer for name, buffer in two.named_buffers() if name.endswith("running_mean")).add_(1)
    assert "SHA-256" in str(f.change_since(mark))


class OfAUser(nn.Linear):
    """Whatever its forward pass shares with others cannot be seen."""


def hooked() -> nn.Module:
    layer = nn.Linear(3, 2)
    layer.register_forward_hook(lambda module, inputs, output: output + 1)
    return layer


def patched() -> nn.Module:
    layer = nn.Linear(3, 2)
    layer.forward = lambda input: input[:, :2]  # type: ignore[method-assign]
    return layer


def of_a_user(x: Tensor) -> Tensor:
    return x[:, :2]


def with_a_function() -> nn.Module:
    layer = nn.TransformerEncoderLayer(784, 1, 8)
    layer.activation = of_a_user
    return layer


def traced() -> nn.Module:
    graph = torch.fx.Graph()
    graph.output(graph.call_function(of_a_user, (graph.placeholder("x"),)))
    return torch.fx.GraphModule(nn.Module(), graph)


@pytest.mark.parametrize(
    "layer",
    [OfAUser(3, 2), hooked(), patched(), with_a_function(), traced()],
    ids=["own class", "hook", "own forward", "own function", "own function in a graph"],
)
def test_code_of_others_has_one_worker(layer: nn.Module) -> None:
    f = BaseClassifier(nn.Sequential(nn.Flatten(), layer).eval(), 2)
    assert not f.employ(2)
    assert f.workers == [f]


def test_a_randomised_model_has_one_worker() -> None:
    assert not BaseClassifier(nn.Sequential(nn.Flatten()).eval(), 2, randomized=True).employ(2)


def test_memory_that_one_worker_lacks_all_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_READ_ONLY", contents._READ_ONLY | {"little_memory", "oracles"})
    told: list[int] = []
    f = BaseClassifier(Small(1000), 2, batch_size=100)
    f.on_smaller = lambda: told.append(f.micro_batch)
    assert f.employ(2)
    expected = votes(f)
    f.workers[1]._model = Small(31)
    assert votes(f) == expected
    assert {worker.micro_batch for worker in f.workers} == {25}
    assert told == [25]


def test_an_error_of_one_worker_ends_the_count() -> None:
    f = lenet()
    f.employ(2)

    def broken(x_BCHW: Tensor) -> Tensor:
        raise ValueError("broken")

    f.workers[1].classify = broken  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="broken"):
        count_votes(f, ExactNoise(1.0, 0), items())


@pytest.mark.usefixtures("two_threads")
def test_workers_are_kept_only_where_they_are_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    for shared, expected in ((0.5, 2), (2.0, 1)):
        torch.set_num_threads(2)
        monkeypatch.setattr(tuning, "seconds_a_batch", lambda f, shape: 1.0)
        monkeypatch.setattr(tuning, "_seconds_a_batch_of_all", lambda workers, shape, shared=shared: shared)
        f = lenet()
        tuning.employ_workers(f, SHAPE, 10**6)
        assert (len(f.workers), torch.get_num_threads()) == (expected, 3 - expected)
        torch.set_num_threads(2)
        short = lenet()
        tuning.employ_workers(short, SHAPE, 64)
        assert (len(short.workers), torch.get_num_threads()) == (1, 2)


@pytest.mark.usefixtures("two_threads")
def test_a_run_with_workers_is_resumed_and_verified_by_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tuning, "WORTH_MEASURING", 0.0)
    monkeypatch.setattr(tuning, "_seconds_a_batch_of_all", lambda workers, shape: 0.0)
    architecture = Architecture(arch="lenet", image_shape=SHAPE, num_classes=10, options={})
    checkpoint.save(Path("f.safetensors"), architecture.build(), architecture, {"config": {}, "epoch": 1})
    sample = registry.load("fashion-sample", "test")
    np.savez("images.npz", images=sample.images[:6, 0], labels=sample.labels[:6], classes=np.array(sample.classes))
    command = ["run", "f.safetensors", "--data", "images.npz", "--sigma", "0.5", "-n", "500", "--n0", "20"]
    command += ["--no-check", "--batch-size", "64", "--device", "cpu", "--seed", "1", "--compile", "off"]
    for images in ("3", "6"):
        torch.set_num_threads(2)
        assert run(*command, "--out", "two.tsv", "--limit", images) == 0
    notes = json.loads(Path("two.manifest.json").read_text())["notes"]
    assert (notes["workers"], notes["threads"]) == (2, 1)
    torch.set_num_threads(2)
    assert run("verify", "two.tsv") == 0
    assert "EXACT" in capsys.readouterr().out
