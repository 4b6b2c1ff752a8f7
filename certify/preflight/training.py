"""What the checkpoint says of its training: the noise and the images, and whether it was finished."""

from collections.abc import Iterator

from maxup_smoothing.certify.preflight.finding import FACT, WARNING, Finding
from maxup_smoothing.certify.preflight.sample import trained_findings
from maxup_smoothing.certify.preflight.subject import Subject


def training_findings(subject: Subject) -> Iterator[Finding]:
    """What does not fit between training and this certification."""
    about, data = subject.about, subject.data
    trained = about.get("sigma")
    if trained is not None and trained != subject.sigma:
        yield Finding(
            level=WARNING,
            check="training",
            seen=f"the model was trained with noise of sigma {trained:g}, and is certified at {subject.sigma:g}",
            meaning="certificates hold, but radii are smaller than those of a model trained at that sigma",
            fix="leave --sigma out, unless that is what you want to see",
        )
    epoch, epochs = about.get("epoch"), about.get("epochs")
    if isinstance(epoch, int) and isinstance(epochs, int) and epoch < epochs and not about.get("best"):
        yield Finding(
            level=WARNING,
            check="training",
            seen=f"the model is that of epoch {epoch} of {epochs}",
            meaning="its training was not finished, and the checkpoint may still be replaced",
            fix="finish it with `python -m train … --resume`, and certify then",
        )
    known = subject.sample is not None and subject.sample.trained_I is not None
    if known and subject.sample is not None:
        yield from trained_findings(subject.sample)
    elif data.get("split") == "train" or _same_file(subject):
        yield Finding(
            level=WARNING,
            check="training",
            seen=f"these are images the model may have been trained on: {data.get('name')}, {data.get('split')}",
            meaning="certificates hold, but certified accuracy of training images says nothing about others",
            fix="certify the test split, or images that were held out",
        )
    kind = about.get("kind")
    if kind == "weights":
        mean, std = about.get("normalize", ((0.0,), (1.0,)))
        seen = "none" if (list(mean), list(std)) == ([0.0], [1.0]) else f"mean {list(mean)}, deviation {list(std)}"
        yield Finding(
            level=FACT,
            check="normalisation",
            seen=f"in front of these weights: {seen} ({about.get('normalize_from', '--normalize')})",
        )


def _same_file(subject: Subject) -> bool:
    """Whether training read the same file, one without splits."""
    data = subject.data
    return data.get("split") in ("file", "folder") and data.get("name") == data.get("trained_on") is not None
