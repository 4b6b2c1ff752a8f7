"""The tree is the dataflow: who imports whom, how long files are, and whose packages are imported."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("data", "train", "certify", "analysis")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
BESIDE = sorted(path for folder in ("tests", "benchmarks", "fuzz") for path in (ROOT / folder).glob("*.py"))
MAY_IMPORT = {
    "data": set[str](),
    "train": {"data"},
    "certify": {"data"},
    "analysis": {"data", "certify"},
}
EXCEPTIONS = {
    "analysis/theory/": {"train"},  # what it checks is train.maxup itself
    "certify/loader.py": {"train"},  # reads its checkpoints
    "certify/attack/": {"train"},  # its attacks on the smoothed classifier
    "train/__main__.py": {"certify"},  # a function that certifies held-out images; others' weights
}
WITHOUT_TORCH = (
    "binomial", "radius", "procedures", "manifest", "durable", "row", "table", "predictions", "summary",
    "population", "sequential", "anytime", "looks", "thresholds", "sampling",
    "audit", "findings", "claims", "inference", "recompute", "stored", "merge", "plan", "arguments",
    "pairs", "transferred", "appending", "parts", "shards", "sizing", "slices", "micro_batch", "torchrun",
    "attack/goals", "attack/report", "attack/rounding", "attack/table",
    "logs/arrays", "logs/columns", "logs/counts", "logs/curve", "logs/dsrs", "logs/formats", "logs/log", "logs/mat",
    "logs/numbers", "logs/reader", "logs/rows", "logs/settings", "logs/source", "logs/tabular", "logs/votes",
)  # fmt: skip


def imports(path: Path) -> Iterator[ast.alias | ast.ImportFrom]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node
        elif isinstance(node, ast.Import):
            yield from node.names


def imported(path: Path) -> set[str]:
    return {node.module or "" if isinstance(node, ast.ImportFrom) else node.name for node in imports(path)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_dataflow(path: Path) -> None:
    package = path.relative_to(ROOT).parts[0]
    siblings = {module.split(".")[0] for module in imported(path)} & (set(PACKAGES) - {package})
    name = path.relative_to(ROOT).as_posix()
    allowed = MAY_IMPORT[package].union(*(more for where, more in EXCEPTIONS.items() if name.startswith(where)))
    assert siblings <= allowed


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_and_their_imports_absolute_and_named(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500
    for node in imports(path):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert [alias.name for alias in node.names] != ["*"]
    functions = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
    # `python -m train` runs __main__.py, which no one imports by the name of its function.
    assert path.stem not in functions, "the module's name would become the function's"


@pytest.mark.parametrize("path", BESIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_beside_the_packages_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500


def test_statistics_tables_and_analysis_do_without_torch() -> None:
    files = [ROOT / "certify" / f"{name}.py" for name in WITHOUT_TORCH] + list((ROOT / "analysis").rglob("*.py"))
    reached, queue = set[Path](), list(files)
    while queue:
        path = queue.pop()
        # The theory lab needs torch; its command imports it when it is called.
        if path in reached or path.is_relative_to(ROOT / "analysis" / "theory"):
            continue
        reached.add(path)
        for module in imported(path):
            assert module.split(".")[0] != "torch", f"{path} imports torch"
            for candidate in (ROOT / Path(*module.split(".")).with_suffix(".py"), ROOT / Path(*module.split("."))):
                if candidate.suffix == ".py" and candidate.exists():
                    queue.append(candidate)


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_this_checkouts(package: str) -> None:
    assert Path(importlib.import_module(package).__file__ or "").parent == ROOT / package
