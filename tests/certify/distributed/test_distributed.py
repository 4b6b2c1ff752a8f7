"""Several processes that share a run: the table of one process."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import shared_runs
from shared_runs import COMMAND, SEED, Threads, run, run_in_thread, torchrun
from table_lines import lines

from maxup_smoothing.certify.tables.radius_table import read
from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.checkpoint import Architecture

_here = shared_runs.here
whole = shared_runs.whole


def test_two_processes_write_the_table_of_one() -> None:
    architecture = Architecture(arch="lenet", image_shape=(1, 28, 28), num_classes=10, options={})
    checkpoint.save(Path("lenet.safetensors"), architecture.build(), architecture, {"config": {}, "epoch": 1})
    lenet = ["lenet.safetensors" if part == "mymodel:factory" else part for part in COMMAND]
    assert run(*lenet[:-1], "whole.tsv", *SEED) == 0
    whole = lines("whole.tsv")
    command = torchrun(*lenet, *SEED, "--limit", "24")
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert lines() == whole
    assert sorted(os.listdir("out")) == ["radii.manifest.json", "radii.tsv"]
    one, two = (json.loads(Path(path).read_text()) for path in ("whole.manifest.json", "out/radii.manifest.json"))
    assert two.pop("notes")["processes"] == 2
    one.pop("notes")
    assert two == one
    assert result.stdout.count("ACR") == 1, "one process talks"
    assert result.stderr.count("certifying 24 of 24 images") == 1


@pytest.mark.parametrize("options", [["--procedure", "sequential", "--radii", "0.25,0.5"], ["--procedure", "anytime"]])
def test_three_processes_with_a_procedure_that_stops_early(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    options = [*options, *(["--radii", "0.1"] if options[1] == "anytime" else [])]
    assert run(*COMMAND[:-1], "whole.tsv", *SEED, *options) == 0
    together = Threads(3, monkeypatch)
    assert together(lambda world: run_in_thread(*COMMAND, *SEED, *options)) == [0, 0, 0]
    assert lines() == lines("whole.tsv")


def test_predictions_are_those_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["predict", *(part for part in COMMAND[1:-1] if part not in ("--n0", "20")), "one.tsv", *SEED]
    assert run(*command) == 0
    command[command.index("one.tsv")] = "two.tsv"
    assert Threads(2, monkeypatch)(lambda world: run_in_thread(*command)) == [0, 0]
    assert lines("two.tsv") == lines("one.tsv")


def test_what_is_left_open_the_first_process_chooses_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    open_command = [part for part in COMMAND if part not in ("--batch-size", "64")]
    assert Threads(3, monkeypatch)(lambda world: run_in_thread(*open_command)) == [0, 0, 0]  # no --seed either
    assert len(lines()) == 25
    chosen = json.loads(Path("out/radii.manifest.json").read_text())
    settings = ["--batch-size", str(chosen["classifier"]["batch_size"]), "--seed", str(chosen["noise"]["seed"])]
    assert run(*open_command[:-1], "whole.tsv", *settings) == 0
    assert lines() == lines("whole.tsv")


def test_a_process_with_another_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["mymodel:of_its_own" if part == "mymodel:factory" else part for part in COMMAND]
    result = subprocess.run(torchrun(*command, *SEED), capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "error: process 0 uses classifier.classes_on_probe=" in result.stderr
    assert "process 1 uses classifier.classes_on_probe=" in result.stderr
    assert not Path("out").exists(), "not an image was begun"


def test_a_mistake_ends_all_processes_with_one_line() -> None:
    command = [part if part != "mymodel:factory" else "mymodel:missing" for part in COMMAND]
    result = subprocess.run(torchrun(*command, *SEED), capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert result.stderr.count("error: ") == 1
    assert "exitcode: 2" in " ".join(result.stderr.split()) or "exitcode  : 2" in result.stderr
    assert "SIGKILL" not in result.stderr, "the others wait where signals reach them"
    assert "terminated" not in result.stderr, "one process talks"


def test_a_table_whose_name_has_no_suffix(monkeypatch: pytest.MonkeyPatch, whole: list[list[str]]) -> None:
    command = [*COMMAND[:-1], "out/radii", *SEED]
    assert Threads(2, monkeypatch)(lambda world: run_in_thread(*command)) == [0, 0]
    assert lines("out/radii") == whole
    assert sorted(os.listdir("out")) == ["radii", "radii.manifest.json"]


def test_the_table_is_a_radius_table(whole: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert Threads(2, monkeypatch)(lambda world: run_in_thread(*COMMAND, *SEED)) == [0, 0]
    assert run("verify", "out/radii.tsv", "--rows", "4") == 0
    assert run("audit", "out/radii.tsv") == 0
    assert read("out/radii.tsv")["idx"].tolist() == list(range(24))
