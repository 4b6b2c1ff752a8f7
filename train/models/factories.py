"""Calls a factory: a user's function that returns a model, found in a module by the module's name or file."""

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from maxup_smoothing.data.runtime.user_code import undisturbed, user_code


def made(name: str, *arguments: Any, **options: Any) -> tuple[Any, list[str]]:
    """Call a factory.

    Args:
        name: ``package.module:factory`` from the working directory, or ``path/to/file.py:factory``.
        arguments: With which it is called.
        options: Likewise, by their names.

    Returns:
        What the factory returns, and one line for each change that it made to the process; the changes are undone.

    Raises:
        ValueError: If there is no such module or factory, or it fails; the message says where.
        FileNotFoundError: If there is no such file.
    """
    where, _, attribute = name.rpartition(":")
    if "/" in where and not where.endswith(".py"):
        where += ".py"
    with undisturbed(where) as notes:
        module = _module_of_file(Path(where)) if where.endswith(".py") else _module(where)
    factory = _factory(module, where, attribute)
    how = "called without arguments"
    if arguments or options:
        shown = [*map(str, arguments), *(f"{key}={value!r}" for key, value in options.items())]
        how = f"called with {', '.join(shown)}"
    with undisturbed(f"{name}()") as more, user_code(f"{name}(), {how}, failed", fewer=False):
        found = factory(*arguments, **options)
    return found, notes + more


def source_file(name: str) -> Path | None:
    """The file in which the module of a factory is defined, if it has one and is imported."""
    where = name.rpartition(":")[0]
    if where.endswith(".py") or "/" in where:
        return Path(where if where.endswith(".py") else f"{where}.py")
    file = getattr(sys.modules.get(where), "__file__", None)
    return Path(file) if file else None


def is_name(name: str) -> bool:
    """Whether the name has the form MODULE:FACTORY."""
    return all(name.rpartition(":")[::2])


def _factory(module: ModuleType, where: str, attribute: str) -> Callable[..., Any]:
    found = getattr(module, attribute, None)
    if callable(found):
        return found
    names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
    near = difflib.get_close_matches(attribute, names, n=1, cutoff=0.7)
    hint = f"did you mean {near[0]!r}?" if near else "give package.module:factory."
    raise ValueError(f"{where} has no callable {attribute!r}; {hint}")


def _module(name: str) -> ModuleType:
    _also_from(Path.cwd())
    try:
        with user_code(f"importing {name!r} failed", fewer=False):
            return importlib.import_module(name)
    except ValueError as error:
        missing = error.__cause__.name if isinstance(error.__cause__, ModuleNotFoundError) else None
        if missing is None or not f"{name}.".startswith(f"{missing}."):
            raise
        raise ValueError(
            f"cannot import {name!r} ({error.__cause__}); run from the folder that holds it, or give "
            "path/to/file.py:factory."
        ) from error


def _module_of_file(path: Path) -> ModuleType:
    """Import a module by its file. A file in a package is imported under its full name, so relative imports work."""
    if not path.is_file():
        raise FileNotFoundError(f"no file at {path}.")
    path = path.resolve()
    name, folder = path.stem, path.parent
    while (folder / "__init__.py").is_file():
        name, folder = f"{folder.name}.{name}", folder.parent
    _also_from(folder)
    with user_code(f"importing {path.name!r} failed", fewer=False):
        loaded = sys.modules.get(name)
        if "." in name and loaded is None:
            loaded = importlib.import_module(name)
        if loaded is not None and getattr(loaded, "__file__", None) == str(path):
            return loaded
        spec = importlib.util.spec_from_file_location(name if name not in sys.modules else f"user_{name}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[spec.name]
            raise
        return module


def _also_from(folder: Path) -> None:
    """Add the folder to the end of ``sys.path``: a user's train.py or data/ must not shadow this package's modules."""
    if str(folder) not in sys.path and not (folder == Path.cwd() and "" in sys.path):
        sys.path.append(str(folder))
