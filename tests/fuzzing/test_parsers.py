"""Whatever a stranger's file holds: an answer or one clear error, soon, in little memory, and nothing run or written.

`fuzz` has the parsers and what is required of each. Quick: the same inputs every time; ``--slow``: 10,000 random ones.
"""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.parser import Parser, attempt
from fuzz.parsers import PARSERS
from fuzz.watch import limited_memory

QUICK, SLOW = 60, 10_000
WORDS = re.compile(rb"[A-Za-z0-9_.+-]+")
#: What stands for a word, a number or nothing in a file of somebody who means harm.
PIECES = (
    b"", b"nan", b"inf", b"-inf", b"-1", b"-0.0", b"0", b"1", b"2", b"1e999", b"1e-400", b"1e308", b"1" * 5000,
    b"1" + b"0" * 400, b"0x" + b"f" * 5000, b"1152921504606846976", b"18446744073709551616", b"null", b"true", b"[]",
    b"{}", b'"x"', b"[" * 3000, b'{"a":' * 3000, b"a." * 1900, b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\r\n", b"\r",
    b"\n", b"\t", b",", b"'", b'"', b"\\ud800", b"\x1b[31m", b"\x7f", "\u202e\u0660".encode(),
    b"../../x", b"/etc/passwd",
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, seeds: list[bytes]) -> bytes:
    """A valid file after some of: a bit flipped, cut off, a piece left out, doubled or put in, a word replaced."""
    data = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        kind = draw(st.sampled_from(("flip", "cut", "leave out", "double", "put in", "word")))
        words = list(WORDS.finditer(data)) if kind == "word" else []
        if kind == "flip" and data:
            at = min(start, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
        elif kind == "cut":
            data = data[:start]
        elif kind == "leave out":
            data = data[:start] + data[end:]
        elif kind == "double":
            data = data[:end] + data[start:]
        elif words:
            word = words[draw(st.integers(0, len(words) - 1))]
            data = data[: word.start()] + draw(st.sampled_from(PIECES)) + data[word.end() :]
        else:
            data = data[:start] + draw(st.sampled_from(PIECES)) + data[end:]
    return data


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "folder"


@pytest.fixture
def slow(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--slow"))


@pytest.mark.filterwarnings("ignore")  # of third parties' readers, about the damage; a user sees a line more
@pytest.mark.parametrize("parser", PARSERS.values(), ids=list(PARSERS))
def test_any_bytes_and_any_damage_give_an_answer_or_one_clear_error(parser: Parser, scratch: Path, slow: bool) -> None:
    seeds = parser.seeds()
    for seed in seeds:  # what is imported late is imported before memory is limited
        attempt(parser, seed, scratch)

    @settings(
        max_examples=(SLOW if slow else QUICK) // parser.slow,
        deadline=None,
        derandomize=not slow,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(data=st.one_of(st.binary(max_size=64), damaged(seeds), damaged(seeds)))
    def read(data: bytes) -> None:
        attempt(parser, data, scratch)

    with limited_memory():
        read()


@pytest.mark.parametrize("parser", [one for one in PARSERS.values() if one.slow == 1], ids=lambda one: one.name)
def test_the_files_that_the_damage_starts_from_are_read(parser: Parser, scratch: Path) -> None:
    assert any(attempt(parser, seed, scratch) == len(parser.readers) for seed in parser.seeds())


@pytest.mark.parametrize("name", ["npz", "idx", "checkpoint", "weights", "radius_table", "log", "config", "published"])
def test_a_file_cut_off_at_any_length_gives_an_answer_or_one_clear_error(name: str, scratch: Path, slow: bool) -> None:
    parser = PARSERS[name]
    whole = parser.seeds()[0]
    for length in range(0, len(whole), 1 if slow else max(1, len(whole) // 15)):
        attempt(parser, whole[:length], scratch)


def _bad(path: Path) -> None:
    raise KeyError(path.name)


def _writes(path: Path) -> None:
    path.parent.with_name("elsewhere").write_text("")


def _forks(path: Path) -> None:
    import subprocess

    subprocess.run(["true"], check=True)


def _vague(path: Path) -> None:
    raise ValueError("something is wrong")


def _greedy(path: Path) -> None:
    bytearray(1 << 40)


@pytest.mark.parametrize(
    ("reader", "error"),
    [
        (_bad, KeyError),
        (_writes, AssertionError),
        (_forks, AssertionError),
        (_vague, AssertionError),
        (_greedy, MemoryError),
    ],
)
def test_a_reader_that_does_what_none_may_is_caught(reader: object, error: type[Exception], scratch: Path) -> None:
    assert callable(reader)
    parser = Parser(name="bad", file="x", seeds=lambda: [b""], readers=(reader,))
    with limited_memory(), pytest.raises(error):
        attempt(parser, b"", scratch)
