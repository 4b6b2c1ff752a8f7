"""SIGKILL at random moments of real runs: the result is that of an undisturbed run, and nothing is done twice."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from places import HELPERS

HERE = pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="processes are forked")


def killed(what: str, kills: int, folder: Path) -> dict[str, Any]:
    command = [sys.executable, str(HELPERS / "killing.py"), what, str(kills)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


@HERE
def test_a_certification_killed_fifty_times_ends_with_the_table_of_an_undisturbed_one(tmp_path: Path) -> None:
    found = killed("certify", 50, tmp_path)
    assert found["killed"] >= 50
    assert found["finished"] >= 1
    assert found["result"] == 13  # a header and twelve rows
    # The kills met tables of many lengths, not only the moments before or after.
    assert len(set(found["progress"])) >= 4


@HERE
def test_a_training_killed_fifty_times_ends_with_the_weights_of_an_undisturbed_one(tmp_path: Path) -> None:
    found = killed("train", 50, tmp_path)
    assert found["killed"] >= 50
    assert found["finished"] >= 1
    assert len(set(found["progress"])) >= 3


@pytest.mark.slow
@HERE
@pytest.mark.parametrize("what", ["certify", "train"])
def test_a_thousand_kills(what: str, tmp_path: Path) -> None:
    assert killed(what, 1000, tmp_path)["killed"] >= 1000
