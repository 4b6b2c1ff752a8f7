"""f as it will run against the network that was given: folded or compiled or not, in its dtype or float32."""

# Shapes: I images, B rows of a batch, K classes.

import math
from collections.abc import Iterator

import torch

from maxup_smoothing.certify.models.adapters import ArrayFunction
from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.models.contents import own_arithmetic
from maxup_smoothing.certify.preflight.finding import ERROR, FACT, WARNING, Finding
from maxup_smoothing.certify.preflight.subject import Subject
from maxup_smoothing.certify.statistics.binomial import upper_confidence_bound

#: Share of noisy images with another class from which on the two are to be called different classifiers.
NOTABLE = 0.01
_CONFIDENCE = 0.95
_TRANSFER = "certify what you deploy; for the radius that holds for the other one see `certify transfer`"


def arithmetic_findings(subject: Subject) -> Iterator[Finding]:
    """Shares of noisy images that other forms of the same network classify otherwise."""
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
        yield _compared(subject, votes_I, given, f"f, {', '.join(changed)}, and the network as it was given", cast)


def _finite(votes_I: torch.Tensor, f: BaseClassifier) -> Finding:
    invalid, total = int((votes_I == f.num_classes).sum()), len(votes_I)
    wider = {"float16": "use --dtype float32 or bfloat16, or ", "bfloat16": "use --dtype float32, or "}
    if not invalid:
        return Finding(
            level=FACT,
            check="finite logits",
            seen=f"all of {total} noisy images have finite logits: fewer than {_share(0, total)} have not, at "
            f"{_CONFIDENCE:.0%} confidence",
        )
    return Finding(
        level=ERROR if invalid == total else WARNING,
        check="finite logits",
        seen=f"{invalid} of {total} noisy images have logits that are NaN or infinite",
        meaning="nothing can be certified" if invalid == total else "they vote for no class, which lowers radii",
        fix=f"{wider.get(f.dtype_name, '')}mend the model",
    )


def _compared(subject: Subject, votes_I: torch.Tensor, given: BaseClassifier, which: str, cast: bool) -> Finding:
    """Classes that differ; beyond rounding that is an error, unless another arithmetic was asked for."""
    differing, total = int((votes_I != subject.classes(subject.noisy, given.classify)).sum()), len(votes_I)
    beyond = 0 if cast or not differing else _beyond_rounding(subject, given)
    seen = (
        f"{which} differ in the class of {differing} of {total} noisy images: less than {_share(differing, total)} at "
        f"{_CONFIDENCE:.0%} confidence"
    )
    if beyond:
        return Finding(
            level=ERROR,
            check="arithmetic",
            seen=f"{seen}; {beyond} of them by more than rounding",
            meaning="f is not the network that was given",
            fix="please report this, with the network; until then certify a function of arrays that calls it",
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
    """A one-sided exact upper bound, rounded up."""
    bound = float(upper_confidence_bound(k, n, 1 - _CONFIDENCE))
    return f"{math.ceil(bound * 1e4) / 1e4:.2%}"
