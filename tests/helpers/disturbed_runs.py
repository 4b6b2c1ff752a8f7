"""``certify run`` in this process, whose model does something at chosen passes, such as sending a signal."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from places import HELPERS
from table_lines import lines

import maxup_smoothing.certify.commands.app
from maxup_smoothing.certify.engine import scheduler
from maxup_smoothing.data import registry
from maxup_smoothing.data.runtime import console

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
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder with a model and some images, and rounds of a few images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(HELPERS))
    monkeypatch.delenv("DATA_ROOT", raising=False)
    monkeypatch.setattr(scheduler, "_SAMPLES", 600)
    monkeypatch.setattr(scheduler, "_BATCHES", 1)
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
        console.run(maxup_smoothing.certify.commands.app.app)
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def send(number: int) -> Any:
    return lambda model: os.kill(os.getpid(), number)


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The table of an undisturbed run."""
    assert run([*COMMAND[:-1], "whole.tsv"], {}, monkeypatch) == 0
    return lines("whole.tsv")


IMAGES = torch.randint(0, 256, (5, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
# Two passes learn what f says; then a pass of the first round, which is two images in ten, and one of the second.
FIRST, SECOND = 4, 15
