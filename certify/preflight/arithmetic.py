"""f as it will run against the network that was given: folded or compiled or not, in its dtype or float32."""

# Shapes: I images, B rows of a batch, K classes.

import math
from collections.abc import Iterator

import torch

from certify.binomial import upper_confidence_bound
from certify.classifier import BaseClassifier
from certify.foreign import ArrayFunction
from certify.preflight.finding import ERROR, FACT, WARNING, Finding
from certify.preflight.subject import Subject

#: Share of noisy images with another class from which on the two are to be called different classifiers.
NOTABLE = 0.01
_CONFIDENCE = 0.95
_TRANSFER = "certify what you deploy; for the radius that holds for the other one see `certify transfer`"


def arithmetic_findings(subject: Subject) -> Iterator[Finding]:
    """Shares of noisy images that other forms of the same network classify otherwise."""
    f, model = subject.classifier, subject.model
    votes_I = subject.classes(subject.noisy)
    yield _finite(votes_I, f)
    if model is None or isinstance(model, ArrayFunction):
        return
    changed = ["folded"] * ("not folded" not in f.folding) + ["compiled"] * (f.compiled is None)
    if changed:
        other = _form(model, f, f.dtype_name)
        yield _compared(subject, votes_I, other, f"f, {' and '.join(changed)}, and the network as it was given")
    if f.dtype_name != "float32":
        yield _compared(subject, votes_I, _form(model, f, "float32"), f"f in {f.dtype_name} and in float32")


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


def _form(model: torch.nn.Module, f: BaseClassifier, dtype: str) -> BaseClassifier:
    """The network, neither folded nor compiled."""
    return BaseClassifier(model, f.num_classes, device=f.device, dtype=dtype, batch_size=f.batch_size)


def _compared(subject: Subject, votes_I: torch.Tensor, other: BaseClassifier, which: str) -> Finding:
    differing, total = int((votes_I != subject.classes(subject.noisy, other.classify)).sum()), len(votes_I)
    seen = (
        f"{which} differ in the class of {differing} of {total} noisy images: less than {_share(differing, total)} at "
        f"{_CONFIDENCE:.0%} confidence"
    )
    if differing <= NOTABLE * total:
        return Finding(level=FACT, check="arithmetic", seen=seen)
    return Finding(
        level=WARNING,
        check="arithmetic",
        seen=seen,
        meaning="they are two classifiers, and certificates hold for f alone",
        fix=_TRANSFER,
    )


def _share(k: int, n: int) -> str:
    """A one-sided exact upper bound, rounded up."""
    bound = float(upper_confidence_bound(k, n, 1 - _CONFIDENCE))
    return f"{math.ceil(bound * 1e4) / 1e4:.2%}"
