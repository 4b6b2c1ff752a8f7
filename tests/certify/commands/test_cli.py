"""The command ``certify`` as its users meet it: real images, tables that go on, a kill, what is remembered."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import certify_command
import pytest
from certify_command import PIXEL, certify
from table_lines import lines

from maxup_smoothing.certify.tables.radius_table import read

_here = certify_command.here


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
    certify(*PIXEL, "--limit", "10")
    first = Path("out/radii.tsv").read_bytes()
    certify(*PIXEL)
    whole = Path("out/radii.tsv").read_bytes()
    assert whole.startswith(first)
    certify(*PIXEL)
    assert Path("out/radii.tsv").read_bytes() == whole
    assert json.loads(Path("out/radii.manifest.json").read_text())["notes"]["images"] == 40


def test_without_a_seed_the_table_goes_on_with_its_own() -> None:
    unseeded = [part for part in PIXEL if part not in ("--seed", "1")]
    certify(*unseeded, "--limit", "5")
    seed = json.loads(Path("out/radii.manifest.json").read_text())["noise"]["seed"]
    certify(*unseeded)
    assert json.loads(Path("out/radii.manifest.json").read_text())["noise"]["seed"] == seed
    rows = lines()
    certify(*unseeded, "--seed", str(seed), "--overwrite")
    assert lines() == rows


def test_protocol_batch_size_and_max_change_no_row() -> None:
    certify(*PIXEL)
    everything = {row[0]: row for row in lines()}
    certify(*PIXEL[:-2], "--out", "part.tsv", "--protocol", "skip5", "--limit", "4", "--batch-size", "7")
    part = lines("part.tsv")
    assert [row[0] for row in part] == ["idx", "0", "5", "10", "15"]
    assert all(row == everything[row[0]] for row in part)


def test_a_run_killed_at_any_moment_and_repeated_gives_the_undisturbed_table() -> None:
    slow = [*PIXEL, "--n", "3000"]
    certify(*slow, "--out", "whole.tsv")
    for rows in (1, 4):
        process = subprocess.Popen(
            [sys.executable, "-m", "maxup_smoothing.certify", *slow],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while process.poll() is None:
            if Path("out/radii.tsv").exists() and Path("out/radii.tsv").read_bytes().count(b"\n") > rows:
                process.kill()
            time.sleep(0.002)
        process.wait()
    certify(*slow)
    assert lines() == lines("whole.tsv")


def test_an_interrupted_run_says_so_and_keeps_what_it_has() -> None:
    command = [sys.executable, "-m", "maxup_smoothing.certify", *PIXEL, "--n", "20000"]
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
    certify("run", "run", "--n", "50", "--limit", "3", "--dtype", "bfloat16", "--batch-size", "32")
    table = read("run/radii.tsv")
    assert (table["sigma"] == 0.25).all()
    manifest = json.loads(Path("run/radii.manifest.json").read_text())
    assert manifest["data"]["name"] == "images.npz"
    assert manifest["model"]["arch"] == "lenet"
    assert manifest["classifier"]["dtype"] == "bfloat16"


def test_float_noise_is_there_for_comparison_and_not_mixed_with_exact_noise() -> None:
    certify(*PIXEL, "--noise", "float", "--limit", "3")
    assert json.loads(Path("out/radii.manifest.json").read_text())["noise"]["source"] == "float"
    with pytest.raises(ValueError, match=r'noise\.source="float".*--overwrite'):
        certify(*PIXEL)


def test_a_measured_batch_size_is_remembered() -> None:
    certify("run", "run", "--n", "50", "--limit", "2")
    size = json.loads(Path("run/radii.manifest.json").read_text())["classifier"]["batch_size"]
    certify("run", "run", "--n", "50", "--limit", "4")
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
