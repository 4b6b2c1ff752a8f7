"""Named evaluation protocols: which images of a split are certified, as a recorded index set."""

import difflib
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ALIASES = {"cohen-cifar10": "skip20", "cohen-imagenet": "skip100"}
_FORMS = "full, skipN (every N-th image), firstN, macer-500-999, cohen-cifar10 (skip20), cohen-imagenet (skip100)"
_EXAMPLES = ("full", "skip20", "skip100", "first500", "macer-500-999", *_ALIASES)  # what a typo is compared with


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Every ``step``-th image from ``start`` up to but excluding ``stop``.

    Attributes:
        name: The name it goes by in tables and manifests.
        start: First index, 0 or more.
        stop: End of the range, more than ``start``; None for the end of the split.
        step: 1 or more.
    """

    name: str
    start: int = 0
    stop: int | None = None
    step: int = 1

    def indices(self, num_images: int) -> NDArray[np.int64]:
        """The selected indices, ascending.

        Args:
            num_images: Images in the split.

        Returns:
            int64, shape (n,) with n >= 1, values in [0, num_images).

        Raises:
            ValueError: If ``num_images`` is smaller than ``stop``, or nothing is selected.
        """
        return np.arange(self.start, self._stop(num_images), self.step, dtype=np.int64)

    def slice(self, num_images: int) -> str:
        """The same selection as ``start:stop:step``, for example ``0:10000:20``, for the manifest.

        Args:
            num_images: Images in the split.

        Returns:
            The three numbers, with the end of the split spelled out.

        Raises:
            ValueError: As ``indices``.
        """
        return f"{self.start}:{self._stop(num_images)}:{self.step}"

    def _stop(self, num_images: int) -> int:
        stop = num_images if self.stop is None else self.stop
        # A shorter selection under the same name would pass for the whole one in a table.
        if stop > num_images:
            raise ValueError(
                f"{self.name} needs {stop} images, the split has {num_images}; "
                "choose another protocol, such as full, or another split."
            )
        if stop <= self.start:
            raise ValueError(
                f"{self.name} selects nothing: it starts at {self.start}, the split has {num_images} images."
            )
        return stop


def spread(total: int, count: int) -> NDArray[np.int64]:
    """Indices of ``count`` of ``total`` images, evenly spread, so that of images in class order each class is there.

    Returns:
        int64, (count,), ascending, each once.
    """
    return np.arange(count, dtype=np.int64) * total // count


def representative(labels: NDArray[np.int64], count: int, *, leave: bool = False) -> NDArray[np.int64]:
    """Indices of ``count`` images in which each class has about its share.

    They are the evenly spread ones if a random choice would have such classes, too, as in any usual order. Where labels
    come in cycles those may all be of one class; then the images are chosen class by class, evenly spread within each.

    Args:
        labels: Of all images, at least 0, shape (N,).
        count: In [0, N].
        leave: Choose no class whole if ``count`` allows that, so that the other images have all classes, too.

    Returns:
        int64, (count,), ascending, each once.
    """
    even = spread(len(labels), count)
    sizes = np.bincount(labels)
    whole = (np.bincount(labels[even], minlength=len(sizes)) == sizes)[sizes > 0].any()
    if _usual(labels, labels[even]) and not (leave and whole):
        return even
    return _by_class(labels, count, leave)


def _usual(labels: NDArray[np.int64], chosen: NDArray[np.int64]) -> bool:
    """Whether classes have about the shares that they have in a random choice."""
    sizes = np.bincount(labels)
    found, share = np.bincount(chosen, minlength=len(sizes)), sizes / len(labels)
    met, there = int(np.count_nonzero(found)), int(np.count_nonzero(sizes))
    missed = (1 - share) ** len(chosen)  # the probability that a random choice has none of a class
    deviation = np.sqrt((missed * (1 - missed)).sum())
    return bool(
        met >= min(2, there, len(chosen))
        and met >= (1 - missed).sum() - 3.5 * deviation
        and (abs(found - share * len(chosen)) <= 1 + 5 * np.sqrt(share * len(chosen))).all()
    )


def _by_class(labels: NDArray[np.int64], count: int, leave: bool) -> NDArray[np.int64]:
    sizes = np.bincount(labels)
    share = sizes * count / len(labels)
    most = np.maximum(sizes - 1, 0)
    if not leave or most.sum() < count:
        most = sizes
    number = np.minimum(share.astype(np.int64), most)
    while number.sum() < count:
        number[np.where(number < most, share - number, -np.inf).argmax()] += 1
    members = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    return np.sort(np.concatenate([own[spread(len(own), n)] for own, n in zip(members, number, strict=True)]))


def protocol(name: str) -> Protocol:
    """The protocol of that name.

    Args:
        name: ``full``; ``skipN``, every N-th image from index 0; ``firstN``; ``macer-500-999``, the images of Zhai
            et al.; or an alias: ``cohen-cifar10`` is skip20 and ``cohen-imagenet`` is skip100.

    Returns:
        The protocol; an alias gives the very protocol it stands for, name included.

    Raises:
        ValueError: If the name is none of these; the message names the nearest and all forms.

    References:
        Cohen et al. (2019), section 4; Zhai et al. (2020), section 5.
    """
    name = _ALIASES.get(name, name)
    if name == "full":
        return Protocol(name=name)
    if name == "macer-500-999":
        return Protocol(name=name, start=500, stop=1000)
    if match := re.fullmatch(r"(skip|first)([1-9][0-9]{0,8})", name):
        number = int(match[2])
        return Protocol(name=name, step=number) if match[1] == "skip" else Protocol(name=name, stop=number)
    nearest = difflib.get_close_matches(name, _EXAMPLES, n=1, cutoff=0.5)
    hint = f"did you mean {nearest[0]}? " if nearest else ""
    raise ValueError(
        f"unknown protocol {name!r}; {hint}Valid: {_FORMS}, with N a whole number from 1, no leading zeros."
    )
