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
