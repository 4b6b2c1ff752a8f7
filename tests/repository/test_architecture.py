"""The tree is the dataflow: who imports whom, how long files are, and whose packages are imported."""

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import ROOT

PACKAGES = ("data", "train", "certify", "analysis")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
BESIDE = sorted(path for folder in ("tests", "benchmarks", "fuzz") for path in (ROOT / folder).rglob("*.py"))
#: Which rooms a room may import besides itself and `data`; nothing else decides. A room is a folder, or a file at the
#: top of a package.
_BELOW_RUNS = {
    "certify/statistics", "certify/noise", "certify/models", "certify/tables", "certify/preflight", "certify/engine",
    "certify/distributed",
}  # fmt: skip
_TOOLS = {*_BELOW_RUNS, "certify/runs"}
_WITHOUT_TORCH = {"certify/statistics", "certify/tables", "certify/logs"}
LAW: dict[str, set[str]] = {
    "certify/statistics": set(),
    "certify/noise": set(),
    "certify/models": {"train"},  # `loading` reads its checkpoints
    "certify/tables": {"certify/statistics"},
    "certify/logs": {"certify/statistics", "certify/tables"},
    "certify/preflight": {"certify/statistics", "certify/noise", "certify/models"},
    "certify/engine": {"certify/statistics", "certify/noise", "certify/models", "certify/tables"},
    "certify/distributed": {"certify/tables"},
    "certify/smoothing.py": {
        "certify/statistics", "certify/noise", "certify/models", "certify/preflight", "certify/engine",
    },
    "certify/validation.py": {"certify/statistics", "certify/smoothing.py"},
    "certify/serving": {
        "certify/statistics", "certify/noise", "certify/models", "certify/engine", "certify/smoothing.py",
    },
    "certify/runs": _BELOW_RUNS,
    "certify/planning": {"certify/statistics", "certify/tables"},
    "certify/audit": {*_TOOLS, "certify/logs"},
    "certify/attack": {*_TOOLS, "train"},  # its attacks on the smoothed classifier
    "certify/transfer": _TOOLS,
    "certify/commands": {
        *_TOOLS, "certify/logs", "certify/planning", "certify/audit", "certify/attack", "certify/transfer",
        "certify/serving",
    },
    "certify/__main__.py": {"certify/commands"},
    "analysis/literature": _WITHOUT_TORCH,
    "analysis/curves.py": _WITHOUT_TORCH,
    "analysis/runs": _WITHOUT_TORCH,
    "analysis/comparison": {*_WITHOUT_TORCH, "analysis/runs"},
    "analysis/tables.py": {*_WITHOUT_TORCH, "analysis/runs"},
    "analysis/figures": {
        *_WITHOUT_TORCH, "certify/attack", "analysis/curves.py", "analysis/literature", "analysis/runs",
        "analysis/comparison",
    },
    "analysis/report": {*_WITHOUT_TORCH, "certify/audit", "analysis/runs", "analysis/comparison", "analysis/figures"},
    "analysis/results": {
        *_WITHOUT_TORCH, "analysis/runs", "analysis/comparison", "analysis/literature", "analysis/figures",
    },
    "analysis/theory": {"analysis/figures", "certify/models", "train"},
    "analysis/commands": {
        *_WITHOUT_TORCH, "certify/attack", "analysis/runs", "analysis/comparison", "analysis/literature",
        "analysis/figures", "analysis/tables.py", "analysis/report", "analysis/results", "analysis/theory",
    },
    "analysis/__main__.py": {"analysis/commands"},
    # A function that certifies held-out images, and the readers of others' weights.
    "train/run.py": {"train", "certify/models", "certify/validation.py"},
    "train/__main__.py": {"train", "train/run.py"},
}  # fmt: skip
#: Rooms and modules that do without torch, so that commands that need none of it start at once.
WITHOUT_TORCH = (
    "certify/statistics", "certify/tables", "certify/logs", "certify/planning/cost.py", "certify/audit/auditing.py",
    "certify/audit/radii.py", "certify/distributed/torchrun.py", "certify/distributed/shards.py",
    "certify/distributed/rank_tables.py", "certify/distributed/merge.py", "certify/transfer/table.py",
    "certify/attack/threat_model.py", "certify/attack/report.py", "certify/attack/projection.py",
    "certify/attack/table.py", "certify/commands/arguments.py", "analysis",
)  # fmt: skip


def room(path: Path) -> str:
    """The folder below a package, or the file at its top."""
    parts = path.relative_to(ROOT).parts
    above = ("__main__.py", "run.py")  # of train: the other files are one room
    return "/".join(parts[:2]) if parts[0] != "train" or parts[1] in above else "train"


def file_of(module: str) -> Path | None:
    """The file of one of our modules, or of the module that holds a name."""
    for dotted in (module, module.rpartition(".")[0]):
        place = ROOT / Path(*dotted.split("."))
        for path in (place.with_suffix(".py"), place / "__init__.py"):
            if path.exists():
                return path
    return None


def imports(path: Path) -> Iterator[ast.alias | ast.ImportFrom]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node
        elif isinstance(node, ast.Import):
            yield from node.names


def imported(path: Path) -> set[str]:
    """Dotted names of the modules, and of names in them, that a file imports."""
    found = set[str]()
    for node in imports(path):
        if isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        else:
            found.add(node.name)
    return {name.removeprefix("maxup_smoothing.") for name in found}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_rooms_import_only_the_rooms_below_them(path: Path) -> None:
    own = room(path)
    if path.name == "__init__.py" and path.parent.parent == ROOT:
        return  # the door: public names, of which each is loaded when it is asked for
    for module in imported(path):
        file = file_of(module) if module.split(".")[0] in PACKAGES else None
        if file is not None and (other := room(file)) != own and not other.startswith("data/"):
            package = other.split("/")[0]
            named = other if f"{package}/__init__.py" != other else package
            allowed = LAW.get(own, set())
            assert named in allowed or (named.startswith("train") and "train" in allowed), f"{own} imports {named}"


def test_the_law_of_rooms_has_no_circle() -> None:
    floors: dict[str, int] = {}

    def floor(name: str, above: tuple[str, ...] = ()) -> int:
        assert name not in above, f"{' imports '.join((*above, name))}"
        if name not in floors:
            below = LAW.get(name, set()) - {"train"}
            floors[name] = 1 + max((floor(other, (*above, name)) for other in below), default=0)
        return floors[name]

    for name in LAW:
        floor(name)
    assert max(level for name, level in floors.items() if name.startswith("certify")) <= 8
    # Its own floors stand on those of certify.
    own = {name: level for name, level in floors.items() if name.startswith("analysis")}
    assert len({level for level in own.values()}) <= 7


@pytest.mark.parametrize("package", ["certify", "analysis"])
def test_at_the_top_of_a_package_there_are_few_modules_and_each_room_says_what_it_is_for(package: str) -> None:
    assert len([path for path in (ROOT / package).glob("*.py") if path.stem != "__init__"]) <= 4
    for folder in (path for path in (ROOT / package).iterdir() if path.is_dir() and path.name != "__pycache__"):
        assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), f"{folder} says nothing"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short_and_their_imports_absolute_and_named(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500
    for node in imports(path):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert [alias.name for alias in node.names] != ["*"]


@pytest.mark.parametrize("path", BESIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_beside_the_packages_are_short(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500


def test_statistics_tables_and_analysis_do_without_torch() -> None:
    files = [path for name in WITHOUT_TORCH for path in ([ROOT / name] if "." in name else (ROOT / name).rglob("*.py"))]
    reached, queue = set[Path](), files
    while queue:
        path = queue.pop()
        # The theory lab needs torch; its command imports it when it is called.
        if path in reached or path.is_relative_to(ROOT / "analysis" / "theory"):
            continue
        reached.add(path)
        for module in imported(path):
            assert module.split(".")[0] != "torch", f"{path} imports torch"
            if module.split(".")[0] in PACKAGES and (file := file_of(module)) is not None:
                queue.append(file)


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_this_checkouts(package: str) -> None:
    file = Path(importlib.import_module(f"maxup_smoothing.{package}").__file__ or "")
    assert file.resolve().parent == ROOT / package


@pytest.mark.parametrize("path", [*FILES, *BESIDE], ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_name_the_installed_package(path: Path) -> None:
    for node in imports(path):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [node.name]
        assert all(name.split(".")[0] not in PACKAGES for name in names)


@pytest.mark.parametrize("package", ["", ".certify", ".certify.statistics", ".train", ".data", ".analysis"])
def test_public_names_are_there_and_none_is_a_module_of_its_package(package: str) -> None:
    module = importlib.import_module(f"maxup_smoothing{package}")
    folder = Path(module.__file__ or "").parent
    assert set(module.__all__) <= set(dir(module))
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert not (folder / name).exists()
        assert not (folder / f"{name}.py").exists()
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        module.nothing  # noqa: B018
