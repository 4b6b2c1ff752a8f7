"""Public names of a package whose modules are loaded when a name is first asked for."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazily(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """A package's ``__getattr__`` and ``__dir__``, so that importing it loads nothing that is not used.

    Args:
        package: Its full name.
        homes: By public name the module that defines it, below ``maxup_smoothing``; ``module:name`` where the name
            differs there.
    """

    def getattr_(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, _, attribute = homes[name].partition(":")
        return getattr(importlib.import_module(f"maxup_smoothing.{module}"), attribute or name)

    return getattr_, lambda: sorted({*vars(importlib.import_module(package)), *homes})
