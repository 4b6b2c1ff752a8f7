"""Checks how often f is right, with and without noise, and looks for a wrong normalisation or numbering of classes."""

# Shapes: I images, B rows of a batch, K classes; C channels, H height, W width.

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import optimize, stats
from torch import Tensor

from maxup_smoothing.certify.preflight.finding import FACT, WARNING, Finding
from maxup_smoothing.certify.preflight.subject import Subject
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound, proportion_interval
from maxup_smoothing.data.dataset import UNLABELLED

#: Fewest images for a judgement: fewer cannot distinguish an accuracy from chance.
FEWEST = 30
#: Probability of wrongly stating that another normalisation, or another numbering of the classes, helps (one-sided).
SURE = 1e-4
#: Means and standard deviations of the channels that networks are commonly trained with, for grey or colour images.
USUAL: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "0.1307/0.3081": ((0.1307,), (0.3081,)),
    "0.5/0.5": ((0.5,), (0.5,)),
    "0/0.00392156862745098": ((0.0,), (1 / 255,)),  # images in 0 ... 255
}
_RETRAIN = "use a model trained with noise of this sigma, or a smaller --sigma"
_WRONG_MODEL = (
    "check that the model was trained on such data, that its weights are loaded, that its normalisation is inside it "
    "(--normalize), and that the classes are numbered as in training (--class-map)"
)


def accuracy_findings(subject: Subject, search: bool) -> Iterator[Finding]:
    """Report the accuracy of f with exact intervals, without noise and with one noise sample for each image.

    Args:
        subject: What is checked.
        search: Whether to try other normalisations even if f is right more often than by chance.
    """
    labels_I = subject.labels_I
    classes = {"clean": subject.classes(subject.clean), "noisy": subject.classes(subject.noisy)}
    if bool((labels_I == UNLABELLED).all()):
        share, common = _most_common(classes["noisy"])
        seen = f"unknown without labels; class {common} is the answer to {share:.0%} of the noisy images"
        yield Finding(level=FACT, check="accuracy", seen=seen)
        return
    right = {name: (found_I == labels_I).numpy() for name, found_I in classes.items()}
    seen = ", ".join(f"{name} {_share(right_I)}" for name, right_I in right.items())
    k = subject.classifier.num_classes
    by_chance = [name for name, right_I in right.items() if len(right_I) >= FEWEST and _is_chance(right_I, k)]
    reasons: list[Finding] = []
    if by_chance or search:
        reasons += _better_normalization(subject, right)
    if by_chance and not reasons:
        reasons += _other_numbers(classes["clean" if "clean" in by_chance else "noisy"], labels_I, k)
    yield from reasons
    if "noisy" not in by_chance:
        yield Finding(level=FACT, check="accuracy", seen=seen)
        return
    share, common = _most_common(classes["noisy"])
    yield Finding(
        level=WARNING,
        check="accuracy",
        seen=f"{seen}; class {common} is the answer to {share:.0%} of the noisy ones",
        meaning=f"under this noise f is right hardly more often than by chance (1 in {k}), so nearly nothing can "
        "be certified",
        fix="see above" if reasons else _RETRAIN if "clean" not in by_chance else _WRONG_MODEL,
    )


def _is_chance(right_I: NDArray[np.bool_], classes: int) -> bool:
    """Whether the accuracy may be chance, or is at most a tenth of the way to perfect, as of untrained networks."""
    chance = 1 / classes
    low = float(proportion_interval(int(right_I.sum()), len(right_I))[0])
    return low <= chance or float(right_I.mean()) <= chance + 0.1 * (1 - chance)


def _share(right_I: NDArray[np.bool_]) -> str:
    low, high = (float(limit) for limit in proportion_interval(int(right_I.sum()), len(right_I)))
    return f"{int(right_I.sum())} of {len(right_I)} right, {right_I.mean():.1%} [{low:.1%}, {high:.1%}]"


def _most_common(found_I: Tensor) -> tuple[float, int]:
    counts = torch.bincount(found_I)
    return float(counts.max()) / len(found_I), int(counts.argmax())


def _better_normalization(subject: Subject, right: Mapping[str, NDArray[np.bool_]]) -> Iterator[Finding]:
    """The change of normalisation that helps most, if one surely helps: put one in front of f, or remove f's own."""
    best, most = None, 0
    for name, (mean, std, undone) in _candidates(subject).items():
        for kind, batches in (("clean", subject.clean), ("noisy", subject.noisy)):
            moved = [_normalized(batch_BCHW, mean, std, undone) for batch_BCHW in batches]
            now_I = (subject.classes(moved) == subject.labels_I).numpy()
            gained, lost = int((now_I & ~right[kind]).sum()), int((right[kind] & ~now_I).sum())
            # McNemar's exact test, corrected for the number of attempts; the gain must also be a tenth of the images.
            sure = stats.binom.sf(gained - 1, gained + lost, 0.5) < SURE / (2 * len(USUAL) + 2)
            if sure and gained - lost > max(most, 0.1 * len(now_I)):
                best, most = (name, undone, kind, now_I), gained - lost
    if best is not None:
        name, undone, kind, now_I = best
        what = f"without its normalisation {name}" if undone else f"with normalisation {name} in front"
        yield Finding(
            level=WARNING,
            check="normalisation",
            seen=f"{what}, on the {kind} images f has {_share(now_I)}, instead of {int(right[kind].sum())}",
            meaning="the model that runs is probably not the one that was trained",
            fix=f"{_normalize_advice(subject, 'none' if undone else name)}; sigma and radii stay in [0, 1] pixel units",
        )


def _normalize_advice(subject: Subject, name: str) -> str:
    """Advice that fits the model: --normalize is refused if it holds a normalisation or takes 8-bit pixels."""
    about = subject.about
    if about.get("kind") in ("checkpoint", "ensemble") or "normalize_from" in about or "pixels" in about:
        return "name a factory that returns the model with it as its first layer"
    return f"pass --normalize {name}, or build it into the model as its first layer"


def _candidates(subject: Subject) -> dict[str, tuple[tuple[float, ...], tuple[float, ...], bool]]:
    """Normalisations to try, by name: mean, standard deviation, and whether f applies them, so that they are undone."""
    channels = subject.images_ICHW.shape[1]
    found = {name: (mean, std, False) for name, (mean, std) in USUAL.items() if len(mean) in (1, channels)}
    given = subject.about.get("normalize")
    if given and list(map(list, given)) != [[0.0], [1.0]]:
        mean, std = (tuple(part) for part in given)
        found["/".join(",".join(f"{number:g}" for number in part) for part in given)] = (mean, std, True)
    return found


def _normalized(x_BCHW: Tensor, mean: tuple[float, ...], std: tuple[float, ...], undone: bool) -> Tensor:
    mean_C11, std_C11 = (torch.tensor(part, device=x_BCHW.device)[:, None, None] for part in (mean, std))
    moved_BCHW = x_BCHW * std_C11 + mean_C11 if undone else (x_BCHW - mean_C11) / std_C11
    return moved_BCHW.contiguous(memory_format=torch.channels_last)


def _other_numbers(found_I: Tensor, labels_I: Tensor, classes: int) -> Iterator[Finding]:
    """Whether f numbers the classes differently. One half of the images gives a numbering, the other half tests it."""
    valid_I = found_I < classes
    found, labels = found_I[valid_I].numpy(), labels_I[valid_I].numpy()
    mixed = np.random.default_rng(0).permutation(len(found))  # labels may come in cycles
    found, labels = found[mixed], labels[mixed]
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (found[::2], labels[::2]), 1)
    _, name_of = optimize.linear_sum_assignment(table, maximize=True)
    right = int((name_of[found[1::2]] == labels[1::2]).sum())
    if len(found) > 1 and lower_confidence_bound(right, len(found[1::2]), SURE) > 1 / classes + min(1 / classes, 0.1):
        moved = {int(a): int(b) for a, b in enumerate(name_of) if a != b and table[a, b]}
        shown = ", ".join(f"{a} is {b}" for a, b in list(moved.items())[:5]) + ", …" * (len(moved) > 5)
        yield Finding(
            level=WARNING,
            check="labels",
            seen=f"with its classes numbered otherwise ({shown}), f is right for {right} of {len(found[1::2])} images",
            meaning="certificates would hold, but nearly all of them would count as wrong",
            fix="number the labels of the data as in training, or pass --class-map FILE; folders are numbered in the "
            "order of their names",
        )
