import io
import sys

import pytest

from maxup_smoothing.data.runtime.console import Meter


class Notebook(io.StringIO):
    """A stream that calls itself a terminal, as that of a notebook does."""

    def isatty(self) -> bool:
        return True


def test_nothing_is_drawn_where_the_stream_only_calls_itself_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Notebook()
    monkeypatch.setattr(sys, "stderr", stream)
    with Meter("certifying", "images", 3, None, "samples") as meter:
        meter.advance(steps=1, finished=1)
    assert stream.getvalue() == ""


def test_work_whose_amount_is_known_late_has_a_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with Meter("redrawing", "rows", 0, None, "samples") as meter:
        meter.expect(4, 1000)
        clock[0] = 40.0
        meter.advance(250, 1)
    assert capsys.readouterr().err == "redrawing: 1/4 rows, 6 samples/s, 0:02:00 left\n"
