"""What another process, the file system or its rights refuse: one line, and the run goes on once it may."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import disturbed_runs
import numpy as np
import pytest
from disturbed_runs import COMMAND, IMAGES, run
from oracles import Pixel
from places import HELPERS
from table_lines import lines

from maxup_smoothing.certify.smoothing import SmoothedClassifier
from maxup_smoothing.certify.tables.radius_table import RadiusTable

_here = disturbed_runs.here


def test_a_second_process_on_the_same_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run([*COMMAND[:-1], "a.tsv", "--limit", "3"], {}, monkeypatch) == 0
    shutil.copytree(".", "b", ignore=shutil.ignore_patterns("b"))

    def other(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(HELPERS)}
        return subprocess.run(
            [sys.executable, "-m", "maxup_smoothing.certify", *arguments],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
        )

    with RadiusTable.open("out/radii.tsv", {}) as table:
        tries = [
            other(*COMMAND[1:]),
            other("merge", "a.tsv", "b/a.tsv", "--out", "out/radii.tsv", "--overwrite"),
            other("recompute", "a.tsv", "--alpha", "0.01", "--out", "out/radii.tsv", "--overwrite"),
        ]
        assert not table.done
    for tried in tries:
        assert tried.returncode == 2, tried
        assert "is being written by another process; wait for it or write to another file" in tried.stderr
        assert "Traceback" not in tried.stderr


def test_a_table_that_was_removed_or_has_no_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    path = tmp_path / "radii.tsv"
    [proved] = SmoothedClassifier(Pixel().eval(), 2, 0.5, seed=1).certify(IMAGES[:1], n=100)
    from maxup_smoothing.certify.tables.radius_table import row_of

    with RadiusTable.open(path, {}) as table:
        path.unlink()
        with pytest.raises(ValueError, match="was removed or replaced while it was being written; run it again"):
            table.append(row_of(proved, 0, 0, n0=100, sigma=0.5, alpha=0.001, seconds=0.0))

    def unsupported(descriptor: int, how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(OSError, match="cannot lock: No locks available; its file system has no locks"):
        RadiusTable.open(path, {})


CHILD = """
import os, resource, sys
what, *command = sys.argv[1:]
if what == "limit":  # a quota: files of the process may have so many bytes, and one write is cut short
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(command.pop(0)),) * 2)
else:  # a folder of others
    os.chmod("out", 0o555)
    if os.getuid() == 0:
        os.setuid(65534)
sys.argv = command
from maxup_smoothing.certify.__main__ import main
main()
"""


def test_a_quota_is_told_and_the_run_goes_on_when_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    with np.load("images.npz") as old:
        images, labels, classes = np.tile(old["images"], (6, 1, 1)), np.tile(old["labels"], 6), old["classes"]
    np.savez("images.npz", images=images, labels=labels, classes=classes)
    command = [sys.executable, "-c", CHILD, "limit", "5000", *COMMAND]
    environment = {**os.environ, "PYTHONPATH": f"{HELPERS}{os.pathsep}{os.getcwd()}"}
    failed = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    # The manifest fits, and the table of 48 rows grows until the limit.
    assert failed.returncode == 2, failed
    assert "cannot write: File too large" in failed.stderr
    assert "Traceback" not in failed.stderr
    kept = Path("out/radii.tsv").read_bytes()
    assert kept.endswith(b"\n")
    assert run(COMMAND, {}, monkeypatch) == 0
    assert Path("out/radii.tsv").read_bytes().startswith(kept)
    assert len(lines()) == 49


def test_a_folder_that_is_none_is_one_line(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert run([*COMMAND[:-1], "images.npz/radii.tsv"], {}, monkeypatch) == 2
    assert "Not a directory: 'images.npz/radii.tsv'" in capfd.readouterr().err


def test_a_folder_that_is_read_only_is_one_line(tmp_path: Path) -> None:
    os.mkdir("out")
    os.chmod(tmp_path, 0o755)
    for folder in tmp_path.parents:
        if folder.stat().st_uid == os.getuid() and not folder.stat().st_mode & 0o001:
            pytest.skip("a user without rights cannot reach the folder of the tests")
    command = [sys.executable, "-c", CHILD, "folder", *COMMAND]
    environment = {**os.environ, "PYTHONPATH": f"{HELPERS}{os.pathsep}{os.getcwd()}"}
    failed = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if "ModuleNotFoundError" in failed.stderr or "cannot import" in failed.stderr:
        pytest.skip("a user without rights cannot import the packages")
    assert failed.returncode == 2, failed
    assert "Permission denied: 'out/radii.tsv'" in failed.stderr
    assert "Traceback" not in failed.stderr
