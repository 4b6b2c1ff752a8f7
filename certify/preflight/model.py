"""Whether f is one fixed function of one image: no row depends on another, no call on the calls before."""

# Shapes: B rows of a batch, K classes; C channels, H height, W width.

from collections.abc import Iterator

import torch
from torch import Tensor

from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.preflight.finding import ERROR, FACT, WARNING, Finding
from maxup_smoothing.certify.preflight.independence import dependence
from maxup_smoothing.certify.preflight.subject import Subject

_NOT_FIXED = "what is certified is not one function, and a certificate would be void"


def row_findings(subject: Subject, seconds: float) -> Iterator[Finding]:
    """f's rows in batches as runs have them against the model as it came, shown each row alone."""
    noise = subject.make_noise(subject.noise_seed)
    reason, rows = dependence(subject.classifier, subject.images_ICHW, noise, seconds)
    if reason:
        seen, _, fix = reason.partition(". ")
        yield Finding(level=ERROR, check="rows", seen=seen, meaning=fix)
    else:
        yield Finding(level=FACT, check="rows", seen=f"{rows} rows, in batches as of runs and alone: same logits")


class Watch:
    """f's state and one of its answers, before all other checks and after them.

    Args:
        subject: The subject; its first batch is shown to f.
    """

    def __init__(self, subject: Subject) -> None:
        self._f, self._x_BCHW = subject.classifier, subject.noisy[0]
        self._mark = self._f.mark(subject.images_ICHW)
        self._first_BK = self._f.logits(self._x_BCHW)

    def findings(self) -> Iterator[Finding]:
        """What has changed since."""
        last_BK = self._f.logits(self._x_BCHW)
        if (change := self._f.change_since(self._mark)) is not None:
            yield Finding(
                level=ERROR,
                check="state",
                seen=f"the model changed during forward passes: {change}",
                meaning=_NOT_FIXED,
                fix="switch off what updates them in evaluation mode: running statistics, moving averages, counters",
            )
        if self._f.randomized:
            yield Finding(level=FACT, check="repetition", seen="f draws random numbers; nothing can be repeated")
            return
        yield _repeated(self._f, self._first_BK, last_BK)


def _repeated(f: BaseClassifier, first_BK: Tensor, last_BK: Tensor) -> Finding:
    if _equal(first_BK, last_BK):
        return Finding(level=FACT, check="repetition", seen="the same batch gives the same logits, to the bit")
    most = float(torch.nan_to_num((first_BK.float() - last_BK.float()).abs()).max())
    flipped = int((first_BK.argmax(dim=1) != last_BK.argmax(dim=1)).sum())
    seen = f"the same batch gives logits that differ by up to {most:.2g}, and {flipped} of {len(first_BK)} classes"
    if not f.same_logits(first_BK, last_BK):
        return Finding(
            level=ERROR,
            check="repetition",
            seen=seen,
            meaning=_NOT_FIXED,
            fix="switch off dropout, random layers, and whatever remembers earlier images",
        )
    return Finding(
        level=WARNING if flipped else FACT,
        check="repetition",
        seen=seen,
        meaning="certificates hold, since that is rounding independent of the noise, but no run can be repeated "
        "vote by vote",
        fix="for that, call torch.use_deterministic_algorithms(True) in the model's factory",
    )


def _equal(one_BK: Tensor, other_BK: Tensor) -> bool:
    """To the bit, nan included."""
    return torch.equal(one_BK.nan_to_num(nan=1e30), other_BK.nan_to_num(nan=1e30))
