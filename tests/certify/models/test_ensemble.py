"""Ensembles: the mean of several networks, certified, verified and exported as one."""

import json
import math
import shutil
from pathlib import Path

import certify_command
import pytest
import torch
from certify_command import certify
from torch import Tensor, nn

from maxup_smoothing.certify.audit.redraw import EXACT, verify_table
from maxup_smoothing.certify.models import loading
from maxup_smoothing.certify.models.ensemble import Ensemble, members_of
from maxup_smoothing.certify.runs.reopen import Overrides
from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.checkpoint import Architecture

_here = certify_command.here
SHAPE = (1, 28, 28)
RUN = ["--data", "images.npz", "--n", "100", "--limit", "4", "--seed", "1", "--no-check", "--batch-size", "16"]


def member(name: str, seed: int, sigma: float = 0.5, classes: tuple[str, ...] = (), num_classes: int = 10) -> None:
    """A run folder with a network of random weights."""
    architecture = Architecture(arch="lenet", image_shape=SHAPE, num_classes=num_classes, options={})
    torch.manual_seed(seed)
    Path(name).mkdir(parents=True)
    metadata = {"config": {"sigma": sigma, "dataset": "images.npz"}, **({"classes": list(classes)} if classes else {})}
    checkpoint.save(Path(name, "checkpoint.safetensors"), architecture.build(), architecture, metadata)


class Constant(nn.Module):
    """The same logits for every image."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)
        self.training = False

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return self.logits.expand(len(x_BCHW), -1)


def test_the_mean_of_logits_and_that_of_probabilities_may_choose_other_classes() -> None:
    members, x = (
        [Constant([9.0, 0.0, 0.0]), Constant([0.0, 1.5, 0.0]), Constant([0.0, 1.5, 0.0])],
        torch.zeros(2, 1, 1, 1),
    )
    logits, probabilities = (Ensemble(members, mean)(x) for mean in ("logits", "probabilities"))
    torch.testing.assert_close(logits[0], torch.tensor([3.0, 1.0, 0.0]))
    softmax = torch.stack([one.logits.softmax(0) for one in members]).mean(0)
    torch.testing.assert_close(probabilities.exp()[1], softmax)
    far = Ensemble([Constant([0.0, 1000.0]), Constant([0.0, 1000.0])], "probabilities")(x)
    assert far[0, 0] == -1000
    assert not Ensemble(members)(x).requires_grad
    assert not any(module.training for module in Ensemble(members).modules())
    assert math.isnan(Ensemble([Constant([math.nan, 0.0]), Constant([0.0, 1.0])])(x)[0, 0])


def test_names_are_taken_apart_at_plus_signs_that_no_path_has() -> None:
    Path("a+b").mkdir()
    assert members_of("runs/a") == ("logits", ["runs/a"])
    assert members_of("timm:resnet18") == ("logits", ["timm:resnet18"])
    assert members_of("a+b") == ("logits", ["a+b"])
    assert members_of("c+a+b+d") == ("logits", ["c", "a+b", "d"])
    assert members_of("probabilities:c+mine:make") == ("probabilities", ["c", "mine:make"])
    for name in ("a+", "+a", "c++d", "probabilities:a"):
        with pytest.raises(ValueError, match=r"an ensemble is A.B or probabilities:A.B"):
            members_of(name)


@pytest.mark.parametrize("name", ["one+two/b+c", "probabilities:one+two/b+c"])
def test_an_ensemble_is_certified_continued_sharded_and_verified(name: str) -> None:
    member("one", 1)
    member("two/b+c", 2)
    certify("run", name, *RUN, "--out", "whole.tsv")
    manifest = json.loads(Path("whole.manifest.json").read_text())
    mean = "probabilities" if ":" in name else "logits"
    assert manifest["model"]["kind"] == "ensemble"
    assert manifest["model"]["mean"] == mean
    assert [one["arch"] for one in manifest["model"]["members"]] == ["lenet", "lenet"]
    assert verify_table(Path("whole.tsv"), Overrides(), rows=None, seed=0).verdict == EXACT
    other = name.removeprefix("probabilities:") if ":" in name else f"probabilities:{name}"
    told = verify_table(Path("whole.tsv"), Overrides(model=other), rows=None, seed=0)
    assert any("model.mean" in text for text in told.errors)
    for shard in ("0/2", "1/2"):
        certify("run", name, *RUN, "--out", "parts/", "--shard", shard)
    certify("merge", *map(str, sorted(Path("parts").glob("*.tsv"))), "--out", "merged.tsv")
    rows = [
        [line.split("\t")[:5] for line in Path(file).read_text().splitlines()] for file in ("whole.tsv", "merged.tsv")
    ]
    assert rows[0] == rows[1]


def test_an_ensemble_is_exported_as_one_network() -> None:
    member("one", 1)
    member("two", 2)
    certify("run", "probabilities:one+two", *RUN, "--out", "whole.tsv")
    certify("export", "whole.tsv", "--to", "model.pt", "--pairs", "100")
    assert Path("model.pt.radii.tsv").is_file()


def test_another_weight_in_any_member_is_another_classifier() -> None:
    member("one", 1)
    member("two", 2)
    certify("run", "one+two", *RUN, "--out", "whole.tsv")
    shutil.rmtree("two")
    member("two", 3)
    told = verify_table(Path("whole.tsv"), Overrides(), rows=None, seed=0)
    assert any("weights_sha256" in text for text in told.errors)
    shutil.rmtree("two")
    with pytest.raises(ValueError, match=r"the model that the manifest of whole.tsv names, two, is not there"):
        verify_table(Path("whole.tsv"), Overrides(), rows=None, seed=0)


def test_members_that_do_not_go_together_are_refused_by_name() -> None:
    member("one", 1, classes=tuple("abcdefghij"))
    member("two", 2, classes=tuple("abcdefghji"))
    member("three", 3, sigma=0.25)
    Path("damaged").mkdir()
    Path("damaged", "checkpoint.safetensors").write_bytes(b"torn")
    with pytest.raises(ValueError, match=r"one has the classes .*, and two .*; the members of an ensemble must agree"):
        loading.load("one+two", SHAPE, 10)
    with pytest.raises(ValueError, match="damaged"):
        loading.load("one+damaged", SHAPE, 10)
    Path("mine.py").write_text("def make():\n    return lambda x: x.reshape(len(x), -1)[:, :10]\n")
    with pytest.raises(ValueError, match=r"mine.py:make cannot be a member of an ensemble, only networks can"):
        loading.load("one+mine.py:make", SHAPE, 10)
    assert loading.load("one+three", SHAPE, 10).sigma is None
    with pytest.raises(ValueError, match="does not say what noise it was trained with; pass --sigma"):
        certify("run", "one+three", *RUN, "--out", "x.tsv")
    with pytest.raises(ValueError, match="say where the table goes with --out"):
        certify("run", "one+one", *RUN)
    assert not Path("x.tsv").exists()
