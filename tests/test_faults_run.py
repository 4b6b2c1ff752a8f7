"""Signals, lack of memory, changed files and weights, lost devices, clocks: what ``certify run`` does and leaves."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from oracles import Pixel
from torch import Tensor, nn

import certify.cli
from certify import oversight, rounds
from certify.classifier import BaseClassifier
from certify.noise.exact import ExactNoise
from certify.oversight import Guard
from certify.run import certify_dataset
from certify.sampling import Sampling
from certify.smoothing import SmoothedClassifier
from certify.table import RadiusTable, read
from data import console, registry, stopping
from data.dataset import Dataset

TESTS = Path(__file__).parent
COMMAND = ["certify", "run", "mymodel:factory", "--data", "images.npz", "--sigma", "0.5", "--n", "200", "--seed", "1"]
COMMAND += ["--batch-size", "64", "--no-check", "--out", "out/radii.tsv"]
MODEL = '''
import os, signal
from oracles import Pixel

class Model(Pixel):
    """Pixel, which does something at chosen passes through whole batches, counted once there is a table."""
    events, passes = {}, 0

    def forward(self, x):
        if len(x) == 64 and os.path.exists("out/radii.tsv"):
            Model.passes += 1
            Model.events.get(Model.passes, lambda model: None)(self)
        return super().forward(x)

def factory():
    Model.passes = 0
    return Model(classes=10).eval()
'''


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with a model and some images, and rounds of a few images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.delenv("DATA_ROOT", raising=False)
    monkeypatch.setattr(rounds, "_SAMPLES", 600)
    monkeypatch.setattr(rounds, "_BATCHES", 1)
    Path("mymodel.py").write_text(MODEL)
    sample = registry.load("fashion-sample", "test")
    np.savez("images.npz", images=sample.images[:8, 0], labels=sample.labels[:8], classes=np.array(sample.classes))
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    yield
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    sys.modules.pop("mymodel", None)


def run(command: list[str], events: dict[int, Any], patch: pytest.MonkeyPatch) -> int:
    """The exit status of a command in this process whose model does things at its passes through whole batches."""
    sys.modules.pop("mymodel", None)
    import mymodel  # type: ignore[import-not-found]

    mymodel.Model.events = events
    patch.setattr(sys, "argv", command)
    try:
        console.run(certify.cli.app)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def send(number: int) -> Any:
    return lambda model: os.kill(os.getpid(), number)


def lines(path: str = "out/radii.tsv") -> list[list[str]]:
    """A table's fields without the time."""
    rows = [line.split("\t") for line in Path(path).read_text().splitlines()]
    time_at = rows[0].index("time")
    return [row[:time_at] + row[time_at + 1 :] for row in rows]


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The table of an undisturbed run."""
    assert run([*COMMAND[:-1], "whole.tsv"], {}, monkeypatch) == 0
    return lines("whole.tsv")


IMAGES = torch.randint(0, 256, (5, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
# Two passes learn what f says; then a pass of the first round, which is two images in ten, and one of the second.
FIRST, SECOND = 4, 15


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_with_the_images_in_hand(
    number: int, status: int, whole: list[list[str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(COMMAND, {SECOND: send(number)}, monkeypatch) == status
    assert 3 <= len(lines()) < len(whole)
    assert lines() == whole[: len(lines())]
    said = capfd.readouterr().err
    assert "finishing the images in hand" in said
    assert f"{len(lines()) - 1} of 8 images in out/radii.tsv. The same command goes on." in said
    assert "Traceback" not in said
    assert run(COMMAND, {}, monkeypatch) == 0
    assert lines() == whole


def test_the_echo_of_a_signal_is_no_second_one(whole: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler signals torchrun and its processes, and torchrun passes the signal on."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    assert run(COMMAND, {SECOND: send(signal.SIGTERM), SECOND + 1: send(signal.SIGTERM)}, monkeypatch) == 143
    assert 3 <= len(lines()) < len(whole)
    rows = len(lines())
    monkeypatch.setattr(stopping, "_ECHO", 0.0)
    Path("out/radii.tsv").unlink()
    assert run(COMMAND, {SECOND: send(signal.SIGTERM), SECOND + 1: send(signal.SIGTERM)}, monkeypatch) == 143
    assert len(lines()) < rows, "left at once"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_second_signal_ends_it_at_once(
    number: int, status: int, whole: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(COMMAND, {FIRST: send(number), FIRST + 1: send(number)}, monkeypatch) == status
    assert len(lines()) == 1
    assert run(COMMAND, {}, monkeypatch) == 0
    assert lines() == whole


def test_a_round_that_would_outlast_a_schedulers_patience_is_left(
    whole: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "GRACE", -1.0)
    assert run(COMMAND, {FIRST: send(signal.SIGTERM)}, monkeypatch) == 143
    assert len(lines()) == 1
    monkeypatch.setattr(stopping, "GRACE", 60.0)
    assert run(COMMAND, {}, monkeypatch) == 0
    assert lines() == whole


@pytest.mark.parametrize("procedure", ["sequential", "anytime"])
def test_images_that_are_begun_are_finished_before_a_signal_ends_the_run(
    procedure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [*COMMAND, "--procedure", procedure, "--radii", "0.25", "--n", "5000"]
    assert run([*command, "--out", "whole.tsv"], {}, monkeypatch) == 0
    assert run(command, {FIRST: send(signal.SIGTERM)}, monkeypatch) == 143
    assert 2 <= len(lines()) < 9
    assert run(command, {}, monkeypatch) == 0
    assert lines() == lines("whole.tsv")


def test_predict_stops_and_goes_on_in_the_same_way(monkeypatch: pytest.MonkeyPatch) -> None:
    command = [part if part != "run" else "predict" for part in COMMAND]
    monkeypatch.setattr("certify.run.GROUP_SAMPLES", 400)
    assert run([*command, "--out", "whole.tsv"], {}, monkeypatch) == 0
    assert run(command, {FIRST: send(signal.SIGTERM)}, monkeypatch) == 143
    assert 3 <= len(lines()) < 9
    assert run(command, {}, monkeypatch) == 0
    assert lines() == lines("whole.tsv")


def test_the_library_and_other_threads_leave_signals_alone() -> None:
    found: list[Any] = []

    class Looks(Pixel):
        def forward(self, x_BCHW: Tensor) -> Tensor:
            found.append((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)))
            return super().forward(x_BCHW)

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    SmoothedClassifier(Looks().eval(), 2, 0.5).certify(np.zeros((1, 1, 1, 1), np.uint8), n=50)
    assert set(found) == {before}

    def elsewhere() -> None:
        with stopping.Stop("nothing") as stop:
            found.append((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), stop.status))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found[-1] == (*before, None)


def test_a_signal_that_the_process_ignores_stays_ignored() -> None:
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup, or in a background job
    try:
        with stopping.Stop("nothing") as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.status is None
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.status == 143
    finally:
        signal.signal(signal.SIGINT, old)


def test_stderr_and_the_manifest_tell_of_memory(
    whole: list[list[str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def no_memory(model: nn.Module) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    assert run(COMMAND, {SECOND + 2: no_memory}, monkeypatch) == 0
    assert lines() == whole
    assert capfd.readouterr().err.count("out of memory: going on with 32 of the 64 rows of a batch at a time") == 1
    told = json.loads(Path("out/radii.manifest.json").read_text())["notes"]["micro_batch"]
    assert [change["rows"] for change in told] == [32]
    assert 2 <= told[0]["after_rows"] <= 6
    assert run([*COMMAND, "--max", "8"], {}, monkeypatch) == 0  # with nothing to do, a later run has whole batches
    told = json.loads(Path("out/radii.manifest.json").read_text())["notes"]["micro_batch"]
    assert [change["rows"] for change in told] == [32, 64]


@pytest.mark.parametrize(
    "error", [torch.AcceleratorError("CUDA error: an illegal memory access"), RuntimeError("CUDA error: unspecified")]
)
def test_a_lost_accelerator_is_one_line_and_a_status_of_its_own(
    error: Exception, whole: list[list[str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def lost(model: nn.Module) -> None:
        raise error

    assert run(COMMAND, {SECOND + 2: lost}, monkeypatch) == console.TRY_AGAIN
    said = capfd.readouterr().err
    assert "the accelerator is lost (CUDA error: " in said
    assert "Traceback" not in said
    kept = lines()
    assert 3 <= len(kept) < 9
    assert kept == whole[: len(kept)]
    assert run(COMMAND, {}, monkeypatch) == 0
    assert lines() == whole


def test_a_file_replaced_under_a_run_is_told_with_both_hashes_and_its_rows_stay(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run([*COMMAND[:-1], "whole.tsv"], {}, monkeypatch) == 0
    shutil.copy("images.npz", "kept.npz")
    touch = {SECOND: lambda model: os.utime("images.npz", ns=(1, 1))}
    assert run([*COMMAND[:-1], "touched.tsv"], touch, monkeypatch) == 0  # another time, the same content

    def replace(model: nn.Module) -> None:
        Path("new.npz").write_bytes(b"other images")
        os.replace("new.npz", "images.npz")

    capfd.readouterr()
    monkeypatch.setattr(Guard, "__init__", functools.partialmethod(Guard.__init__, every=0.0))
    monkeypatch.setattr(oversight, "_SHARE", 0)
    assert run(COMMAND, {FIRST + 5: replace}, monkeypatch) == 2
    said = capfd.readouterr().err
    recorded = json.loads(Path("out/radii.manifest.json").read_text())["notes"]["files"]["images.npz"]
    assert f"images.npz was replaced while it was used: its SHA-256 was {recorded}, and is now" in said
    assert 1 < len(lines()) <= 9
    assert lines() == lines("whole.tsv")[: len(lines())]
    os.replace("kept.npz", "images.npz")
    assert run(COMMAND, {}, monkeypatch) == 0
    assert lines() == lines("whole.tsv")


class Drifting(nn.Module):
    """Pixel with a buffer that its own code updates from some pass on."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.inner, self.after, self.passes = Pixel(), after, 0
        self.register_buffer("average", torch.zeros(1))
        self.eval()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        self.passes += 1
        if self.passes > self.after:
            self.get_buffer("average").add_(1.0)
        return self.inner(x_BCHW)


@pytest.mark.parametrize("every", [0.0, 1e9])
def test_rows_since_the_last_good_look_at_the_weights_do_not_stay(
    every: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oversight, "_SHARE", 0)
    data = Dataset(name="d", split="test", images=IMAGES.numpy(), labels=np.zeros(5, np.int64), classes=("a", "b"))
    sampling, source = Sampling(sigma=0.5, n0=20, n=600, alpha=0.01), ExactNoise(0.5, 1)
    path = tmp_path / "radii.tsv"
    classifier = BaseClassifier(Drifting(after=25), 2, batch_size=64)  # ten passes an image: two are sound

    def certify() -> None:
        with RadiusTable.open(path, {}) as table, Guard(classifier, table, range(5), IMAGES, every=every) as guard:
            certify_dataset(classifier, source, data, range(5), sampling, table, oversight=guard)

    with pytest.raises(ValueError, match="f has changed while it ran: SHA-256"):
        certify()
    # With looks between rounds the rows before the change stay; with one at the end none can be trusted.
    assert read(path)["idx"].tolist() == ([0, 1] if every == 0 else [])
    if every == 0:
        assert path.read_bytes().endswith(b"\n")


def test_clocks_that_are_set_back_change_nothing(
    whole: list[list[str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = [2e9]

    def backwards() -> float:
        now[0] -= 3600
        return now[0]

    monkeypatch.setattr(time, "time", backwards)
    monkeypatch.setattr(time, "time_ns", lambda: int(backwards() * 1e9))
    assert run(COMMAND, {}, monkeypatch) == 0
    assert lines() == whole
    assert (read("out/radii.tsv")["time"] >= 0).all()
    with console.Meter("testing", "images", 10, 100, "samples") as meter:
        meter.advance(50, 5)
        meter.advance(-60)  # drawn again
        meter.advance(200)
        assert " -" not in str(meter._bar.tasks[0].fields["text"])
    assert "-1 day" not in capfd.readouterr().err


def test_a_second_process_on_the_same_table_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run([*COMMAND[:-1], "a.tsv", "--max", "3"], {}, monkeypatch) == 0
    shutil.copytree(".", "b", ignore=shutil.ignore_patterns("b"))

    def other(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(TESTS)}
        return subprocess.run(
            [sys.executable, "-m", "certify", *arguments], capture_output=True, text=True, check=False, env=environment
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
    from certify.table import row_of

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
from certify.cli import main
main()
"""


def test_a_quota_is_told_and_the_run_goes_on_when_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    with np.load("images.npz") as old:
        images, labels, classes = np.tile(old["images"], (6, 1, 1)), np.tile(old["labels"], 6), old["classes"]
    np.savez("images.npz", images=images, labels=labels, classes=classes)
    command = [sys.executable, "-c", CHILD, "limit", "5000", *COMMAND]
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{os.getcwd()}"}
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
    environment = {**os.environ, "PYTHONPATH": f"{TESTS}{os.pathsep}{os.getcwd()}"}
    failed = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if "ModuleNotFoundError" in failed.stderr or "cannot import" in failed.stderr:
        pytest.skip("a user without rights cannot import the packages")
    assert failed.returncode == 2, failed
    assert "Permission denied: 'out/radii.tsv'" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_table_can_be_shown_while_it_is_written(
    whole: list[list[str]], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shown: list[int] = []
    assert run(COMMAND, {SECOND: lambda model: shown.append(len(read("out/radii.tsv")))}, monkeypatch) == 0
    assert shown[0] >= 1
    # What was being written when the process was killed is no row yet.
    content = Path("out/radii.tsv").read_bytes()
    capfd.readouterr()
    for tail in (-2, -20, -90):
        Path("out/radii.tsv").write_bytes(content[:tail])
        assert run(["certify", "show", "out/radii.tsv"], {}, monkeypatch) == 2
        assert capfd.readouterr().err.startswith("error: out/radii.tsv, line 9: ")
    assert run(COMMAND, {}, monkeypatch) == 0
    assert lines() == whole
