"""Every mistake in the book: refused in one line with the fix, and no file is touched."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import certify_command
import numpy as np
import pytest
from certify_command import PIXEL, certify
from typer.testing import CliRunner

from maxup_smoothing.analysis.__main__ import app as analysis

_here = certify_command.here

MISTAKES = {
    "unknown data": (["--data", "mnits"], "did you mean mnist"),
    "missing data": (["--data", "other.npz"], "other.npz"),
    "unknown protocol": (["--protocol", "skipp20"], "skip20"),
    "protocol of more images": (["--protocol", "first500"], "first500 needs 500 images, the split has 40"),
    "wrong size": (["--data", "small.npz"], "takes 1x28x28 images, the data set has 1x9x9"),
    "wrong classes": (["--data", "three.npz"], "has 10 classes, the data set 3"),
    "sigma negative": (["--sigma", "-0.5"], "sigma must be positive and finite, got -0.5"),
    "sigma in 0-255": (["--sigma", "64"], "looks like 0-255 units"),
    "n too small": (["--n", "9"], "n = 9 samples cannot certify anything at alpha = 0.001; at least 10 are needed"),
    "alpha": (["--alpha", "1.5"], r"alpha must be in \(0, 1\)"),
    "noise": (["--noise", "fast"], "noise must be one of exact, float, got 'fast'"),
    "seed": (["--seed", "-1"], r"--seed must lie in \[0, 2\^64\)"),
    "dtype": (["--dtype", "float8"], "dtype must be one of float32, bfloat16, float16"),
    "batch size": (["--batch-size", "many"], "--batch-size must be auto or a positive integer"),
    "device": (["--device", "tpu"], "--device must be auto, cpu, cuda or cuda:N"),
    "arch of a checkpoint": (
        ["--arch", "lenet"],
        "only for files that hold nothing but weights; run also describes its model",
    ),
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
    certify(*PIXEL, "--limit", "2")
    before = Path("out/radii.manifest.json").read_bytes()
    with pytest.raises(ValueError, match=r"would share radii\.manifest\.json with radii\.tsv; give it a name"):
        certify(*PIXEL, "--seed", "2", "--out", "out/radii.txt")
    assert Path("out/radii.manifest.json").read_bytes() == before
    certify(*PIXEL, "--limit", "4")


def test_a_line_that_another_run_could_have_written_is_not_taken_for_ours() -> None:
    certify(*PIXEL, "--limit", "3")
    path = Path("out/radii.tsv")
    path.write_text(path.read_text().replace("\t100\t200\t", "\t50\t200\t", 1))
    with pytest.raises(ValueError, match="line 2: n0 is 50, but the manifest says 100"):
        certify(*PIXEL)


def test_a_factory_whose_code_has_changed_does_not_continue_the_old_table() -> None:
    """Its weights are the same, so their hash does not tell; its answers do."""
    Path("changing.py").write_text("from mymodel import Pixel\ndef load(): return Pixel(0.5, 10).eval()\n")
    command = [part.replace("mymodel:factory", "changing:load") for part in PIXEL]
    certify(*command, "--limit", "2")
    Path("changing.py").write_text("from mymodel import Pixel\ndef load(): return Pixel(0.1, 10).eval()\n")
    sys.modules.pop("changing")
    importlib.invalidate_caches()
    with pytest.raises(ValueError, match=r"classifier\.classes_on_probe"):
        certify(*command)


def test_analysis_does_not_overwrite_a_radius_table() -> None:
    certify(*PIXEL, "--limit", "2")
    before = Path("out/radii.tsv").read_bytes()
    with pytest.raises(ValueError, match="is a radius table, which would be overwritten; give another --out"):
        CliRunner().invoke(analysis, ["table", "out/radii.tsv", "--out", "out/radii.tsv"], catch_exceptions=False)
    assert Path("out/radii.tsv").read_bytes() == before


@pytest.mark.parametrize(
    ("noise", "said"),
    [
        ("5", "is damaged: noise is 5; certify again"),
        ("null", "was certified with noise"),
        ('{"seed": "x"}', 'is damaged: noise.seed is "x"; certify again'),
        ('{"seed": -3}', "is damaged: noise.seed is -3; certify again"),
    ],
)
def test_an_edited_manifest_is_refused_in_one_line(noise: str, said: str) -> None:
    certify(*PIXEL, "--limit", "2")
    manifest = json.loads(Path("out/radii.manifest.json").read_text())
    manifest["noise"] = json.loads(noise)
    Path("out/radii.manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ValueError, match=said):
        certify(*[part for part in PIXEL if part not in ("--seed", "1")])


def test_a_mistake_is_one_line_on_stderr_and_status_2() -> None:
    command = [sys.executable, "-m", "maxup_smoothing.certify", "run", "run", "--sigma", "64"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: sigma = 64 looks like 0-255 units")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "new"),
    [
        (["run", "x:y", "--max", "5"], "--max is now called --limit."),
        (["check", "x:y", "--max=5"], "--max is now called --limit."),
        (["plan", "--like", "a.tsv"], "--like is now called --votes-from."),
        (["plan", "--pilot", "3"], "--pilot is now called --pilot-seconds."),
        (["transfer", "a.tsv", "--split", "0.5"], "--split is now called --alpha-share."),
        (["attack", "x:y", "a.tsv", "--of-radius", "0.5"], "--of-radius is now called --radius-factors."),
        (["--debug", "attack", "x:y", "a.tsv", "--at-once", "2"], "--at-once is now called --group-size."),
        (["attack", "x:y", "a.tsv", "--save", "won.npz"], "--save is now called --save-images."),
    ],
)
def test_an_earlier_name_of_an_option_is_refused_with_the_new_one(command: list[str], new: str) -> None:
    with pytest.raises(ValueError, match="is now called") as refused:
        certify(*command)
    assert str(refused.value) == new
