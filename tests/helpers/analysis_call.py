"""`python -m analysis` in a test: its output, and the tables that it reads."""

import sys

import pytest

from maxup_smoothing.analysis.__main__ import main

HEADER = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int | str | None:
    monkeypatch.setattr(sys, "argv", ["analysis", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def without_notes(said: str) -> list[str]:
    """Lines of stderr, less the notes of a log's reader, of which it has some for these bare files."""
    return [line for line in said.splitlines() if not line.startswith("note: ")]
