"""``certify run`` by several processes: a folder with what it needs, torchrun, and threads in place of processes."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch.distributed as dist
from places import HELPERS, ROOT
from table_lines import lines

import maxup_smoothing.certify.commands.app
from maxup_smoothing.certify.distributed.world import Store, World
from maxup_smoothing.certify.engine import scheduler
from maxup_smoothing.certify.runs import launch
from maxup_smoothing.data import registry
from maxup_smoothing.data.runtime import console

MODEL = """
import os
from oracles import Pixel

def factory():
    return Pixel(classes=10).eval()

def of_its_own():
    return Pixel(threshold=0.5 + int(os.environ["RANK"]), classes=10).eval()
"""
COMMAND = ["run", "mymodel:factory", "--data", "images.npz", "--sigma", "0.5", "-n", "200", "--n0", "20", "--no-check"]
COMMAND += ["--batch-size", "64", "--device", "cpu", "--out", "out/radii.tsv"]
SEED = ["--seed", "1"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a model and 24 real images, and rounds of a few of them."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(HELPERS))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(HELPERS), str(ROOT)]))
    for name in ("DATA_ROOT", "LOCAL_RANK", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(scheduler, "_SAMPLES", 600)
    monkeypatch.setattr(scheduler, "_BATCHES", 1)
    sys.modules.pop("mymodel", None)
    Path("mymodel.py").write_text(MODEL)
    sample = registry.load("fashion-sample", "test")
    np.savez("images.npz", images=sample.images[:24, 0], labels=sample.labels[:24], classes=np.array(sample.classes))


def run(*arguments: str) -> int:
    """The exit status of a command in this process."""
    before, sys.argv = sys.argv, ["certify", *arguments]
    try:
        console.run(maxup_smoothing.certify.commands.app.app)
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
    return 0


def torchrun(*arguments: str, restarts: int = 0, processes: int = 2) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    launcher += ["--max-restarts", str(restarts), "--monitor-interval", "0.05"]
    return [sys.executable, *launcher, "-m", "--", "certify", *arguments]  # else it would take --n for its own


def run_in_thread(*arguments: str) -> int:
    """As `run`, without what belongs to a process: its arguments and its exit."""
    maxup_smoothing.certify.commands.app.app(list(arguments), standalone_mode=False)
    return 0


def catch(action: Callable[[], Any]) -> Any:
    try:
        return action()
    except ValueError as error:
        return error


class Threads:
    """Processes as threads of this one: each has its own world, and they share a store."""

    def __init__(self, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self._size, self._local = size, threading.local()
        monkeypatch.setattr(launch, "join", self._join)
        monkeypatch.setenv("PYDANTIC_DISABLE_PLUGINS", "1")  # typer sets it while it parses, which threads cannot share

    @contextmanager
    def _join(self) -> Iterator[World]:
        yield getattr(self._local, "world", World())  # the main thread is alone

    def __call__(self, work: Callable[[World], Any]) -> list[Any]:
        """What each thread returns, or the exception that ended it."""
        store = cast(Store, dist.HashStore())  # type: ignore[attr-defined]
        results: list[Any] = [None] * self._size

        def life(rank: int) -> None:
            self._local.world = World(rank, self._size, store)
            try:
                results[rank] = work(self._local.world)
            except BaseException as error:
                results[rank] = error

        threads = [threading.Thread(target=life, args=(rank,), daemon=True) for rank in range(self._size)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return results


@pytest.fixture
def whole() -> list[list[str]]:
    """The table of a single process."""
    assert run(*COMMAND[:-1], "whole.tsv", *SEED) == 0
    return lines("whole.tsv")
