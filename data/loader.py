"""Training images from disk: a random resized crop of each, decoded by workers, in batches of uint8.

What is drawn for an image is a function of (seed, epoch, image). So neither resuming, nor the number of workers, nor
torchrun changes a batch.
"""

# Shapes: B images of a batch, C channels (1 gray, 3 RGB), S the side of a crop in pixels, K images that may stand for
# others.

import hashlib
import math
import signal
import struct
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from maxup_smoothing.data.formats.picture import coloured
from maxup_smoothing.data.lazy import LazyImages
from maxup_smoothing.data.preprocessing import INTERPOLATIONS, Refused, exchanges_sides, turn

_TRIES = 10  # at a crop that fits into the image, as in torchvision
_GAP = 2.0  # an image is first reduced by a whole factor to at least so many times the crop's size


class _Wanted(NamedTuple):
    """A batch, as a worker is asked for it."""

    seed: int
    epoch: int
    indices: Sequence[int]


class _Batch(NamedTuple):
    """A batch, or the message of an error: an exception would come back with the worker's traceback as its text."""

    x_BCSS: Tensor
    y_B: Tensor
    unreadable: Sequence[int]
    error: str | None


class Loader:
    """Batches of random resized crops of images that lie on disk.

    Args:
        images: Where they are; see ``registry.load``. Their preprocessing tells the filter and the number of channels.
        labels: int64, (N,).
        size: S, pixels of each side of a crop.
        workers: Processes that decode; 0 decodes in this one.
        scale: Smallest and largest part of the image's area that a crop covers, 0 < smallest <= largest <= 1.
        ratio: Smallest and largest width over height of it, both positive.
        skip_unreadable: Put the next image, with its label, in the place of one that cannot be read, and remember it in
            ``unreadable``. Otherwise it is an error.
        among: Numbers of the images that may take another's place, ascending, such as those that are not held out; all
            by default.
        pin_memory: Leave batches in memory from which a GPU copies fast.
        prefetch: Batches that each worker makes ahead.

    Attributes:
        unreadable: Numbers of images that could not be read so far.

    Raises:
        ValueError: If a setting is out of its range.
    """

    def __init__(
        self,
        images: LazyImages,
        labels: NDArray[np.int64],
        *,
        size: int,
        workers: int = 0,
        scale: tuple[float, float] = (0.25, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        skip_unreadable: bool = False,
        among: Sequence[int] | NDArray[np.int64] | None = None,
        pin_memory: bool = False,
        prefetch: int = 2,
    ) -> None:
        if size < 1 or workers < 0 or prefetch < 1:
            raise ValueError(
                f"size and prefetch must be at least 1 and workers at least 0, got {size}, {prefetch} and {workers}."
            )
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"scale must be two parts of an image's area, 0 < smallest <= largest <= 1, got {scale}.")
        if not 0 < ratio[0] <= ratio[1] < math.inf:
            raise ValueError(f"ratio must be two positive numbers, smallest <= largest, got {ratio}.")
        self.unreadable: set[int] = set()
        self._wanted: list[_Wanted] = []
        self._workers = workers
        others_K = np.arange(len(images)) if among is None else np.asarray(among, dtype=np.int64)
        work = _Crops(images, labels, size, scale, ratio, others_K if skip_unreadable else None)
        with _quiet():
            self._loader: DataLoader[_Batch] | None = DataLoader(
                work,  # type: ignore[arg-type]  # whatever has items will do
                batch_size=None,
                sampler=self._wanted,
                num_workers=workers,
                collate_fn=_as_it_is,
                pin_memory=pin_memory,
                prefetch_factor=prefetch if workers else None,
                persistent_workers=workers > 0,
                worker_init_fn=_leave_signals if workers else None,
            )

    def batches(self, order: Iterable[Sequence[int]], *, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch.

        Args:
            order: Numbers of the images of each batch.
            seed: In [0, 2^64).
            epoch: Likewise; another one gives other crops.

        Yields:
            Images, uint8, (B, C, S, S), channels last in memory, and labels, int64, (B,), on the CPU.

        Raises:
            ValueError: If an image cannot be read and must not be skipped, or a worker was killed.
        """
        self._wanted[:] = [_Wanted(seed, epoch, [int(index) for index in indices]) for indices in order]
        batches = self._begun()
        while (batch := self._next(batches)) is not None:
            if batch.error is not None:
                raise ValueError(batch.error)
            self.unreadable.update(batch.unreadable)
            yield batch.x_BCSS, batch.y_B

    def close(self) -> None:
        """End the workers."""
        self._loader = None  # it ends them when it is forgotten

    def _begun(self) -> Iterator[_Batch]:
        """An iterator over what is wanted, its workers at work."""
        assert self._loader is not None, "closed"
        before = signal.getsignal(signal.SIGCHLD)
        with _quiet():
            batches = iter(self._loader)
        # Torch would raise an error wherever this process is when a worker dies; it is noticed at the next batch.
        if signal.getsignal(signal.SIGCHLD) is not before:
            signal.signal(signal.SIGCHLD, before or signal.SIG_DFL)
        return batches

    def _next(self, batches: Iterator[_Batch]) -> _Batch | None:
        try:
            return next(batches, None)
        except (RuntimeError, OSError, EOFError) as error:  # whatever it was at when a worker died
            if not self._workers:
                raise
            raise ValueError(
                f"a process that decodes images has died ({str(error).splitlines()[0][:200]}), as where memory (also "
                "shared memory, /dev/shm) runs out; use fewer workers."
            ) from error

    def __enter__(self) -> Self:
        """The loader, whose workers end with the block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers."""
        self.close()


def crop_box(
    width: int, height: int, draws: Sequence[float], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[int, int, int, int]:
    """A random part of an image: left, top, right, bottom.

    The rule is that of torchvision's ``RandomResizedCrop``: its area is uniform in ``scale``, the logarithm of width
    over height uniform in ``ratio``, its place uniform; where ten tries do not fit it is the largest one in the centre.

    Args:
        width: Of the image in pixels.
        height: Likewise.
        draws: 22 numbers, uniform in [0, 1).
        scale: See `Loader`.
        ratio: Likewise.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for attempt in range(_TRIES):
        area = width * height * (scale[0] + draws[2 * attempt] * (scale[1] - scale[0]))
        aspect = math.exp(low + draws[2 * attempt + 1] * (high - low))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            left = int(draws[2 * _TRIES] * (width - across + 1))
            top = int(draws[2 * _TRIES + 1] * (height - down + 1))
            return left, top, left + across, top + down
    across = max(1, min(width, round(height * ratio[1])))
    down = max(1, min(height, round(width / ratio[0])))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def uniform_draws(seed: int, epoch: int, index: int) -> list[float]:
    """22 numbers in [0, 1) for an image in an epoch, the same wherever they are drawn."""
    key = hashlib.blake2b(struct.pack("<3Q", seed, epoch, index), digest_size=16, person=b"maxup crops").digest()
    _fresh["state"]["key"][:] = np.frombuffer(key, dtype="<u8")
    _philox.state = _fresh  # a new one would take five times as long
    return ((_philox.random_raw(2 * _TRIES + 2) >> np.uint64(11)) * 2.0**-53).tolist()


_philox = np.random.Philox(key=0)
_fresh: Any = _philox.state  # of a generator that has drawn nothing


class _Crops:
    """What a worker does: one batch for each thing that it is asked for."""

    def __init__(
        self,
        images: LazyImages,
        labels: NDArray[np.int64],
        size: int,
        scale: tuple[float, float],
        ratio: tuple[float, float],
        others_K: NDArray[np.int64] | None,
    ) -> None:
        self._images, self._labels, self._size, self._others_K = images, labels, size, others_K
        self._scale, self._ratio = scale, ratio
        how = images.preprocessing
        self._filter = INTERPOLATIONS["bilinear" if how is None else how.interpolation]

    def __getitem__(self, wanted: _Wanted) -> _Batch:
        channels, size = self._images.shape[1], self._size
        x_BSSC = np.empty((len(wanted.indices), size, size, channels), dtype=np.uint8)
        taken, unreadable = [], []
        for row, index in enumerate(wanted.indices):
            draws = uniform_draws(wanted.seed, wanted.epoch, index)
            for number in self._candidates(index):
                try:
                    x_BSSC[row] = self._crop(number, draws)
                except Refused as error:
                    if self._others_K is None:
                        return _Batch(torch.empty(0), torch.empty(0), (), str(error))
                    unreadable.append(number)
                else:
                    taken.append(number)
                    break
            else:
                return _Batch(torch.empty(0), torch.empty(0), (), "none of the images can be read; replace them.")
        x_BCSS = torch.from_numpy(x_BSSC).permute(0, 3, 1, 2)  # channels last in memory, as training wants it
        return _Batch(x_BCSS, torch.from_numpy(self._labels[taken]), unreadable, None)

    def _candidates(self, index: int) -> Iterator[int]:
        """The image, and those that stand for it if it cannot be read."""
        yield index
        if self._others_K is not None:
            after = int(np.searchsorted(self._others_K, index, side="right"))
            yield from np.roll(self._others_K, -after).tolist()

    def _crop(self, index: int, draws: Sequence[float]) -> NDArray[np.uint8]:
        """A crop of an image as uint8, (S, S, C)."""
        name, gray, size = self._images.source.name(index), self._images.shape[1] == 1, self._size
        with self._images.source.opened(index) as image:
            how = turn(image)
            # It is turned after the crop, whose shape is drawn for the image as it is looked at.
            ratio = (1 / self._ratio[1], 1 / self._ratio[0]) if exchanges_sides(how) else self._ratio
            width, height = image.size
            left, top, right, bottom = crop_box(width, height, draws, self._scale, ratio)
            reduced = _decoded(image, min((right - left) // size, (bottom - top) // size))
            if image.mode not in ("L", "RGB") or image.has_transparency_data:
                reduced = coloured(reduced, name, gray=gray)
            across, down = reduced.width / width, reduced.height / height
            box = (left * across, top * down, min(right * across, reduced.width), min(bottom * down, reduced.height))
            crop = reduced.resize((size, size), self._filter, box=box, reducing_gap=_GAP)
            if how is not None:
                crop = crop.transpose(how)
            pixels = np.asarray(coloured(crop, name, gray=gray))
        return pixels[..., None] if gray else pixels


def _decoded(image: Image.Image, factor: int) -> Image.Image:
    """The image, loaded; a JPEG at 1/2, 1/4 or 1/8 of its size where ``factor`` allows it, which is less to decode."""
    shrink = next((power for power in (8, 4, 2) if power <= factor), 1)
    if shrink > 1:
        image.draft(None, (max(1, image.width // shrink), max(1, image.height // shrink)))
    image.load()
    return image


@contextmanager
def _quiet() -> Iterator[None]:
    """Without warnings of torch and Python about workers."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)  # more than there are cores
        # They decode images and nothing else, so that they can be forked beside threads of torch.
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        yield


def _as_it_is(batch: Any) -> Any:
    return batch


def _leave_signals(worker: int) -> None:
    """Let the main process decide what a signal means: at Ctrl-C it may want to finish the step in hand."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
