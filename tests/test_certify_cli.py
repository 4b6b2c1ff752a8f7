"""The command ``certify`` as its users meet it: real images, a kill, foreign weights, and every mistake in the book."""

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from analysis.__main__ import app as analysis
from certify import loader
from certify.cli import app
from certify.table import read
from data import registry
from train import checkpoint, models
from train.checkpoint import Architecture

TESTS = Path(__file__).parent


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of one's own with a factory, some images, a checkpoint, and no influence from outside."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DATA_ROOT", raising=False)
    (tmp_path / "mymodel.py").write_text((TESTS / "oracles.py").read_text())
    sample = registry.load("fashion-sample", "test")
    np.savez("images.npz", images=sample.images[:40, 0], labels=sample.labels[:40], classes=np.array(sample.classes))
    architecture = Architecture(arch="lenet", image_shape=(1, 28, 28), num_classes=10, options={})
    torch.manual_seed(0)
    metadata: dict[str, Any] = {"config": {"sigma": 0.25, "dataset": "images.npz"}, "epoch": 1}
    checkpoint.save(Path("run/checkpoint.safetensors"), architecture.build(), architecture, metadata)


PIXEL = ["run", "mymodel:factory", "--data", "images.npz", "--sigma", "0.5", "--n", "200", "--seed", "1"]
PIXEL += ["--batch-size", "64", "--out", "out/radii.tsv"]


def certify(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def lines(path: str = "out/radii.tsv") -> list[list[str]]:
    """The table's fields without the time."""
    rows = [line.split("\t") for line in Path(path).read_text().splitlines()]
    return [row[:5] + row[6:] for row in rows]


def test_run_writes_a_table_and_a_manifest_and_prints_the_accuracies() -> None:
    printed = certify(*PIXEL, "--radii", "0,0.5")
    table = read("out/radii.tsv")
    assert len(table) == 40
    assert (table["n"] == 200).all()
    assert "0.50" in printed
    assert printed == certify("show", "out/radii.tsv", "--radii", "0,0.5")
    manifest = json.loads(Path("out/radii.manifest.json").read_text())
    assert manifest["noise"]["seed"] == 1
    assert manifest["noise"]["source"] == "exact"
    assert manifest["sampling"] == {
        "procedure": "fixed", "bound": "clopper-pearson", "sigma": 0.5, "n0": 100, "n": 200, "alpha": 0.001
    }  # fmt: skip
    assert manifest["protocol"] == {"name": "full", "indices": "0:40:1"}
    assert manifest["classifier"]["batch_size"] == 64


def test_a_second_run_does_only_what_is_missing() -> None:
    certify(*PIXEL, "--max", "10")
    first = Path("out/radii.tsv").read_bytes()
    certify(*PIXEL)
    whole = Path("out/radii.tsv").read_bytes()
    assert whole.startswith(first)
    certify(*PIXEL)
    assert Path("out/radii.tsv").read_bytes() == whole
    assert json.loads(Path("out/radii.manifest.json").read_text())["notes"]["images"] == 40


def test_without_a_seed_the_table_goes_on_with_its_own() -> None:
    unseeded = [part for part in PIXEL if part not in ("--seed", "1")]
    certify(*unseeded, "--max", "5")
    seed = json.loads(Path("out/radii.manifest.json").read_text())["noise"]["seed"]
    certify(*unseeded)
    assert json.loads(Path("out/radii.manifest.json").read_text())["noise"]["seed"] == seed
    rows = lines()
    certify(*unseeded, "--seed", str(seed), "--overwrite")
    assert lines() == rows


def test_protocol_batch_size_and_max_change_no_row() -> None:
    certify(*PIXEL)
    everything = {row[0]: row for row in lines()}
    certify(*PIXEL[:-2], "--out", "part.tsv", "--protocol", "skip5", "--max", "4", "--batch-size", "7")
    part = lines("part.tsv")
    assert [row[0] for row in part] == ["idx", "0", "5", "10", "15"]
    assert all(row == everything[row[0]] for row in part)


def test_a_run_killed_at_any_moment_and_repeated_gives_the_undisturbed_table() -> None:
    slow = [*PIXEL, "--n", "3000"]
    certify(*slow, "--out", "whole.tsv")
    for rows in (1, 4):
        process = subprocess.Popen(
            [sys.executable, "-m", "certify", *slow], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while process.poll() is None:
            if Path("out/radii.tsv").exists() and Path("out/radii.tsv").read_bytes().count(b"\n") > rows:
                process.kill()
            time.sleep(0.002)
        process.wait()
    certify(*slow)
    assert lines() == lines("whole.tsv")


def test_an_interrupted_run_says_so_and_keeps_what_it_has() -> None:
    command = [sys.executable, "-m", "certify", *PIXEL, "--n", "20000"]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a shell in the way ignores it
    )
    while not Path("out/radii.tsv").exists() or Path("out/radii.tsv").read_bytes().count(b"\n") < 3:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "interrupted; what was finished is on disk" in said
    assert "Traceback" not in said
    assert len(read("out/radii.tsv")) >= 2


def test_a_checkpoint_knows_its_data_its_noise_and_its_place() -> None:
    certify("run", "run", "--n", "50", "--max", "3", "--dtype", "bfloat16", "--batch-size", "32")
    table = read("run/radii.tsv")
    assert (table["sigma"] == 0.25).all()
    manifest = json.loads(Path("run/radii.manifest.json").read_text())
    assert manifest["data"]["name"] == "images.npz"
    assert manifest["model"]["arch"] == "lenet"
    assert manifest["classifier"]["dtype"] == "bfloat16"


def test_float_noise_is_there_for_comparison_and_not_mixed_with_exact_noise() -> None:
    certify(*PIXEL, "--noise", "float", "--max", "3")
    assert json.loads(Path("out/radii.manifest.json").read_text())["noise"]["source"] == "float"
    with pytest.raises(ValueError, match=r'noise\.source="float".*--overwrite'):
        certify(*PIXEL)


def test_a_measured_batch_size_is_remembered() -> None:
    certify("run", "run", "--n", "50", "--max", "2")
    size = json.loads(Path("run/radii.manifest.json").read_text())["classifier"]["batch_size"]
    certify("run", "run", "--n", "50", "--max", "4")
    assert len(read("run/radii.tsv")) == 4
    assert size in (32, 64, 128, 256, 512)


def test_predict_writes_classes_and_says_how_many_abstained() -> None:
    predict = ["predict", *PIXEL[1:-2], "--n", "500", "--out", "classes.tsv"]
    printed = certify(*predict)
    rows = [line.split("\t") for line in Path("classes.tsv").read_text().splitlines()]
    assert rows[0][:5] == ["idx", "label", "predict", "correct", "time"]
    # Corner pixels are black, 0.5 below the threshold: class 0 has probability 0.84 everywhere.
    assert [row[2] for row in rows[1:]] == ["0"] * 40
    right = sum(row[1] == "0" for row in rows[1:])
    assert f"{right}/40" in printed
    before = Path("classes.tsv").read_bytes()
    certify(*predict)
    assert Path("classes.tsv").read_bytes() == before


@pytest.mark.parametrize(
    ("prefix", "wrap"), [("", None), ("module.", "state_dict"), ("1.", "state_dict"), ("1.module.", "net")]
)
@pytest.mark.parametrize("shortcut", ["conv", "pad"])
def test_weights_of_other_projects_load_whatever_wraps_them(prefix: str, wrap: str | None, shortcut: str) -> None:
    mean, std = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
    model = models.build("resnet20", (3, 32, 32), 10, mean=mean, std=std, shortcut=shortcut).eval()
    state: dict[str, Any] = {
        prefix + name: value for name, value in model.get_submodule("backbone").state_dict().items()
    }
    torch.save({wrap: state, "epoch": 3} if wrap else state, "weights.pth.tar")
    loaded = loader.load("weights.pth.tar", (3, 32, 32), 10, arch="resnet20", normalize="cifar10")
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(loaded.model(x), model(x))


def test_weights_of_other_projects_are_certified_with_arch() -> None:
    torch.save(
        {
            f"module.{k}": v
            for k, v in models.build("lenet", (1, 28, 28), 10).get_submodule("backbone").state_dict().items()
        },
        "w.pth",
    )
    arguments = ["run", "w.pth", "--arch", "lenet", "--data", "images.npz", "--sigma", "0.5", "--out", "a.tsv"]
    certify(*arguments, "--n", "20", "--max", "1", "--batch-size", "16")
    assert json.loads(Path("a.manifest.json").read_text())["model"]["arch"] == "lenet"


def test_a_users_own_modules_do_not_shadow_ours() -> None:
    for name in ("train", "data", "certify"):
        Path(name).mkdir()
        Path(name, "__init__.py").write_text("raise RuntimeError('the wrong one')")
    command = [str(Path(sys.executable).parent / "certify"), *PIXEL, "--max", "1"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


class Run:
    """A pickle that would run code."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch owned",)


def test_a_pickle_that_runs_code_is_refused() -> None:
    torch.save({"state_dict": Run()}, "evil.pth")
    message = "holds more than weights"
    with pytest.raises(ValueError, match=message):
        certify("run", "evil.pth", "--arch", "lenet", "--data", "images.npz", "--sigma", "0.5", "--out", "a.tsv")
    assert not Path("owned").exists()
    assert not Path("a.tsv").exists()


MISTAKES = {
    "unknown data": (["--data", "mnits"], "did you mean mnist"),
    "missing data": (["--data", "other.npz"], "other.npz"),
    "unknown protocol": (["--protocol", "skipp20"], "skip20"),
    "protocol of more images": (["--protocol", "first500"], "first500 needs 500 images, the split has 40"),
    "wrong size": (["--data", "small.npz"], "takes 1x28x28 images, the data set has 1x9x9"),
    "wrong classes": (["--data", "three.npz"], "has 10 classes, the data set 3"),
    "sigma negative": (["--sigma", "-0.5"], "sigma must be a positive number, got -0.5"),
    "sigma in 0-255": (["--sigma", "64"], "looks like 0-255 units"),
    "n too small": (["--n", "9"], "n = 9 samples cannot certify anything at alpha = 0.001; at least 10 are needed"),
    "alpha": (["--alpha", "1.5"], "alpha must lie between 0 and 1"),
    "noise": (["--noise", "fast"], "noise must be one of exact, float, got 'fast'"),
    "seed": (["--seed", "-1"], r"--seed must lie in \[0, 2\^64\)"),
    "dtype": (["--dtype", "float8"], "dtype must be one of float32, bfloat16, float16"),
    "batch size": (["--batch-size", "many"], "--batch-size must be auto or a positive integer"),
    "device": (["--device", "tpu"], "--device must be auto, cpu, cuda or cuda:N"),
    "arch of a checkpoint": (["--arch", "lenet"], "--arch and --normalize are for"),
    "radii": (["--radii", "0;1"], "--radii must be numbers separated by commas"),
    "no folder": (["--out", "/proc/nowhere/a.tsv"], "/proc/nowhere"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_are_refused_with_the_fix_and_nothing_is_written(mistake: str) -> None:
    np.savez("small.npz", images=np.zeros((4, 9, 9), np.uint8), labels=np.array([0, 1, 2, 9]))
    np.savez("three.npz", images=np.zeros((4, 28, 28), np.uint8), labels=np.array([0, 1, 2, 2]))
    before = set(Path().rglob("*"))
    change, message = MISTAKES[mistake]
    with pytest.raises((ValueError, OSError), match=message):
        certify("run", "run", "--data", "images.npz", "--out", "a.tsv", *change)
    assert set(Path().rglob("*")) == before


MODELS = {
    "no such model": ("nothing", "is no model: give a .safetensors checkpoint"),
    "no checkpoint": ("none.safetensors", "no checkpoint at none.safetensors"),
    "no such module": ("nomodule:factory", "cannot import 'nomodule'"),
    "no such factory": ("mymodel:factroy", "has no callable 'factroy'"),
    "not a module": ("mymodel:torch.manual_seed", "has no callable"),
    "returns something else": ("broken:number", "must return an nn.Module, or a function of arrays, got int"),
    "needs arguments": ("broken:needy", r"broken:needy\(\), called without arguments, failed: TypeError"),
    "does not compile": ("syntax:load", "importing 'syntax' failed: SyntaxError"),
    "in training mode": ("broken:training", "training mode.*call model.eval"),
    "wrong output": ("broken:vector", "must return logits of shape"),
    "other input": ("broken:linear", "does not take 1x28x28"),
    "weights without arch": ("weights.pth", "say of what with --arch"),
}


@pytest.mark.parametrize("case", MODELS)
def test_models_that_do_not_fit_are_refused_with_the_fix(case: str) -> None:
    Path("broken.py").write_text(
        "from torch import nn\n"
        "def number(): return 3\n"
        "def needy(x): return x\n"
        "def training(): return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))\n"
        "def vector(): return nn.Flatten(0).eval()\n"
        "def linear(): return nn.Linear(3, 10).eval()\n"
    )
    Path("syntax.py").write_text("def load(:\n")
    torch.save({}, "weights.pth")
    name, message = MODELS[case]
    with pytest.raises((ValueError, OSError), match=message):
        certify("run", name, "--data", "images.npz", "--sigma", "0.5", "--out", "a.tsv")
    assert not Path("a.tsv").exists()


def test_another_runs_table_is_not_touched() -> None:
    certify(*PIXEL)
    before = Path("out/radii.tsv").read_bytes()
    for change, field in (("--seed", "noise.seed"), ("--n", "sampling.n"), ("--sigma", "sampling.sigma")):
        with pytest.raises(ValueError, match=f"{field}.*pass --overwrite"):
            certify(*PIXEL, change, "2" if change == "--seed" else "0.3" if change == "--sigma" else "400")
    Path("notes.txt").write_text("not a table")
    with pytest.raises(ValueError, match=r"notes\.txt"):
        certify(*PIXEL, "--out", "notes.txt")
    assert Path("notes.txt").read_text() == "not a table"
    assert Path("out/radii.tsv").read_bytes() == before


def test_a_table_whose_name_differs_in_its_suffix_only_cannot_take_anothers_manifest() -> None:
    certify(*PIXEL, "--max", "2")
    before = Path("out/radii.manifest.json").read_bytes()
    with pytest.raises(ValueError, match=r"would share radii\.manifest\.json with radii\.tsv; give it a name"):
        certify(*PIXEL, "--seed", "2", "--out", "out/radii.txt")
    assert Path("out/radii.manifest.json").read_bytes() == before
    certify(*PIXEL, "--max", "4")


def test_a_line_that_another_run_could_have_written_is_not_taken_for_ours() -> None:
    certify(*PIXEL, "--max", "3")
    path = Path("out/radii.tsv")
    path.write_text(path.read_text().replace("\t100\t200\t", "\t50\t200\t", 1))
    with pytest.raises(ValueError, match="line 2: n0 is 50, but the manifest says 100"):
        certify(*PIXEL)


def test_a_factory_whose_code_has_changed_does_not_continue_the_old_table() -> None:
    """Its weights are the same, so their hash does not tell; its answers do."""
    Path("changing.py").write_text("from mymodel import Pixel\ndef load(): return Pixel(0.5, 10).eval()\n")
    command = [part.replace("mymodel:factory", "changing:load") for part in PIXEL]
    certify(*command, "--max", "2")
    Path("changing.py").write_text("from mymodel import Pixel\ndef load(): return Pixel(0.1, 10).eval()\n")
    sys.modules.pop("changing")
    importlib.invalidate_caches()
    with pytest.raises(ValueError, match=r"classifier\.classes_on_probe"):
        certify(*command)


def test_analysis_does_not_overwrite_a_radius_table() -> None:
    certify(*PIXEL, "--max", "2")
    before = Path("out/radii.tsv").read_bytes()
    with pytest.raises(ValueError, match="is a radius table, which would be overwritten; give another --out"):
        CliRunner().invoke(analysis, ["table", "out/radii.tsv", "--out", "out/radii.tsv"], catch_exceptions=False)
    assert Path("out/radii.tsv").read_bytes() == before


@pytest.mark.parametrize("noise", ["5", "null", '{"seed": "x"}', '{"seed": -3}'])
def test_an_edited_manifest_is_refused_in_one_line(noise: str) -> None:
    certify(*PIXEL, "--max", "2")
    manifest = json.loads(Path("out/radii.manifest.json").read_text())
    manifest["noise"] = json.loads(noise)
    Path("out/radii.manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match="was certified with noise"):
        certify(*[part for part in PIXEL if part not in ("--seed", "1")])


def test_a_mistake_is_one_line_on_stderr_and_status_2() -> None:
    command = [sys.executable, "-m", "certify", "run", "run", "--sigma", "64"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: sigma = 64 looks like 0-255 units")
    assert result.stderr.count("\n") == 1
