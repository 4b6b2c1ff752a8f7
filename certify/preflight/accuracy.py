"""How often f is right, clean and under noise, and why it is not: normalisation, or classes numbered otherwise."""

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

#: Fewer images cannot tell an accuracy from chance.
FEWEST = 30
#: One-sided error of the statement that another normalisation, or other numbers of the classes, help.
SURE = 1e-4
#: Mean and standard deviation a channel that networks are commonly trained with, for grey images or for colour.
USUAL: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "0.1307/0.3081": ((0.1307,), (0.3081,)),
    "0.5/0.5": ((0.5,), (0.5,)),
    "0/0.00392156862745098": ((0.0,), (1 / 255,)),  # images in 0 ... 255
}
_RETRAIN = "use a model trained with noise of this sigma, or a smaller --sigma"
_WRONG_MODEL = (
    "is this the data the model was trained on, are its weights loaded, its normalisation inside (--normalize), and "
    "the classes numbered as in training (--class-map)?"
)


def accuracy_findings(subject: Subject, search: bool) -> Iterator[Finding]:
    """Accuracy of f, one noise sample for each image, with exact intervals.

    Args:
        subject: The subject.
        search: Whether to try other normalisations even where f is right more often than chance.
    """
    labels_I = subject.labels_I
    classes = {"clean": subject.classes(subject.clean), "noisy": subject.classes(subject.noisy)}
    if bool((labels_I == UNLABELLED).all()):
        share, common = _most_common(classes["noisy"])
        seen = f"not known, without labels; class {common} is the answer to {share:.0%} of the noisy images"
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
        meaning=f"under this noise f is right hardly more often than by chance, 1 in {k}, so nearly nothing can "
        "be certified",
        fix="see above" if reasons else _RETRAIN if "clean" not in by_chance else _WRONG_MODEL,
    )


def _is_chance(right_I: NDArray[np.bool_], classes: int) -> bool:
    """Whether it may be chance, or at most a tenth of the way to perfect, where untrained networks get."""
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
    """The normalisation, put in front of f or taken away from it, that helps most, if it surely helps."""
    best, most = None, 0
    for name, (mean, std, undone) in _candidates(subject).items():
        for kind, batches in (("clean", subject.clean), ("noisy", subject.noisy)):
            moved = [_normalized(batch_BCHW, mean, std, undone) for batch_BCHW in batches]
            now_I = (subject.classes(moved) == subject.labels_I).numpy()
            gained, lost = int((now_I & ~right[kind]).sum()), int((right[kind] & ~now_I).sum())
            # McNemar's exact test, and a difference that matters.
            sure = stats.binom.sf(gained - 1, gained + lost, 0.5) < SURE / (2 * len(USUAL) + 2)
            if sure and gained - lost > max(most, 0.1 * len(now_I)):
                best, most = (name, undone, kind, now_I), gained - lost
    if best is not None:
        name, undone, kind, now_I = best
        what = f"without its normalisation {name}" if undone else f"with normalisation {name} in front"
        yield Finding(
            level=WARNING,
            check="normalisation",
            seen=f"{what}, f has {_share(now_I)} of the {kind} images, instead of {int(right[kind].sum())}",
            meaning="the model is probably not the one that was trained",
            fix=f"{_normalize_advice(subject, 'none' if undone else name)}; sigma and radii stay in [0, 1] pixel units",
        )


def _normalize_advice(subject: Subject, name: str) -> str:
    """What can be followed: a model that holds its normalisation, or takes 8-bit pixels, takes no other one."""
    about = subject.about
    if about.get("kind") == "checkpoint" or "normalize_from" in about or "pixels" in about:
        return "name a factory that returns the model with it as its first layer"
    return f"pass --normalize {name}, or build it into the model as its first layer"


def _candidates(subject: Subject) -> dict[str, tuple[tuple[float, ...], tuple[float, ...], bool]]:
    """Mean, standard deviation, and whether f applies them, to be undone."""
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
    """Whether f knows the classes by other numbers: these are chosen on half of the images, and judged on the rest."""
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
            seen=f"with its classes numbered otherwise ({shown}) f is right for {right} of {len(found[1::2])} images",
            meaning="certificates would hold, but nearly all count as wrong",
            fix="number the labels of the data as in training, or pass --class-map FILE; folders are numbered in the "
            "order of their names",
        )
