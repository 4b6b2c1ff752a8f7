"""The images that are certified, all of them: do they represent the classes, and were they trained on?"""

# Shapes: N images of the split, I of them certified, K classes.

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from maxup_smoothing.certify.preflight.finding import WARNING, Finding

_UNUSUAL = 1e-6  # probability, at most, that a random choice is warned of


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Which images of a split are certified.

    Attributes:
        labels_N: Of the whole split, int64.
        indices_I: Of those that are certified, int64.
        classes: The K names.
        trained_I: Whether the model was trained on them; None if that is not known.
    """

    labels_N: NDArray[np.int64]
    indices_I: NDArray[np.int64]
    classes: tuple[str, ...]
    trained_I: NDArray[np.bool_] | None = None


def class_findings(sample: Sample) -> Iterator[Finding]:
    """Classes whose share among the certified images is not their share in the split."""
    labels_I, total = sample.labels_N[sample.indices_I], len(sample.labels_N)
    if sample.labels_N.min(initial=0) < 0:
        return  # images without labels
    sizes_K = np.bincount(sample.labels_N, minlength=len(sample.classes))
    found_K = np.bincount(labels_I, minlength=len(sample.classes))
    if np.count_nonzero(sizes_K) < 2 or len(labels_I) < 2:
        return
    fewer_K = stats.hypergeom.cdf(found_K, total, sizes_K, len(labels_I))
    more_K = stats.hypergeom.sf(found_K - 1, total, sizes_K, len(labels_I))
    unusual_K = np.minimum(fewer_K, more_K) < _UNUSUAL / 2 / len(sizes_K)
    if np.count_nonzero(found_K) == 1:
        seen = f"all {len(labels_I)} images are of class {_name(sample, int(found_K.argmax()))}, one of {len(sizes_K)}"
        meaning = "certificates hold, but nothing is said of the other classes, nor of the population of images"
    elif unusual_K.any():
        first = int(np.flatnonzero(unusual_K)[0])
        seen = (
            f"{found_K[first]} of {len(labels_I)} images are of class {_name(sample, first)}, of which the split has "
            f"{sizes_K[first]} of {total}"
        )
        meaning = "certificates hold, but classes have other shares than in the split, and averages are of those shares"
    else:
        return
    yield Finding(
        level=WARNING,
        check="classes",
        seen=seen,
        meaning=meaning,
        fix="certify all images, or every N-th with another N, which does not go with the order of the labels",
    )


def trained_findings(sample: Sample) -> Iterator[Finding]:
    """Images that the model was trained on, by their hashes."""
    if sample.trained_I is not None and sample.trained_I.any():
        yield Finding(
            level=WARNING,
            check="training",
            seen=f"the model was trained on {np.count_nonzero(sample.trained_I)} of these {len(sample.indices_I)} "
            f"images, the first of them idx {sample.indices_I[sample.trained_I.argmax()]}",
            meaning="certificates hold, but certified accuracy of training images says nothing about others",
            fix="certify images that it was not trained on",
        )


def _name(sample: Sample, number: int) -> str:
    name = sample.classes[number]
    return name if name == str(number) else f"{number} ({name})"
