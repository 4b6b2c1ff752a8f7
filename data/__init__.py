"""Examples enter here, as uint8 images with labels."""

from typing import TYPE_CHECKING

from maxup_smoothing.data.runtime.lazy import lazily

#: Where each public name is defined. What is not listed may change at any time.
_HOME = {
    "Dataset": "data.dataset",
    "load": "data.registry",
    "names": "data.registry",
}
__getattr__, __dir__ = lazily(__name__, _HOME)
__all__ = [
    "Dataset",
    "load",
    "names",
]

if TYPE_CHECKING:
    from maxup_smoothing.data.dataset import Dataset as Dataset
    from maxup_smoothing.data.registry import load as load
    from maxup_smoothing.data.registry import names as names
