"""Kills real runs at random moments and resumes them: ``python killing.py certify|train KILLS``.

It imports once and forks for each life of a run, so that a kill costs a fraction of a second. It runs in a folder of
its own, has one thread, and prints what it found as JSON.
"""

import csv
import json
import os
import random
import signal
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._dynamo  # the first optimizer of a process imports it, which takes seconds

import maxup_smoothing.certify.commands.app
import maxup_smoothing.certify.runs.session
import maxup_smoothing.train.__main__ as training
from maxup_smoothing.certify.engine import scheduler
from maxup_smoothing.data import registry
from maxup_smoothing.data.runtime import console
from maxup_smoothing.train import checkpoint
from maxup_smoothing.train.checkpoint import Architecture

IMAGES, EPOCHS = 12, 3
CERTIFY = ["certify", "run", "run", "--n", "100", "--n0", "20", "--seed", "1", "--batch-size", "16", "--no-check"]
CERTIFY += ["--device", "cpu", "--out"]
TRAIN = ["train", "fashion_sample_maxup", "--resume"]
for change in ("dataset=images.npz", f"epochs={EPOCHS}", "batch_size=10", "probe=20", "device=cpu"):
    TRAIN += ["--set", change]
TRAIN += ["--out"]


def prepare() -> None:
    """Real images, a network, and rounds of few samples, so that a table takes several."""
    torch.set_num_threads(1)
    scheduler._SAMPLES, scheduler._BATCHES = 256, 1
    sample = registry.load("fashion-sample", "test")
    images = sample.images[:IMAGES, 0] if sys.argv[1] == "certify" else sample.images[:60, 0]
    np.savez("images.npz", images=images, labels=sample.labels[: len(images)], classes=np.array(sample.classes))
    architecture = Architecture(arch="lenet", image_shape=(1, 28, 28), num_classes=10, options={})
    torch.manual_seed(0)
    metadata: dict[str, Any] = {"config": {"sigma": 0.25, "dataset": "images.npz"}, "epoch": 1}
    checkpoint.save(Path("run/checkpoint.safetensors"), architecture.build(), architecture, metadata)


def begin(arguments: Sequence[str]) -> int:
    """A process that runs a command; its number."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        silent = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        sys.argv = list(arguments)
        console.run(maxup_smoothing.certify.commands.app.app if arguments[0] == "certify" else training.app)
        status = 0
    except SystemExit as ended:
        status = int(ended.code or 0)
    finally:
        sys.stderr.flush()
        os._exit(status)


def ends(child: int) -> bool:
    """Whether a process ended by itself, and well; False if it was killed."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return False
    assert os.WEXITSTATUS(status) == 0, Path("log.txt").read_text()
    return True


def whole_lines(path: Path) -> bytes:
    content = path.read_bytes() if path.exists() else b""
    return content[: content.rfind(b"\n") + 1]


def grows(path: Path, child: int) -> None:
    """Wait until a run's file has another line below its header, or the run has ended."""
    before = max(1, whole_lines(path).count(b"\n"))
    while (
        whole_lines(path).count(b"\n") <= before
        and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    ):
        time.sleep(0.0005)


def table(path: Path) -> list[list[str]]:
    """A radius table without its times."""
    return [fields[:5] + fields[6:] for fields in (line.split("\t") for line in path.read_text().splitlines())]


def run_folder(path: Path) -> list[Any]:
    """The weights of a run, and its table without times."""
    rows = list(csv.DictReader((path / "train.csv").read_text().splitlines()))
    timeless = [{name: value for name, value in row.items() if "second" not in name} for row in rows]
    state = torch.load(path / "state.pt", weights_only=True)["model"]
    return [
        (path / "checkpoint.safetensors").read_bytes().hex(),
        {name: tensor.tolist() for name, tensor in state.items()},
        timeless,
    ]


def lives(
    command: Sequence[str], result: Callable[[Path], list[Any]], name: str, kills: int, seed: int
) -> dict[str, Any]:
    """Kill and resume runs, one after the other, until there were so many kills."""
    chance = random.Random(seed)
    assert ends(begin([*command, str(Path("whole", name))]))  # fills caches, such as Numba's
    start = time.monotonic()
    assert ends(begin([*command, str(Path("again", name))]))
    usual = time.monotonic() - start
    expected = result(Path("whole", name))
    killed, finished, progress = 0, 0, []
    while killed < kills:
        out = Path(f"cut{finished}", name)
        growing = out if out.suffix else out / "train.csv"
        before = b""
        while True:
            child = begin([*command, str(out)])
            # By the clock any moment is met, but on a busy machine many a life ends before its first line.
            if chance.random() < 0.5:
                grows(growing, child)
                time.sleep(chance.uniform(0, usual / 20))
            else:
                time.sleep(chance.uniform(0, usual))
            os.kill(child, signal.SIGKILL)
            over = ends(child)
            now = whole_lines(growing)
            # A row on disk stays as it is; a table without one begins again, and train.csv is cut back to state.pt.
            if out.suffix and before.count(b"\n") > 1:
                assert now.startswith(before), (before, now)
            before = now
            if over:
                break
            killed += 1
            progress.append(now.count(b"\n"))
        assert result(out) == expected, f"life {finished} of {out}"
        assert not [file.name for file in out.parent.rglob(".*.tmp")], "temporary files are left"
        finished += 1
    return {"killed": killed, "finished": finished, "progress": progress, "result": len(expected)}


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)  # of forks in general
    prepare()
    assert len(os.listdir("/proc/self/task")) == 1 if Path("/proc/self/task").exists() else True
    if sys.argv[1] == "certify":
        found = lives(CERTIFY, table, "radii.tsv", int(sys.argv[2]), seed=7)
    else:
        found = lives(TRAIN, run_folder, "run", int(sys.argv[2]), seed=7)
    print(json.dumps(found))
