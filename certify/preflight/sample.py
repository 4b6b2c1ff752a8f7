"""Checks the choice of images: whether they represent the classes, and whether the model was trained on them."""

# Shapes: N images of the split, I of them certified, K classes.

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from maxup_smoothing.certify.preflight.finding import WARNING, Finding

_UNUSUAL = 1e-6  # largest probability that a random choice of images causes a warning


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Which images of a split are certified.

    Attributes:
        labels_N: Labels of the whole split, int64; negative for images without labels.
        indices_I: Indices of the images that are certified, int64.
        classes: Names of the K classes.
        trained_I: Whether the model was trained on each certified image; None if not known.
    """

    labels_N: NDArray[np.int64]
    indices_I: NDArray[np.int64]
    classes: tuple[str, ...]
    trained_I: NDArray[np.bool_] | None = None


def class_findings(sample: Sample) -> Iterator[Finding]:
    """Warn if a class's share among the certified images is not its share in the split."""
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
        meaning = "certificates hold, but they say nothing about the other classes, or about such images in general"
    elif unusual_K.any():
        first = int(np.flatnonzero(unusual_K)[0])
        seen = (
            f"{found_K[first]} of {len(labels_I)} images are of class {_name(sample, first)}, of which the split has "
            f"{sizes_K[first]} of {total}"
        )
        meaning = "certificates hold, but averages are not those of the split, since the shares of the classes differ"
    else:
        return
    yield Finding(
        level=WARNING,
        check="classes",
        seen=seen,
        meaning=meaning,
        fix="certify all images, or every N-th one with another N, so that the order of the labels does not matter",
    )


def trained_findings(sample: Sample) -> Iterator[Finding]:
    """Warn if the model was trained on some of the images; hashes of the images show that."""
    if sample.trained_I is not None and sample.trained_I.any():
        yield Finding(
            level=WARNING,
            check="training",
            seen=f"the model was trained on {np.count_nonzero(sample.trained_I)} of these {len(sample.indices_I)} "
            f"images, the first of them idx {sample.indices_I[sample.trained_I.argmax()]}",
            meaning="certificates hold, but certified accuracy of training images says nothing about others",
            fix="certify images that the model was not trained on",
        )


def _name(sample: Sample, number: int) -> str:
    name = sample.classes[number]
    return name if name == str(number) else f"{number} ({name})"
