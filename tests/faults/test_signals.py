"""Signals to ``certify run``: the images in hand are finished, and the same command goes on."""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import disturbed_runs
import numpy as np
import pytest
from disturbed_runs import COMMAND, FIRST, SECOND, run, send
from oracles import Pixel
from table_lines import lines
from torch import Tensor

from maxup_smoothing.certify.smoothing import SmoothedClassifier
from maxup_smoothing.data.runtime import signals

_here = disturbed_runs.here
whole = disturbed_runs.whole


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
    monkeypatch.setattr(signals, "_ECHO", 0.0)
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
    monkeypatch.setattr(signals, "GRACE", -1.0)
    assert run(COMMAND, {FIRST: send(signal.SIGTERM)}, monkeypatch) == 143
    assert len(lines()) == 1
    monkeypatch.setattr(signals, "GRACE", 60.0)
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
        with signals.Stop("nothing") as stop:
            found.append((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), stop.status))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found[-1] == (*before, None)


def test_a_signal_that_the_process_ignores_stays_ignored() -> None:
    old = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup, or in a background job
    try:
        with signals.Stop("nothing") as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.status is None
            os.kill(os.getpid(), signal.SIGTERM)
            assert stop.status == 143
    finally:
        signal.signal(signal.SIGINT, old)
