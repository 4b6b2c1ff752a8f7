"""Checks the settings: radii that n samples cannot reach, and a model trained with other noise or on these images."""

from collections.abc import Iterator, Sequence

from maxup_smoothing.certify.preflight.finding import FACT, WARNING, Finding
from maxup_smoothing.certify.preflight.sample import trained_findings
from maxup_smoothing.certify.preflight.subject import Subject
from maxup_smoothing.certify.statistics.procedure import Sampling
from maxup_smoothing.certify.statistics.rounding import floor_text
from maxup_smoothing.certify.statistics.sample_size import unanimous_n

_LARGE_ALPHA = 0.01


def settings_findings(sampling: Sampling, radii: Sequence[float] | None) -> Iterator[Finding]:
    """Compare the largest radius in reach with the radii asked for, and warn of an unusually large alpha."""
    ceiling = floor_text(sampling.ceiling, 4)
    reach = f"n = {sampling.most}, alpha {sampling.alpha:g} and sigma {sampling.sigma:g} certify radii up to {ceiling}"
    above = sorted({radius for radius in radii or () if radius > sampling.ceiling})
    if above:
        needed = unanimous_n(above[-1], sampling)
        yield Finding(
            level=WARNING,
            check="radii",
            seen=f"{reach}, less than {', '.join(f'{radius:g}' for radius in above)}",
            meaning="there the certified accuracy is 0 for every f, so it says nothing about this one",
            fix=f"pass --n {needed} or more" if needed else "no n up to 1e9 reaches that radius: leave it out",
        )
    else:
        yield Finding(level=FACT, check="radii", seen=reach)
    if sampling.alpha > _LARGE_ALPHA:
        yield Finding(
            level=WARNING,
            check="alpha",
            seen=f"alpha is {sampling.alpha:g}",
            meaning=f"{sampling.alpha * 100:.3g} of 100 certificates may be false; published tables use alpha 0.001",
            fix="pass --alpha 0.001, unless you want the larger alpha",
        )


def training_findings(subject: Subject) -> Iterator[Finding]:
    """Report what differs between training and this certification, and images that were trained on."""
    about, data = subject.about, subject.data
    trained = about.get("sigma")
    if trained is not None and trained != subject.sigma:
        yield Finding(
            level=WARNING,
            check="training",
            seen=f"the model was trained with noise of sigma {trained:g}, and is certified at {subject.sigma:g}",
            meaning="certificates hold, but radii are usually smaller than those of a model trained at that sigma",
            fix="leave --sigma out, unless you want this comparison",
        )
    epoch, epochs = about.get("epoch"), about.get("epochs")
    if isinstance(epoch, int) and isinstance(epochs, int) and epoch < epochs and not about.get("best"):
        yield Finding(
            level=WARNING,
            check="training",
            seen=f"the model is that of epoch {epoch} of {epochs}",
            meaning="its training was not finished, and the checkpoint may still be replaced",
            fix="finish the training with `python -m train … --resume`, and certify then",
        )
    known = subject.sample is not None and subject.sample.trained_I is not None
    if known and subject.sample is not None:
        yield from trained_findings(subject.sample)
    elif data.get("split") == "train" or _same_file(subject):
        yield Finding(
            level=WARNING,
            check="training",
            seen=f"the model may have been trained on these images: {data.get('name')}, {data.get('split')}",
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
    """Whether training read the same file or folder, which has no splits."""
    data = subject.data
    return data.get("split") in ("file", "folder") and data.get("name") == data.get("trained_on") is not None
