"""The smoothed classifier g: the class that f returns most often under Gaussian noise, for library users.

``certify.engine.datasets`` does the same for whole data sets, with a durable table, and with batch norms folded.
"""

# Shapes: N inputs, K classes, V = K + 1 kinds of vote; C channels, H height, W width.

import math
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from maxup_smoothing.certify.engine.answering import Answer, Question, answer_all, moved_by
from maxup_smoothing.certify.engine.scheduler import certify_inputs, predict_inputs
from maxup_smoothing.certify.models.adapters import ArrayCallable, ArrayFunction
from maxup_smoothing.certify.models.classifier import BaseClassifier, Mark
from maxup_smoothing.certify.noise.floating import FloatNoise
from maxup_smoothing.certify.noise.source import noise_source, noisy
from maxup_smoothing.certify.preflight import independence
from maxup_smoothing.certify.statistics.certificate import Certificate, require_sigma
from maxup_smoothing.certify.statistics.prediction import PredictionSampling
from maxup_smoothing.certify.statistics.procedure import Sampling

_LOOK_EVERY = 60.0  # seconds
_CHANGED = (
    "f has changed while it ran: {change}; code of the model itself updates it, and its answers are of no one f. "
    "Freeze the weights and buffers."
)


class SmoothedClassifier:
    """g: the class that ``model`` returns most often under N(0, sigma^2 I) noise on its input.

    Args:
        model: An ``nn.Module`` in evaluation mode, from (B, C, H, W) images in [0, 1] to (B, K) logits, with its
            normalisation inside; it is copied. Or any function of arrays; see ``models.adapters.ArrayFunction``.
        num_classes: K.
        sigma: Standard deviation of the noise in [0, 1] pixel units, positive.
        device: Where to compute; the model's own device by default.
        dtype: None for the model's own arithmetic; "float32", "bfloat16" or "float16" to cast it.
        batch_size: Rows of a forward pass.
        smallest_batch: Fewest rows that the model accepts.
        randomized: The model draws random numbers of its own, afresh for every row; see ``preflight.independence``.
        noise: "exact" (integer noise on the grid of 8-bit images, sound in floating point) or "float".
        seed: In [0, 2^64); from the operating system if None. See the attribute ``seed``. Choose it before looking at
            results: the best of several seeds is not a certificate.

    Raises:
        ValueError: If the model is in training mode or an argument is out of range.

    Example:
        >>> smoothed = SmoothedClassifier(model.eval(), num_classes=10, sigma=0.5)
        >>> [one] = smoothed.certify(images[:1], n=10_000)
        >>> one.predict, one.radius
    """

    def __init__(
        self,
        model: nn.Module | ArrayCallable,
        num_classes: int,
        sigma: float,
        *,
        device: torch.device | str | None = None,
        dtype: str | None = None,
        batch_size: int = 256,
        smallest_batch: int = 1,
        randomized: bool = False,
        noise: str = "exact",
        seed: int | None = None,
    ) -> None:
        require_sigma(sigma)
        if num_classes < 2:
            raise ValueError(
                f"num_classes must be at least 2, got {num_classes}: where every vote is for one class, a certificate "
                "says nothing. A network with one logit z becomes one of two classes by returning 0 and z."
            )
        if not isinstance(model, nn.Module):
            model = ArrayFunction(model, num_classes)
        first = next((tensor for tensor in model.parameters()), None)
        place = device if device is not None else (first.device if first is not None else "cpu")
        self.base = BaseClassifier(
            model,
            num_classes,
            device=place,
            dtype=dtype,
            batch_size=batch_size,
            smallest_batch=smallest_batch,
            randomized=randomized,
        )
        self._checked = set[tuple[int, ...]]()
        self._serving = threading.Lock()
        self._marks: dict[tuple[int, ...], tuple[float, Mark]] = {}
        self.sigma = sigma
        self.seed = secrets.randbits(64) if seed is None else seed
        self.noise, self._noise_name = noise_source(noise, sigma, self.seed), noise

    def certify(
        self,
        images: Tensor | ArrayLike,
        *,
        n0: int = 100,
        n: int | None = None,
        alpha: float = 0.001,
        procedure: str = "fixed",
        bound: str = "clopper-pearson",
        radii: Sequence[float] | None = None,
        tolerance: float | None = None,
        looks: Sequence[int] | None = None,
        input_ids: Sequence[int] | None = None,
    ) -> list[Certificate]:
        """CERTIFY for each image, with a fixed number of samples or as few as it takes; see ``statistics.procedure``.

        Args:
            images: (N, C, H, W), or one of (C, H, W): uint8, or floats in [0, 1]. For exact noise floats are moved to
                the nearest multiples of 1/255 first, for float noise to the nearest float32.
            n0: Selection samples for each image.
            n: Estimation samples for each image, at most; 100,000 by default.
            alpha: Failure probability of each certificate, in (0, 1).
            procedure: "fixed", "sequential" or "anytime".
            bound: "clopper-pearson" or "joint".
            radii: What to decide, for the procedures that stop early.
            tolerance: Instead: stop when the radius is known to this relative precision.
            looks: When "sequential" looks at the votes.
            input_ids: Number of each image, on which its noise depends; 0, 1, … by default. Give each image of a data
                set its own, or images certified in separate calls share their noise.

        Returns:
            N certificates; each is true or an abstention with probability at least 1 - alpha. Where a float image was
            moved, its radius is smaller by the distance.

        Raises:
            ValueError: If no image could be certified with such n and alpha, the images are not as described, or the
                model has changed itself meanwhile.
        """
        sampling = Sampling(
            sigma=self.sigma,
            n0=n0,
            n=n,
            alpha=alpha,
            procedure=procedure,
            bound=bound,
            radii=None if radii is None else tuple(radii),
            tolerance=tolerance,
            looks=None if looks is None else tuple(looks),
        )
        x_NCHW, moved_N, ids = self._inputs(images, input_ids)
        with self._unchanging(x_NCHW):
            found = certify_inputs(self.base, self.noise, zip(ids, x_NCHW, strict=True), sampling)
            proved = {input_id: certificate for input_id, certificate, _ in found}
        return [moved_by(distance, proved[input_id]) for distance, input_id in zip(moved_N, ids, strict=True)]

    def predict(
        self,
        images: Tensor | ArrayLike,
        *,
        n: int = 1000,
        alpha: float = 0.001,
        procedure: str = "fixed",
        input_ids: Sequence[int] | None = None,
    ) -> NDArray[np.int64]:
        """PREDICT for each image, with n samples or as few as it takes; see ``statistics.prediction``.

        Args:
            images: (N, C, H, W), or one of (C, H, W): uint8, or floats in [0, 1]. For exact noise floats are moved to
                the nearest multiples of 1/255 first.
            n: Samples for each image, at most if "sequential".
            alpha: Probability, at most, of returning a class that is not g's, in (0, 1).
            procedure: "fixed" or "sequential", which stops as soon as the votes decide.
            input_ids: Number of each image, on which its noise depends; 0, 1, … by default.

        Returns:
            int64, (N,): classes, ``ABSTAIN`` (-1) where the votes do not decide.

        Raises:
            ValueError: If every answer would be an abstention, the images are not as described, or the model has
                changed itself meanwhile.
        """
        sampling = PredictionSampling(sigma=self.sigma, n=n, alpha=alpha, procedure=procedure)
        x_NCHW, _, ids = self._inputs(images, input_ids)
        with self._unchanging(x_NCHW):
            found = predict_inputs(self.base, self.noise, zip(ids, x_NCHW, strict=True), sampling)
            classes = {input_id: answer.predict for input_id, answer, _ in found}
        return np.array([classes[input_id] for input_id in ids], dtype=np.int64)

    def answer(self, images: Tensor | ArrayLike, **options: Any) -> Answer:
        """The answer for one image; see ``answers``."""
        found = self.answers(images, **options)
        if len(found) != 1:
            raise ValueError(f"answer takes one image, got {len(found)}; pass several to answers.")
        return found[0]

    def answers(
        self,
        images: Tensor | ArrayLike,
        *,
        radius: float = 0.0,
        n0: int = 28,
        n: int = 10_000,
        alpha: float = 0.001,
        deadline: float | None = None,
    ) -> list[Answer]:
        """Class and certified radius of images while somebody waits: CERTIFY with the procedure "anytime".

        Sampling of an image stops as soon as its radius is decided, or at the deadline. Since the procedure is valid
        whenever one stops, so is the answer. Several threads may call this; their forward passes take turns.

        Args:
            images: As for ``certify``.
            radius: l2 radius that is to be proved; 0 stops as soon as the class is proved.
            n0: Selection samples for each image.
            n: Estimation samples for each image, at most.
            alpha: Probability, at most, that an answer is wrong.
            deadline: Seconds from the call, after which at most one more forward pass ends.

        Returns:
            An answer for each image.

        Raises:
            ValueError: If a setting is out of range, the images are not as described, or the model changes itself.
        """
        start = time.monotonic()
        until = math.inf if deadline is None else start + deadline
        sampling = self.anytime_sampling(radius=radius, n0=n0, n=n, alpha=alpha)
        found: dict[int, Answer] = {}
        with self._serving:
            x_NCHW, moved_N, ids = self._inputs(images, None)
            questions = [
                Question(
                    image_CHW=x_NCHW[i],
                    moved=moved_N[i],
                    sampling=sampling,
                    until=until,
                    asked=start,
                    deliver=partial(found.__setitem__, i),
                )
                for i in ids
            ]
            self._require_unchanged(x_NCHW)
            answer_all(self.base, self._noise_name, iter(questions))
        return [found[i] for i in ids]

    def anytime_sampling(self, *, radius: float, n0: int, n: int, alpha: float) -> Sampling:
        """The procedure of ``answers`` with these settings.

        Raises:
            ValueError: If one is out of range, or nothing could be certified.
        """
        return Sampling(sigma=self.sigma, n0=n0, n=n, alpha=alpha, procedure="anytime", radii=(radius,))

    def question(
        self,
        image_CHW: Tensor | ArrayLike,
        sampling: Sampling,
        *,
        asked: float,
        deadline: float,
        deliver: Callable[[Answer], None],
    ) -> Question:
        """A question for ``serve``.

        Args:
            image_CHW: uint8, or floats in [0, 1].
            sampling: See ``anytime_sampling``.
            asked: When somebody began to wait, in the time of ``time.monotonic``.
            deadline: Seconds from then.
            deliver: Called once with the answer, in the thread of ``serve``.

        Raises:
            ValueError: If the image is not as described.
        """
        x_1CHW, moved_1, _ = self._inputs(image_CHW, None)
        return Question(
            image_CHW=x_1CHW[0],
            moved=moved_1[0],
            sampling=sampling,
            until=asked + deadline,
            asked=asked,
            deliver=deliver,
        )

    def serve(self, questions: Iterator[Question], before_round: Callable[[], None] = lambda: None) -> None:
        """Answer questions that come at any time, until there are none; those in hand share forward passes.

        Args:
            questions: Of ``question``. It is asked for the next one also after it had none.
            before_round: Called before each round of samples.

        Raises:
            ValueError: If the model changes itself, or fails.
        """
        with self._serving:

            def look() -> None:
                before_round()
                for shape in list(self._marks):
                    self._require_unchanged(torch.zeros((1, *shape), dtype=torch.uint8))

            answer_all(self.base, self._noise_name, questions, look)

    def _require_unchanged(self, x_NCHW: Tensor) -> None:
        """Compare f with what it was, at most once a minute: looking takes longer than an answer.

        Raises:
            ValueError: If f has changed.
        """
        if not len(x_NCHW):
            return
        shape, now = tuple(x_NCHW.shape[1:]), time.monotonic()
        looked, mark = self._marks.get(shape, (-math.inf, None))
        if mark is None:
            mark = self.base.mark(_as_bytes(x_NCHW[:32]))
        elif now - looked < _LOOK_EVERY:
            return
        elif (change := self.base.change_since(mark)) is not None:
            raise ValueError(_CHANGED.format(change=change))
        self._marks[shape] = now, mark

    def _inputs(
        self, images: Tensor | ArrayLike, input_ids: Sequence[int] | None
    ) -> tuple[Tensor, Sequence[float], Sequence[int]]:
        x_NCHW, ids = _checked(images, input_ids)
        if len(x_NCHW) and tuple(x_NCHW.shape[1:]) not in self._checked:
            self._check(_as_bytes(x_NCHW[:64]))
        if x_NCHW.dtype == torch.uint8:
            return x_NCHW, [0.0] * len(x_NCHW), ids
        if isinstance(self.noise, FloatNoise):
            nearest_NCHW = x_NCHW.float()
            return nearest_NCHW, _distances(x_NCHW, nearest_NCHW.double()), ids
        grid_NCHW = (x_NCHW * 255).round()
        # An image stored as k / 255 in its own precision is the one of 8 bits.
        same = x_NCHW == grid_NCHW / 255
        moved_N = _distances(x_NCHW, torch.where(same, x_NCHW.double(), grid_NCHW.double() / 255))
        return grid_NCHW.to(torch.uint8), moved_N, ids

    def _check(self, images_NCHW: Tensor) -> None:
        """Prepare f on images of a new shape, and refuse it where its samples are not independent."""
        apart = noise_source("exact", self.sigma, self.seed ^ independence.KEY)
        self.base.prepare(noisy(images_NCHW[:16], apart), fold=False)
        independence.require_independent(self.base, images_NCHW, apart)
        self._checked.add(tuple(images_NCHW.shape[1:]))

    @contextmanager
    def _unchanging(self, x_NCHW: Tensor) -> Iterator[None]:
        """Refuse what was found inside if f is another function at the end: it would be about neither."""
        if not len(x_NCHW):
            yield
            return
        before = self.base.mark(_as_bytes(x_NCHW[:32]))
        yield
        if (change := self.base.change_since(before)) is not None:
            raise ValueError(_CHANGED.format(change=change))


def _as_bytes(x_NCHW: Tensor) -> Tensor:
    return x_NCHW if x_NCHW.dtype == torch.uint8 else (x_NCHW * 255).round().to(torch.uint8)


def _distances(x_NCHW: Tensor, certified_NCHW: Tensor) -> list[float]:
    """l2 distances of images from those that are certified in their place, rounded up."""
    # In float64 they are off by less than 1e-12 of themselves.
    return ((x_NCHW.double() - certified_NCHW).flatten(1).norm(dim=1) * (1 + 1e-9)).tolist()


def _checked(images: Tensor | ArrayLike, input_ids: Sequence[int] | None) -> tuple[Tensor, Sequence[int]]:
    x_NCHW = images if isinstance(images, Tensor) else torch.from_numpy(np.array(images))
    if x_NCHW.dim() == 3:
        x_NCHW = x_NCHW[None]
    if x_NCHW.dim() != 4 or not (x_NCHW.dtype == torch.uint8 or x_NCHW.is_floating_point()):
        raise ValueError(
            f"images must be uint8, or floats in [0, 1], of shape (N, C, H, W); got {x_NCHW.dtype} of shape "
            f"{tuple(x_NCHW.shape)}."
        )
    if x_NCHW.is_floating_point():
        x_NCHW = x_NCHW.to(torch.promote_types(x_NCHW.dtype, torch.float32))
        if not bool(((x_NCHW >= 0) & (x_NCHW <= 1)).all()):  # written so that nan fails
            raise ValueError(
                f"float images must lie in [0, 1], got {float(x_NCHW.min()):.4g} to {float(x_NCHW.max()):.4g}; divide "
                "0-255 values by 255, and move a normalisation into the model: sigma and radius are in pixel units."
            )
    ids = range(len(x_NCHW)) if input_ids is None else input_ids
    if len(ids) != len(x_NCHW) or len(set(ids)) != len(ids):
        raise ValueError(f"input_ids must be {len(x_NCHW)} different numbers, got {len(ids)}.")
    return x_NCHW, ids
