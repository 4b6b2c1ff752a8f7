"""The notebooks run on the embedded data, and say what is committed.

`python tests/repository/test_notebooks.py` executes them and writes their outputs anew.
"""

import ast
import base64
import os
import re
import sys
import tempfile
from functools import cache
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from places import ROOT
from traitlets.config import Config

FOLDER = ROOT / "notebooks"
NAMES = sorted(path.name for path in FOLDER.glob("*.ipynb"))
# Numbers that rest on trained weights or on many roundings differ between processors. Those of a cell with the tag
# ``tolerance-T`` may be off by T, and whole numbers, which are counts or percentages, by 100 T.
TOLERANCE = re.compile(r"tolerance-([0-9.]+)")
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:,\d{3})*(?:\.\d+)?(?:e[-+]?\d+)?")
MACHINE = re.compile(r"(/root|/home|/tmp|/Users|/work|/var|[A-Z]:\\)[/\\]?")
LARGEST_FILE, LARGEST_FIGURE, LONGEST_CELL, LONGEST_FUNCTION = 400_000, 64_000, 14, 3


def read(name: str) -> Any:
    return nbformat.read(FOLDER / name, as_version=4)  # type: ignore[no-untyped-call]


@cache
def committed(name: str) -> Any:
    return read(name)


@cache
def executed(name: str) -> Any:
    """The notebook with the outputs of a fresh kernel, started in its own folder or, every other one, in the root."""
    notebook = read(name)
    with tempfile.TemporaryDirectory() as scratch:
        sockets = {"transport": "ipc", "ip": f"{scratch}/kernel"}  # no ports, and no files in the working directory
        client = NotebookClient(
            notebook,
            timeout=300,
            kernel_name="python3",
            record_timing=False,
            resources={"metadata": {"path": str(FOLDER if NAMES.index(name) % 2 else ROOT)}},
            config=Config({"KernelManager": sockets} if os.name == "posix" else {}),
        )
        # Nobody's profile, and one thread: threads that wait for a busy core cost more than they give.
        client.execute(env={**os.environ, "OMP_NUM_THREADS": "1", "IPYTHONDIR": scratch})
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    notebook.metadata["language_info"] = {"name": "python"}
    return notebook


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(cell: Any) -> list[str]:
    """What a cell printed, in one piece, and what it returned, without figures."""
    # How many messages a kernel makes of what is printed depends on when it flushes.
    printed = "".join(output["text"] for output in cell.outputs if output.output_type == "stream")
    found = [printed] if printed else []
    for output in cell.outputs:
        data = output.get("data", {})
        kinds = () if "image/png" in data else ("text/plain", "text/markdown")  # a figure's text is its size
        found += [data[kind] for kind in kinds if kind in data]
    return found


def figures(cell: Any) -> list[bytes]:
    data = [output.get("data", {}) for output in cell.outputs]
    return [base64.b64decode(one["image/png"]) for one in data if "image/png" in one]


def statements(cell: Any) -> ast.Module:
    lines = [line for line in cell.source.splitlines() if not line.startswith("%")]
    return ast.parse("\n".join(lines))


def tolerance(cell: Any) -> float | None:
    found = [match[1] for tag in cell.metadata.get("tags", []) if (match := TOLERANCE.fullmatch(tag))]
    return float(found[0]) if found else None


def close(a: str, b: str, within: float) -> bool:
    whole = "." not in a + b
    x, y = (float(text.replace(",", "")) for text in (a, b))
    return abs(x - y) <= within * (100 if whole else 1) + 1e-9


def same(a: str, b: str, within: float) -> bool:
    """Whether texts differ in their numbers alone, spaces and rules aside, and in those by no more than allowed."""
    masked = [re.sub(r"[\s-]+", " ", NUMBER.sub("#", text)) for text in (a, b)]
    numbers = zip(NUMBER.findall(a), NUMBER.findall(b), strict=False)
    return masked[0] == masked[1] and all(close(x, y, within) for x, y in numbers)


def test_there_are_notebooks() -> None:
    assert len(NAMES) >= 4


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs_without_a_word_on_stderr(name: str) -> None:
    for cell in code_cells(executed(name)):  # an exception in a cell is one here
        said = [output["text"] for output in cell.outputs if output.get("name") == "stderr"]
        assert said == [], cell.id
        assert not any("Warning" in text for text in texts(cell)), cell.id


@pytest.mark.parametrize("name", NAMES)
def test_the_committed_outputs_are_those_of_a_fresh_run(name: str) -> None:
    for old, new in zip(code_cells(committed(name)), code_cells(executed(name)), strict=True):
        assert len(figures(old)) == len(figures(new)), old.id
        if (within := tolerance(old)) is None:
            assert texts(old) == texts(new), old.id
            continue
        pairs = zip(texts(old), texts(new), strict=True)
        different = [pair for pair in pairs if not same(*pair, within)]
        assert different == [], old.id


@pytest.mark.parametrize("name", NAMES)
def test_committed_outputs_are_complete_and_small(name: str) -> None:
    assert (FOLDER / name).stat().st_size <= LARGEST_FILE
    cells = code_cells(committed(name))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    drawn = [figure for cell in cells for figure in figures(cell)]
    assert drawn
    assert any(texts(cell) for cell in cells)
    assert max(map(len, drawn)) <= LARGEST_FIGURE


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_holds_nothing_of_the_machine_that_ran_it(name: str) -> None:
    notebook = committed(name)
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        assert set(cell.metadata) <= {"tags"}, cell.id
    for cell in code_cells(notebook):
        assert not any(MACHINE.search(text) for text in texts(cell)), cell.id


@pytest.mark.parametrize("name", NAMES)
def test_each_code_cell_is_short_and_follows_an_explanation(name: str) -> None:
    cells = committed(name).cells
    assert len({cell.id for cell in cells}) == len(cells)
    assert cells[0].cell_type == cells[-1].cell_type == "markdown"
    for cell in code_cells(committed(name)):
        lines = [line for line in cell.source.splitlines() if line.strip()]
        code = [line for line in lines if not line.startswith(("import ", "from ", "%"))]
        assert len(code) <= LONGEST_CELL, cell.id
        assert not cell.source.startswith("!"), cell.id


@pytest.mark.parametrize("name", NAMES)
def test_cells_import_and_draw_only(name: str) -> None:
    for cell in code_cells(committed(name)):
        for node in ast.walk(statements(cell)):
            assert not isinstance(node, ast.ClassDef), cell.id
            if isinstance(node, ast.FunctionDef):
                assert (node.end_lineno or node.lineno) - node.lineno < LONGEST_FUNCTION, cell.id


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_to_files(name: str) -> None:
    text = "\n".join(cell.source for cell in committed(name).cells if cell.cell_type == "markdown")
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    assert targets
    assert [target for target in targets if not (FOLDER / target).exists()] == []
    assert f"]({name})" in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("a", "b", "within", "expected"),
    [
        ("ACR 0.73 in [0.60, 0.80]", "ACR  0.74 in [0.60, 0.79]", 0.02, True),
        ("ACR 0.73", "ACR 0.76", 0.02, False),
        ("| 5 | 1,000 |\n| --- |", "| 6 | 1,000 |\n| ---- |", 0.02, True),
        ("1,000", "1,003", 0.02, False),
        ("holds up to 0.01", "fails up to 0.01", 0.02, False),
        ("1 2", "1 2 3", 0.5, False),
        ("-0.05", "0.05", 0.02, False),
    ],
)
def test_texts_are_compared_number_by_number(a: str, b: str, within: float, expected: bool) -> None:
    assert same(a, b, within) is expected


def main(names: list[str]) -> None:
    for name in names or NAMES:
        nbformat.write(executed(name), FOLDER / name)  # type: ignore[no-untyped-call]
        print(f"wrote {FOLDER.name}/{name}, {(FOLDER / name).stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
