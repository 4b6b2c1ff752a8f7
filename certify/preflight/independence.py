"""Checks that f is one fixed function of one image, on batches like those of a run.

The theorem needs independent samples: f's answer for a row must depend on that row alone. The check compares the rows
of a batch with the given model's answers for each row alone. The batches are like those of a run, all in one buffer:
noisy copies of one image of which f is sure or unsure, of two images, of many, and a last batch that is not full. No
test can exclude a dependence that only other images show. With a batch size of 1 no row can depend on another.

A randomised f draws random numbers of its own. The theorem covers it if they are drawn anew and independently for each
row: each vote is then one draw of a class, whose probability depends on the image alone.
"""

# Shapes: N images, B rows of a batch, K classes; C channels, H height, W width.

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from maxup_smoothing.certify.models.classifier import BaseClassifier
from maxup_smoothing.certify.noise import PREDICTION, NoiseSource

#: Changes a run's seed for these checks, so that they look at no noise whose votes the run counts.
KEY = 0x726F7773
DEPENDENT = (
    "the model's answer for an image changes with the other images of its batch: batch norm without running "
    "statistics, quantisation by batch, or a decision for the whole batch. Its samples are not independent, and a "
    "certificate would be void; replace those layers, or pass --batch-size 1"
)
CHANGING = (
    "the model's answer for an image changes from call to call: dropout that is always on, random numbers of its own, "
    "or memory of earlier images. A certificate would be void; switch that off, or pass --randomized if the model "
    "draws new random numbers for every image"
)
SHARED = (
    "the random numbers that the model draws are shared by images of a batch, or the same in every call. Its samples "
    "are not independent, and a certificate would be void; draw them anew for every image, without a fixed seed"
)
_LOOSE = 2e-2  # tolerance between batch sizes, whose kernels differ; rounding of an internal bfloat16 is below it
_FEW = 0.05  # share of rows that rounding may push over a step inside the network, such as that of a sign
_REPEATS = 3  # new noise draws for a place whose row differed; all but one must differ before the place counts
_CALLS, _RARE = 8, 1e-6  # passes over equal rows of a randomised f; probability of a false alarm of one of their tests


def dependence(f: BaseClassifier, images_NCHW: Tensor, noise: NoiseSource, seconds: float = 0.5) -> tuple[str, int]:
    """Look for a dependence of f's answer on anything but the image.

    Args:
        f: The classifier, as it will run.
        images_NCHW: Some of the images that will be certified, uint8, at least one.
        noise: A noise source with a stream that no run uses.
        seconds: Approximate time for the check. If f is slow, fewer batches are compared, but at least one.

    Returns:
        ``DEPENDENT``, ``CHANGING`` or ``SHARED``, or "" if nothing was found; and the number of rows compared.
    """
    return _Examination(f, images_NCHW, noise, seconds).outcome()


def require_independent(f: BaseClassifier, images_NCHW: Tensor, noise: NoiseSource) -> None:
    """Refuse an f whose samples are not independent.

    Raises:
        ValueError: If ``dependence`` finds one; the message has the cause and the fix.
    """
    if reason := dependence(f, images_NCHW, noise)[0]:
        raise ValueError(f"{reason}.")


class _Examination:
    """One run of the check: batches like those of a run, in one buffer, and the given model for single rows."""

    def __init__(self, f: BaseClassifier, images_NCHW: Tensor, noise: NoiseSource, seconds: float) -> None:
        self._f, self._alone, self._noise = f, f.as_given(f.smallest_batch), noise
        self._images_NCHW = images_NCHW.to(f.device)
        self._buffer_BCHW = f.empty_batch(images_NCHW.shape[1:]).zero_()
        self._drawn, self._compared, self._until = 0, 0, time.monotonic() + seconds
        self._loose = max(_LOOSE, f.tolerance)
        self._chance = np.random.default_rng(0)

    def outcome(self) -> tuple[str, int]:
        f, images_NCHW = self._f, self._images_NCHW[:32]
        mark = f.mark(images_NCHW)
        mixed_BCHW = self._copies(range(len(self._images_NCHW)))
        first_BK = self._run(mixed_BCHW)
        again_BK = self._run(mixed_BCHW)
        if f.randomized:
            random_B = f.differing(first_BK, again_BK, 0.0)
            if bool(random_B.any()):
                row = int(random_B.int().argmax())  # an image whose answer varies
                return (SHARED if self._shared(mixed_BCHW[row : row + 1]) else "", self._compared)
        elif not f.same_logits(first_BK, again_BK):
            return CHANGING, self._compared
        if self._depends(first_BK, mixed_BCHW):
            # An f that changes from call to call also looks as if it depended on the batch.
            return DEPENDENT if f.change_since(mark) is None else CHANGING, self._compared
        return "" if f.same_logits(first_BK, self._run(mixed_BCHW)) else CHANGING, self._compared

    def _depends(self, first_BK: Tensor, mixed_BCHW: Tensor) -> bool:
        """Whether a row's logits differ among other rows, or alone."""
        f = self._f
        sure, unsure = self._sure_and_unsure(first_BK)
        half = f.batch_size // 2
        batches: tuple[Callable[[], Tensor], ...] = (
            lambda: self._copies([unsure]),
            lambda: mixed_BCHW,
            lambda: self._copies([sure]),
            lambda: torch.cat([self._copies([sure])[half:], self._copies([unsure])[:half]]),
            lambda: self._copies([unsure])[: f.batch_size // 3 + 1],
            lambda: self._copies([sure, unsure]),
        )
        for number, make in enumerate(batches):
            if number and time.monotonic() > self._until:
                break
            x_BCHW = make()
            found_BK = self._run(x_BCHW)
            if self._company_matters(x_BCHW, found_BK):
                return True
            differing, looked = self._unlike_alone(x_BCHW, found_BK)
            if len(differing) >= 2 and len(differing) > _FEW * looked:
                return True
            for place in differing:  # new noise shows whether rounding or the place in the batch is the cause
                others = [self._again(x_BCHW) for _ in range(_REPEATS)]
                if sum(len(self._unlike_alone(x, self._run(x), [place])[0]) for x in others) >= _REPEATS - 1:
                    return True
        return False

    def _copies(self, images: Sequence[int]) -> Tensor:
        """A batch of noisy copies of these images in turn, each copy with its own noise."""
        self._images_of_last = [images[row % len(images)] for row in range(self._f.batch_size)]
        return self._noisy(self._images_of_last)

    def _again(self, x_BCHW: Tensor) -> Tensor:
        return self._noisy(self._images_of_last)[: len(x_BCHW)]

    def _noisy(self, images: Sequence[int]) -> Tensor:
        x_BCHW, row = torch.empty_like(self._buffer_BCHW), 0
        for image, group in itertools.groupby(images):
            rows = len(list(group))
            part_BCHW, image_CHW = x_BCHW[row : row + rows], self._images_NCHW[image]
            self._noise.fill(part_BCHW, image_CHW, input_id=2**31, stage=PREDICTION, start=self._drawn)
            row, self._drawn = row + rows, self._drawn + rows
        return x_BCHW

    def _run(self, x_BCHW: Tensor) -> Tensor:
        """Logits of rows copied to the start of the buffer; the rest keeps its old content, as in ``engine.votes``."""
        self._buffer_BCHW[: len(x_BCHW)].copy_(x_BCHW)
        self._compared += len(x_BCHW)
        return self._f.logits(self._buffer_BCHW)[: len(x_BCHW)]

    def _sure_and_unsure(self, logits_BK: Tensor) -> tuple[int, int]:
        """The images whose rows have the largest and the smallest gap between their two largest logits."""
        top_B2 = logits_BK.float().topk(min(2, logits_BK.shape[1])).values
        gap_B = (top_B2[:, 0] - top_B2[:, -1]).nan_to_num(0.0)
        return int(gap_B.argmax()) % len(self._images_NCHW), int(gap_B.argmin()) % len(self._images_NCHW)

    def _company_matters(self, x_BCHW: Tensor, found_BK: Tensor) -> bool:
        """Whether rows change their logits when every second row is replaced, or when all rows change places."""
        rows = self._f.batch_size
        if rows == 1 or len(x_BCHW) < rows:
            return False
        stretched_BCHW = among_strangers(x_BCHW)
        if not self._f.same_logits(found_BK[::2], self._run(stretched_BCHW)[::2]):
            return True
        moved_BK = self._run(stretched_BCHW.flip(0)).flip(0)
        differing = int(self._f.differing(found_BK[::2], moved_BK[::2], self._loose).sum())
        return differing >= 2 and differing > _FEW * len(found_BK[::2])

    def _unlike_alone(self, x_BCHW: Tensor, found_BK: Tensor, places: Sequence[int] = ()) -> tuple[list[int], int]:
        """Places of the batch whose logits differ from those of the row alone, and the number of compared places."""
        count = len(x_BCHW)
        if not places:
            some = self._chance.choice(count, size=min(count, 24), replace=False).tolist()
            edges = [place for place in (0, 1, count // 2, count - 2, count - 1) if 0 <= place < count]
            places = sorted({*edges, *some})
        looked, differing = 0, []
        for number, place in enumerate(self._chance.permutation(np.array(places)).tolist()):
            if number >= 4 and time.monotonic() > self._until:
                break
            row_BCHW = x_BCHW[place : place + 1].expand(self._alone.batch_size, -1, -1, -1)
            own_K = self._alone.logits(row_BCHW.clone(memory_format=torch.contiguous_format))[:1]
            looked, self._compared = looked + 1, self._compared + 1
            # Compared in the unit of the whole batch, because the logits of a single row may all be tiny.
            expected_BK = found_BK.clone()
            expected_BK[place] = own_K[0]
            if bool(self._f.differing(found_BK, expected_BK, self._loose)[place]):
                differing.append(place)
        return differing, looked

    def _shared(self, x_1CHW: Tensor) -> bool:
        """Whether equal rows get dependent random numbers, within one call or between calls.

        The most variable logit of B equal rows in several calls must be independent draws. The tests compare the means
        of the calls (analysis of variance), and correlate successive calls, neighbouring rows, and both halves.
        """
        rows = self._f.batch_size
        x_BCHW = x_1CHW.expand(rows, -1, -1, -1)
        logits_TBK = torch.stack([self._run(x_BCHW) for _ in range(_CALLS)]).double()
        column = int(logits_TBK.flatten(0, 1).std(dim=0).nan_to_num(0.0).argmax())
        drawn_TB = logits_TBK[:, :, column].cpu().numpy()
        if not np.isfinite(drawn_TB).all() or np.ptp(drawn_TB) == 0:
            return True
        if len(np.unique(drawn_TB[:, 0])) == 1 or (rows > 1 and np.ptp(drawn_TB, axis=1).min() == 0):
            return True
        if rows < 4:
            return False
        tests: list[Any] = [
            stats.spearmanr(drawn_TB[:-1].ravel(), drawn_TB[1:].ravel()),
            stats.spearmanr(drawn_TB[:, ::2][:, : rows // 2].ravel(), drawn_TB[:, 1::2][:, : rows // 2].ravel()),
            stats.spearmanr(drawn_TB[:, : rows // 2].ravel(), drawn_TB[:, rows - rows // 2 :].ravel()),
            stats.f_oneway(*drawn_TB),
        ]
        return any(one.pvalue < _RARE for one in tests)


def among_strangers(x_BCHW: Tensor) -> Tensor:
    """The batch with every second row moved 1000 times as far from grey, which changes any scale that rows share."""
    other_BCHW = x_BCHW.clone()
    other_BCHW[1::2] = 0.5 + 1000 * (x_BCHW[1::2] - 0.5)
    return other_BCHW
