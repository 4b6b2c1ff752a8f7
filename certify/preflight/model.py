"""Checks that f is one fixed function of one image, and the same function as the given model."""

# Shapes: I images, B rows of a batch, K classes; C channels, H height, W width.

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from maxup_smoothing.certify.models.adapters import ArrayFunction
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.models.contents import own_arithmetic
from maxup_smoothing.certify.preflight.finding import ERROR, FACT, WARNING, Finding
from maxup_smoothing.certify.preflight.independence import dependence
from maxup_smoothing.certify.preflight.subject import Subject
from maxup_smoothing.certify.statistics.binomial import upper_confidence_bound

_NOT_FIXED = "f is not one fixed function, so a certificate would be void"


def row_findings(subject: Subject, seconds: float) -> Iterator[Finding]:
    """Compare f's rows in batches like those of a run with the given model's answers for each row alone."""
    noise = subject.make_noise(subject.noise_seed)
    reason, rows = dependence(subject.classifier, subject.images_ICHW, noise, seconds)
    if reason:
        seen, _, fix = reason.partition(". ")
        yield Finding(level=ERROR, check="rows", seen=seen, meaning=fix)
    else:
        yield Finding(
            level=FACT, check="rows", seen=f"{rows} rows have the same logits in batches like those of a run and alone"
        )


class Watch:
    """Compares f's state and its logits for one batch before all other checks and after them.

    Args:
        subject: What is checked; its first noisy batch is the one that f classifies.
    """

    def __init__(self, subject: Subject) -> None:
        self._f, self._x_BCHW = subject.classifier, subject.noisy[0]
        self._mark = self._f.mark(subject.images_ICHW)
        self._first_BK = self._f.logits(self._x_BCHW)

    def findings(self) -> Iterator[Finding]:
        """Findings on what has changed since this object was made."""
        last_BK = self._f.logits(self._x_BCHW)
        if (change := self._f.change_since(self._mark)) is not None:
            yield Finding(
                level=ERROR,
                check="state",
                seen=f"the model changed during forward passes: {change}",
                meaning=_NOT_FIXED,
                fix="switch off what changes weights or buffers in evaluation mode: running statistics, moving "
                "averages, counters",
            )
        if self._f.randomized:
            yield Finding(level=FACT, check="repetition", seen="f draws random numbers, so no answer can be repeated")
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
            fix="switch off dropout, random layers, and any memory of earlier images",
        )
    return Finding(
        level=WARNING if flipped else FACT,
        check="repetition",
        seen=seen,
        meaning="certificates hold, since this is rounding that does not depend on the noise, but no run can be "
        "repeated vote by vote",
        fix="to repeat runs, call torch.use_deterministic_algorithms(True) in the model's factory",
    )


def _equal(one_BK: Tensor, other_BK: Tensor) -> bool:
    """Whether both are equal to the bit; NaN equals NaN."""
    return torch.equal(one_BK.nan_to_num(nan=1e30), other_BK.nan_to_num(nan=1e30))


#: Share of noisy images with different classes above which two networks are reported as different classifiers.
NOTABLE = 0.01
_CONFIDENCE = 0.95
_TRANSFER = "certify the classifier that you deploy; for a radius that holds for the other one, see `certify transfer`"


def arithmetic_findings(subject: Subject) -> Iterator[Finding]:
    """Report the share of noisy images that f, folded, compiled or cast, classifies unlike the given network."""
    f, model = subject.classifier, subject.model
    votes_I = subject.classes(subject.noisy)
    yield _finite(votes_I, f)
    if model is None or isinstance(model, ArrayFunction) or f.randomized:
        return
    cast = f.dtype_name != own_arithmetic(model)
    changed = ["folded"] * ("not folded" not in f.folding) + ["compiled"] * (f.compiled is None)
    changed += ["channels last"] * (f.layout is torch.channels_last) + [f"in {f.dtype_name}"] * cast
    if changed:
        given = BaseClassifier(model, f.num_classes, device=f.device, batch_size=f.batch_size)
        yield _compared(subject, votes_I, given, f"f ({', '.join(changed)}) and the network as it was given", cast)


def _finite(votes_I: torch.Tensor, f: BaseClassifier) -> Finding:
    invalid, total = int((votes_I == f.num_classes).sum()), len(votes_I)
    wider = {"float16": "use --dtype float32 or bfloat16, or ", "bfloat16": "use --dtype float32, or "}
    if not invalid:
        return Finding(
            level=FACT,
            check="finite logits",
            seen=f"all {total} noisy images have finite logits; at {_CONFIDENCE:.0%} confidence less than "
            f"{_share(0, total)} of such images do not",
        )
    return Finding(
        level=ERROR if invalid == total else WARNING,
        check="finite logits",
        seen=f"{invalid} of {total} noisy images have logits that are NaN or infinite",
        meaning="nothing can be certified" if invalid == total else "they vote for no class, which lowers radii",
        fix=f"{wider.get(f.dtype_name, '')}correct the model",
    )


def _compared(subject: Subject, votes_I: torch.Tensor, given: BaseClassifier, which: str, cast: bool) -> Finding:
    """Report how many classes differ. A difference beyond rounding is an error, unless the user asked for a cast."""
    differing, total = int((votes_I != subject.classes(subject.noisy, given.classify)).sum()), len(votes_I)
    beyond = 0 if cast or not differing else _beyond_rounding(subject, given)
    seen = (
        f"{which} differ in the class of {differing} of {total} noisy images; at {_CONFIDENCE:.0%} confidence on less "
        f"than {_share(differing, total)} of such images"
    )
    if beyond:
        return Finding(
            level=ERROR,
            check="arithmetic",
            seen=f"{seen}; {beyond} of them by more than rounding",
            meaning="f is not the network that was given",
            fix="please report this, with the network; meanwhile certify a function of arrays that calls it",
        )
    if differing <= NOTABLE * total or not cast:
        return Finding(level=FACT, check="arithmetic", seen=seen)
    return Finding(
        level=WARNING,
        check="arithmetic",
        seen=seen,
        meaning="they are two classifiers, and certificates hold for f alone",
        fix=_TRANSFER,
    )


def _beyond_rounding(subject: Subject, given: BaseClassifier) -> int:
    found = [
        given.differing(given.logits(x_BCHW.clone()), subject.classifier.logits(x_BCHW.clone()))
        for x_BCHW in subject.noisy
    ]
    return int(torch.cat(found)[: len(subject.images_ICHW)].sum())


def _share(k: int, n: int) -> str:
    """An exact one-sided upper bound on the share, rounded up, when k of n were seen."""
    bound = float(upper_confidence_bound(k, n, 1 - _CONFIDENCE))
    return f"{math.ceil(bound * 1e4) / 1e4:.2%}"
