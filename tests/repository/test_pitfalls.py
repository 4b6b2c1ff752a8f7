"""Every pitfall of docs/pitfalls.md names the tests that would catch it, and they exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from places import ROOT

TABLE = [line for line in (ROOT / "docs" / "pitfalls.md").read_text().splitlines() if line.startswith("| ")]
ROWS = TABLE[1:]


@cache
def functions(path: Path) -> set[str]:
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:50])
def test_a_pitfall_names_tests_that_exist(row: str) -> None:
    *_, last, end = re.split(r"(?<!\\)\|", row)
    assert not end
    names = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", last)
    assert names, "no test is named"
    for file, test in names:
        assert test in functions(ROOT / file), f"{file} has no {test}"


def test_the_table_is_read() -> None:
    assert TABLE[0].split(" | ")[-1] == "caught by |"
    assert len(ROWS) > 30
    assert len({row.split(" | ")[0] for row in ROWS}) == len(ROWS)
