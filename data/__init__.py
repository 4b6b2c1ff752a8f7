"""Examples enter here, as uint8 images with labels."""

import importlib
from typing import TYPE_CHECKING, Any

#: Where each public name is defined. What is not listed may change at any time.
_HOME = {
    "Dataset": "data.dataset",
    "load": "data.registry",
    "names": "data.registry",
}
__all__ = [
    "Dataset",
    "load",
    "names",
]

if TYPE_CHECKING:
    from maxup_smoothing.data.dataset import Dataset as Dataset
    from maxup_smoothing.data.registry import load as load
    from maxup_smoothing.data.registry import names as names


def __getattr__(name: str) -> Any:
    """A public name, whose module is loaded when it is first asked for."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = _HOME[name].partition(":")
    return getattr(importlib.import_module(f"maxup_smoothing.{module}"), attribute or name)
