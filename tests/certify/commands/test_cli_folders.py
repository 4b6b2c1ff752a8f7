"""Commands that take a table take its run folder, and say what is missing where something is."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import certify_command
import pytest
from certify_command import PIXEL, certify

_here = certify_command.here


def test_a_run_folder_stands_for_its_table() -> None:
    certify(*PIXEL, "--limit", "6")
    assert certify("show", "out") == certify("show", "out/radii.tsv")
    assert certify("audit", "out") == certify("audit", "out/radii.tsv")
    certify("recompute", "out", "--alpha", "0.01", "--out", "a.tsv")
    certify("recompute", "out/radii.tsv", "--alpha", "0.01", "--out", "b.tsv")
    assert Path("a.tsv").read_bytes() == Path("b.tsv").read_bytes()
    assert "EXACT" in certify("verify", "out", "--rows", "2")


@pytest.mark.parametrize("command", [["show"], ["audit"], ["verify"], ["recompute", "--out", "x.tsv"]])
def test_a_folder_without_a_table_is_named(command: list[str]) -> None:
    Path("empty").mkdir()
    with pytest.raises(ValueError, match=r"empty is a folder without radii\.tsv; name a radius table, or make one"):
        certify(*command, "empty")


@pytest.mark.parametrize("command", ["run", "predict", "check", "plan"])
def test_a_model_that_is_not_there_is_called_so(command: str) -> None:
    with pytest.raises(ValueError, match="there is no file or folder runs/nosuch"):
        certify(command, "runs/nosuch")


def test_a_model_that_the_manifest_names_and_is_gone_is_asked_for() -> None:
    certify(*PIXEL, "--limit", "3")
    manifest = Path("out/radii.manifest.json")
    told = json.loads(manifest.read_text())
    told["notes"]["model"] = "runs/gone"
    manifest.write_text(json.dumps(told))
    with pytest.raises(ValueError, match=r"the manifest of out/radii\.tsv names, runs/gone, is not there; give it as"):
        certify("verify", "out")


def test_a_torn_line_is_called_torn() -> None:
    certify(*PIXEL, "--limit", "3")
    table = Path("out/radii.tsv")
    table.write_bytes(table.read_bytes()[:-30])
    with pytest.raises(ValueError, match="The line was cut off; `certify run` does it again"):
        certify("show", "out")


def test_so_few_votes_that_all_would_abstain_are_refused() -> None:
    certify(*PIXEL, "--limit", "3")
    with pytest.raises(ValueError, match=r"5 samples cannot certify anything at alpha=0\.001; raise --n"):
        certify("recompute", "out", "--n", "5", "--out", "x.tsv")
    assert not Path("x.tsv").exists()


def test_an_interruption_while_starting_is_one_line() -> None:
    """The signal comes while torch is being imported, as the module that stands in for it says."""
    Path("torch").mkdir()
    Path("torch/__init__.py").write_text("open('importing', 'w').close()\nimport time\ntime.sleep(60)\n")
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    command = [sys.executable, "-m", "maxup_smoothing.certify", "selftest"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    while not Path("importing").exists():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in said
