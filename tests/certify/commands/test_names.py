"""How models and places are named: files of factories, what their modules do, folders, --normalize and --debug."""

import json
import sys
from pathlib import Path
from typing import Any

import certify_command
import numpy as np
import pytest
import torch
from certify_command import certify
from torch import nn

from maxup_smoothing.certify.models import loading
from maxup_smoothing.certify.models.adapters import ArrayFunction
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.data.runtime import console

_here = certify_command.here
SHAPE = (1, 28, 28)
RUN = ["--data", "images.npz", "--sigma", "0.5", "--n", "100", "--limit", "2", "--seed", "1", "--batch-size", "16"]
RUN += ["--no-check"]
PLAIN = """
import torch
from torch import nn
from beside import SEED
def load():
    torch.manual_seed(SEED)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a factory that needs its neighbour; what it brings into the process goes again."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    place = tmp_path / "elsewhere"
    place.mkdir()
    (place / "subject.py").write_text(PLAIN)
    (place / "beside.py").write_text("SEED = 3\n")
    return place


def test_a_factory_is_named_by_its_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["elsewhere/subject.py:load", f"{folder}/subject.py:load", "./elsewhere/subject.py:load"]
    for name in [*names, "elsewhere/subject:load"]:
        assert loading.load(name, SHAPE, 10).num_classes == 10
    monkeypatch.chdir(folder)
    for name in ("subject.py:load", "./subject.py:load", "subject:load"):
        assert loading.load(name, SHAPE, 10).num_classes == 10
    with pytest.raises(FileNotFoundError, match=r"no file at nothing\.py"):
        loading.load("nothing.py:load", SHAPE, 10)


def test_a_file_of_a_package_imports_its_neighbours(folder: Path) -> None:
    for name in ("__init__.py", "sub/__init__.py"):
        (folder / "packed" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "packed" / name).write_text("")
    (folder / "packed" / "sub" / "model.py").write_text("from ..parts import load\n")
    (folder / "packed" / "parts.py").write_text(PLAIN.replace("from beside import SEED", "SEED = 3"))
    assert loading.load("elsewhere/packed/sub/model.py:load", SHAPE, 10).num_classes == 10


def test_a_file_with_the_name_of_a_package_of_ours_is_the_users(folder: Path) -> None:
    (folder / "train.py").write_text(PLAIN)
    assert loading.load("elsewhere/train.py:load", SHAPE, 10).num_classes == 10
    assert Path(sys.modules["maxup_smoothing.train"].__file__ or "").parent != folder


def test_a_misspelt_factory_gets_a_suggestion_only_where_one_is_near(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"has no callable 'laod'; did you mean 'load'\?"):
        loading.load("elsewhere/subject.py:laod", SHAPE, 10)
    with pytest.raises(ValueError, match=r"has no callable 'factory'; give package\.module:factory"):
        loading.load("elsewhere/subject.py:factory", SHAPE, 10)


MODULES = {
    "parses": ("import argparse\nargparse.ArgumentParser().parse_args()", r"parses\.py' failed: .*parses the command"),
    "leaves": (
        "import sys\nsys.exit('cannot find the weights')",
        r"SystemExit: cannot find the weights \(.*leaves",
    ),
    "breaks": ("from beside import SEED\nx = {}[SEED]", r"KeyError: 3 \(.*breaks\.py:2\)"),
    "needs": ("import not_installed_here", r"No module named 'not_installed_here' \(.*needs\.py:1\)"),
}


@pytest.mark.parametrize("case", MODULES)
def test_what_goes_wrong_in_a_module_is_one_line_with_its_place(
    folder: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text, message = MODULES[case]
    (folder / f"{case}.py").write_text(text + "\n" + PLAIN)
    with pytest.raises(ValueError, match=message):
        loading.load(f"elsewhere/{case}.py:load", SHAPE, 10)
    assert capsys.readouterr().err == ""


def test_what_a_module_changes_in_the_process_is_told_and_put_back(folder: Path) -> None:
    change = "import os, torch\ntorch.set_default_dtype(torch.float64)\nos.chdir('elsewhere')\n"
    (folder / "moves.py").write_text(change + PLAIN)
    before = Path.cwd()
    loaded = loading.load("elsewhere/moves.py:load", SHAPE, 10)
    assert (Path.cwd(), torch.get_default_dtype()) == (before, torch.float32)
    assert [("working directory" in note, "float64" in note) for note in loaded.notes] == [(True, False), (False, True)]


def test_a_folder_as_out_holds_the_table_of_the_usual_name() -> None:
    run = ["run", "mymodel:factory", *RUN]
    certify(*run, "--out", "new/")
    Path("there").mkdir()
    certify(*run, "--out", "there")
    certify(*run, "--shard", "0/2", "--out", "there/")
    certify("predict", "mymodel:factory", *RUN, "--out", "new/")
    assert {path.name for path in Path("new").glob("*.tsv")} == {"radii.tsv", "predictions.tsv"}
    assert len(list(Path("there").glob("*.tsv"))) == 2
    certify("recompute", "new/radii.tsv", "--alpha", "0.01", "--out", "again/")
    assert Path("again/radii.tsv").is_file()


def test_a_folder_without_a_checkpoint_is_named_as_such() -> None:
    Path("empty").mkdir()
    for extra in ([], ["--data", "images.npz"]):
        with pytest.raises(ValueError, match=r"^empty is a folder without checkpoint\.safetensors; name a run folder"):
            certify("run", "empty", "--sigma", "0.5", *extra)
    torch.save({}, "empty/pytorch_model.bin")
    with pytest.raises(ValueError, match=r"it holds pytorch_model\.bin: name the file"):
        certify("run", "empty", "--sigma", "0.5")


def test_a_normalisation_goes_in_front_of_any_model_and_is_recorded() -> None:
    Path("two.py").write_text(
        "import numpy as np, torch\nfrom torch import nn\n"
        "torch.manual_seed(0)\nnet = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()\n"
        "def module():\n    return net\n"
        "def function():\n    return lambda x: net(torch.from_numpy(x)).detach().numpy()\n"
    )
    x = torch.rand(3, *SHAPE)
    net = loading.load("two:module", SHAPE, 10).model
    program = torch.export.export(net, (x,), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},))
    torch.export.save(program, "net.pt2")
    for name in ("two:module", "two:function", "net.pt2"):
        loaded = loading.load(name, SHAPE, 10, normalize="0.3/0.4")
        torch.testing.assert_close(loaded.model(x), net((x - 0.3) / 0.4))
        assert loaded.source["normalize"] == [[0.3], [0.4]]
        assert "normalize" not in loading.load(name, SHAPE, 10, normalize="none").source
        out = name.replace(":", "_") + ".tsv"
        certify("run", name, *RUN, "--normalize", "0.3/0.4", "--out", out)
        assert "EXACT" in certify("verify", out)


def test_debug_shows_the_traceback_wherever_it_stands(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from maxup_smoothing.certify.commands import app

    Path("breaking.py").write_text("def load():\n    return {}['weights']\n")
    for words in (["--debug", "run"], ["run", "--debug"], ["run"]):
        monkeypatch.setattr(console, "_DEBUG", [])
        monkeypatch.setattr(sys, "argv", ["certify", *words, "breaking:load", *RUN, "--out", "a.tsv"])
        with pytest.raises(SystemExit) as left:
            console.run(app.obey)
        said = capsys.readouterr().err
        assert left.value.code == 2
        assert said.endswith("failed: KeyError: 'weights' (breaking.py:2)\n")
        assert ("Traceback" in said) == (len(words) > 1)


def test_a_choice_of_weights_is_recorded_and_verified() -> None:
    from maxup_smoothing.train import models

    sets = {}
    for seed, name in enumerate(("model", "model_ema")):
        torch.manual_seed(seed)
        sets[name] = models.build("small", SHAPE, 10).get_submodule("backbone").eval().state_dict()
    torch.save(sets, "both.pth")
    run = ["run", "both.pth", "--arch", "small", *RUN]
    with pytest.raises(ValueError, match="say which with --weights ema or raw"):
        certify(*run, "--out", "a.tsv")
    certify(*run, "--weights", "ema", "--out", "a.tsv")
    model: dict[str, Any] = json.loads(Path("a.manifest.json").read_text())["model"]
    assert model["weights"] == "model_ema"
    assert "EXACT" in certify("verify", "a.tsv")
    transfer = ["transfer", "a.tsv", "--out", "b.tsv", "--pairs", "100", "--to-model", "both.pth", "--to-arch", "small"]
    with pytest.raises(ValueError, match="say which with --to-weights ema or raw"):
        certify(*transfer)
    certify(*transfer, "--to-weights", "raw")


def test_a_table_of_another_batch_size_is_not_told_to_pass_an_option_that_verify_lacks() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).eval()
    x = torch.zeros(1, *SHAPE)
    torch.export.save(torch.export.export(net, (x,)), "one.pt2")
    torch.export.save(
        torch.export.export(
            net, (torch.zeros(4, *SHAPE),), dynamic_shapes=({0: torch.export.Dim("b", min=1, max=64)},)
        ),
        "any.pt2",
    )
    certify("run", "any.pt2", *RUN, "--out", "any.tsv")
    with pytest.raises(ValueError, match="takes batches of 1 images; the table was certified at 16, so this is not"):
        certify("verify", "any.tsv", "one.pt2")


def test_masked_classes_do_not_void_a_vote() -> None:
    Path("masked.py").write_text(
        "import numpy as np\n"
        "def load():\n"
        "    def logits(x):\n"
        "        found = np.tile(np.float32([1, 0] + [-np.inf] * 8), (len(x), 1))\n"
        "        found[x.mean((1, 2, 3)) > 2] = -np.inf\n"
        "        return found\n"
        "    return logits\n"
    )
    f = BaseClassifier(loading.load("masked:load", SHAPE, 10).model, 10, batch_size=4)
    x = torch.zeros(4, *SHAPE)
    x[2:] = 3.0  # only minus infinity: no vote
    assert f.classify(x).tolist() == [0, 0, 10, 10]
    rows = torch.tensor([[0.0, torch.nan], [0.0, torch.inf], [-torch.inf, 0.0]]).numpy()
    g = BaseClassifier(ArrayFunction(lambda x: np.asarray(rows[: len(x)]), 2), 2, batch_size=3)
    assert g.classify(torch.zeros(3, *SHAPE)).tolist() == [2, 2, 1]
