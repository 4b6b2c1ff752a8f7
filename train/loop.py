"""The training loop that every objective shares.

Everything random is a function of (seed, epoch, step), and the state of a run is written whole after each epoch. So a
run that was stopped and resumed ends with the same bits as one that was not, on the same machine.
"""

# Shapes: N images in the split, T in a step, B of its rows here; C channels, H height, W width.

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from maxup_smoothing.data.lazy import LazyImages
from maxup_smoothing.data.loader import Loader
from maxup_smoothing.train import optimizer as optimizers
from maxup_smoothing.train import structures
from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.distributed import World
from maxup_smoothing.train.images import CHOICE, measured, readable
from maxup_smoothing.train.objectives.objective import Objective
from maxup_smoothing.train.perturbations import Compose, GaussianNoise, Perturbation, RandomCrop, RandomFlip
from maxup_smoothing.train.perturbations.mixing import one_hot
from maxup_smoothing.train.seeds import derive_seed, generator
from maxup_smoothing.train.step import Rows, Step, arithmetic, parts

ORDER, AUGMENT, OBJECTIVE, PROBE = range(4)  # what a seed is for
SAVED = ("model", "average", "optimizer")  # parts of the state that hold tensors
CHECK_EVERY = 50  # steps between two looks at the loss, each of which waits for the device

#: From a classifier in evaluation mode to its average certified radius on held-out images; see certify.validation.
Validation = Callable[[nn.Module], float]


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One line of ``train.csv``.

    Attributes:
        epoch: Counted from 1.
        lr: Learning rate of its first step.
        loss: Mean of the objective.
        mean_loss: Mean over all copies.
        gap: Mean over the images of (worst copy - mean copy); 0 with one copy.
        noisy_accuracy: Fraction right at one noisy copy of each probe image, in evaluation mode, after the epoch.
            With a moving average it is that of the average.
        validation_acr: Average certified radius of held-out images, rounded down to a grid; NaN where none was asked.
        images_per_second: Of training, without the probe.
        seconds: Of training.
        weights_noisy_accuracy: The noisy accuracy of the weights themselves, beside that of their moving average; NaN
            without one.
    """

    epoch: int
    lr: float
    loss: float
    mean_loss: float
    gap: float
    noisy_accuracy: float
    validation_acr: float
    images_per_second: float
    seconds: float
    weights_noisy_accuracy: float = float("nan")


class Changed(ValueError):
    """A run cannot go on, since what it depends on is no longer what it was."""


class Trainer:
    """A model in training: ``epoch`` runs one, ``state`` and ``restore`` carry it over a stop.

    Args:
        model: On its device.
        objective: The loss of a batch.
        images: uint8, (N, C, H, W), the whole split; kept on the model's device, or read by ``loader``.
        labels: int64, (N,).
        config: See ``TrainConfig``.
        world: The processes that share each batch.
        validate: Certifies the classifier, if ``config.validate_every`` asks for it.
        num_classes: Logits of the model; None for as many as there are labels.
        even: Choose images to measure on as older versions did; see ``train.images.measured``.
        loader: Decodes training images that lie on disk.

    Attributes:
        numbers: int64, of the images that are trained on.
        finished: Epochs.
        result: The classifier: the model, or the moving average of its weights.
        best: Largest ``validation_acr`` so far; -1 before the first.
        improved: Whether the last epoch reached it.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        images: Tensor | LazyImages,
        labels: Tensor,
        config: TrainConfig,
        world: World | None = None,
        validate: Validation | None = None,
        num_classes: int | None = None,
        *,
        even: bool = False,
        loader: Loader | None = None,
    ) -> None:
        self.model, self.objective, self.config = model, objective, config
        self.world, self.validate, self.even, self.loader = world or World(), validate, even, loader
        self.num_classes = num_classes or int(labels.max()) + 1
        self.device = next(model.parameters()).device
        self.layout = torch.channels_last if config.channels_last else torch.contiguous_format
        model.to(memory_format=self.layout)  # type: ignore[call-overload]  # torch's stubs forget this form
        size = len(images) - config.holdout
        if size < 1:
            raise ValueError(f"holdout = {config.holdout} leaves none of the {len(images)} images to train on.")
        y = labels.cpu().numpy()
        held = torch.from_numpy(measured(y, config.holdout, even=even, held_out=True))
        trained = torch.ones(len(images), dtype=torch.bool).index_fill(0, held, value=False)
        self.numbers, self.labels = trained.nonzero().squeeze(1), labels[trained].to(self.device)
        self.images = images[trained].to(self.device) if isinstance(images, Tensor) else torch.empty(0)
        if not config.holdout:
            held = torch.from_numpy(measured(y, min(config.probe, len(images)), even=even, held_out=False))
        if not isinstance(images, Tensor):
            held = torch.from_numpy(readable(images, held.numpy(), skip=config.skip_unreadable))
        probe = images[held] if isinstance(images, Tensor) else torch.from_numpy(images[held.numpy()])
        self.probe_images, self.probe_labels = probe.to(self.device), labels[held].to(self.device)
        self.steps = -(-size // config.batch_size)
        self.augment = augmentation(config)
        self.optimizer, self.schedule = optimizers.build(model, config, self.steps)
        self.average = (
            AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True)
            if config.ema
            else None
        )
        self.result: nn.Module = self.average.module if self.average else model
        self.passed = cast(nn.Module, torch.compile(model)) if config.compile else model
        self.finished, self.best, self.improved, self._prepared = 0, -1.0, False, False
        smallest = (size - 1) % config.batch_size + 1
        synchronised = any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
        if synchronised and smallest < self.world.size:
            raise ValueError(
                f"the last batch of an epoch has {smallest} of {size} images, too few for {self.world.size} processes "
                "that share batch statistics; change batch_size or holdout."
            )

    def prepare(self) -> None:
        """Let the objective prepare itself, which may take long, if it has not yet; ``epoch`` does so otherwise."""
        if not self._prepared and self.loader is None:
            self.objective.prepare(self.images, self.world)
        self._prepared = True

    def epoch(self, advance: Callable[[int], None] = lambda images: None) -> Epoch:
        """Train for one epoch.

        Args:
            advance: Called with the number of images of each step.

        Raises:
            ValueError: If the loss, a weight or a logit is no longer a finite number.
        """
        self.prepare()
        lr, start = optimizers.learning_rate(self.optimizer), time.perf_counter()
        totals = torch.zeros(3, dtype=torch.float64, device=self.device)
        self.model.train()
        for step, (index_T, images_T, labels_T) in enumerate(self._batches()):
            self.optimizer.zero_grad(set_to_none=True)
            for rows in self._rows(len(index_T)):
                totals += self._backward(index_T, images_T, labels_T, rows, step)
            self.world.sum_gradients(self.model)
            if self.config.clip:
                nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip)
            self.optimizer.step()
            self.schedule.step()
            if self.average is not None:
                self.average.update_parameters(self.model)
            if step % CHECK_EVERY == CHECK_EVERY - 1 or step == self.steps - 1:
                self._require(bool(totals.isfinite().all()), "the loss")
            advance(len(index_T))
        self.world.average_buffers(self.model)
        if self.average is not None:
            self.world.average_buffers(self.average)
        loss, mean_loss, gap = (self.world.sum(totals) / len(self.numbers)).tolist()
        seconds = time.perf_counter() - start
        # The loss of a step is that before it: only the weights show what the last one did.
        self._require(self._is_sound(), "a weight or a statistic")
        noisy_accuracy = self.world.of_first(self.noisy_accuracy)
        of_weights = self.world.of_first(lambda: self.noisy_accuracy(self.model)) if self.average else float("nan")
        self.finished += 1
        validation_acr = self.world.of_first(self._validation_acr)
        self.improved = validation_acr > self.best
        if self.improved:
            self.best = validation_acr
        return Epoch(
            epoch=self.finished,
            lr=lr,
            loss=loss,
            mean_loss=mean_loss,
            gap=gap,
            noisy_accuracy=noisy_accuracy,
            validation_acr=validation_acr,
            images_per_second=len(self.numbers) / seconds,
            seconds=seconds,
            weights_noisy_accuracy=of_weights,
        )

    @torch.no_grad()
    def noisy_accuracy(self, model: nn.Module | None = None) -> float:
        """Fraction of the probe images whose class is right at one noisy copy (the same copy at every call).

        Args:
            model: The classifier; the one that is saved if None.

        Raises:
            ValueError: If a logit is not a finite number.
        """
        model = (model or self.result).eval()
        noise, right = GaussianNoise(self.config.sigma), 0
        batches = zip(self.probe_images.split(256), self.probe_labels.split(256), strict=True)
        for number, (images, y) in enumerate(batches):
            x, _ = noise(self._to_input(images), y, generator(self.device, self.config.seed, PROBE, number))
            with arithmetic(self.device, self.config.dtype):
                logits_BK = model(x)
            self._require(bool(logits_BK.isfinite().all()), "a logit")
            right += int((logits_BK.argmax(1) == y).sum())
        return right / max(1, len(self.probe_labels))

    def state(self) -> dict[str, Any]:
        """All that ``restore`` needs."""
        state = {
            "finished": self.finished,
            "depends_on": self.objective.depends_on(),
            "best": self.best,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
        }
        chosen = {} if self.even else {CHOICE: "by class where even spacing would not do"}
        return state | chosen | ({"average": self.average.state_dict()} if self.average is not None else {})

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from a ``state`` of a run with the same configuration and images.

        Raises:
            Changed: If something else that the run depends on has changed since.
        """
        for what, was in state["depends_on"].items():
            if self.objective.depends_on().get(what) != was:
                raise Changed(f"{what} has changed since the run began; give another --out.")
        if type(state["finished"]) is not int or not 0 <= state["finished"] <= self.config.epochs:
            raise ValueError(f"finished is {state['finished']!r}, no number of epochs of this run.")
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if not self._is_sound():
            raise ValueError("weights that are not finite numbers")
        self.finished, self.best = state["finished"], float(state["best"])

    def _order(self) -> Iterator[Tensor]:
        """Numbers of the images of each step."""
        order = generator(self.device, self.config.seed, ORDER, self.finished)
        yield from torch.randperm(len(self.numbers), generator=order, device=self.device).split(self.config.batch_size)

    def _batches(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Of each step: numbers among the trained images, images as uint8 (T, C, H, W), and labels, on the device.

        Of images on disk a process decodes its own rows alone, unless examples are mixed; the other rows are black.
        """
        if self.loader is None:
            for index_T in self._order():
                yield index_T, self.images[index_T], self.labels[index_T]
            return
        order, whole = list(self._order()), self.objective.mixes or self.world.size == 1
        mine = [Rows(0, len(index_T), len(index_T)) if whole else self._own(len(index_T)) for index_T in order]
        wanted = [self.numbers[index_T[rows.slice].cpu()].tolist() for index_T, rows in zip(order, mine, strict=True)]
        read = self.loader.batches(wanted, seed=self.config.seed, epoch=self.finished)
        for index_T, rows, (x, y) in zip(order, mine, read, strict=True):
            images_T, labels_T = x.to(self.device, non_blocking=True), self.labels[index_T]
            if not rows.whole:
                images_T = torch.zeros((len(index_T), *x.shape[1:]), dtype=torch.uint8, device=self.device)
                images_T[rows.slice] = x.to(self.device, non_blocking=True)
            labels_T[rows.slice] = y.to(self.device)  # one that was passed over has another image's
            yield index_T, images_T, labels_T

    @property
    def unreadable(self) -> set[int]:
        """Numbers of images on disk that could not be read so far."""
        return self.loader.unreadable if self.loader is not None else set()

    def _own(self, total: int) -> Rows:
        return parts(total, self.world.size)[self.world.rank]

    def _rows(self, total: int) -> list[Rows]:
        """The rows of a batch that this process passes, in the parts in which it does."""
        mine = self._own(total)
        # As many parts in every process, none of them empty: passes may be collective.
        count = max(1, min(self.config.accumulate, total // self.world.size))
        cut = [Rows(mine.first + p.first, mine.first + p.stop, total) for p in parts(mine.stop - mine.first, count)]
        return [rows for rows in cut if rows.share]

    def _backward(self, index_T: Tensor, images_T: Tensor, labels_T: Tensor, rows: Rows, step: int) -> Tensor:
        """Add the gradient of some rows of a batch; returns their sums of loss, mean loss and gap, (3,)."""
        seed, mixes = self.config.seed, self.objective.mixes
        x_T, y_T = self._to_input(images_T), labels_T
        if mixes:
            y_T = one_hot(y_T, self.num_classes)
        x_T, y_T = self.augment(x_T, y_T, generator(self.device, seed, AUGMENT, self.finished, step))
        # Partners of an example that is mixed may be among the rows of other processes and parts.
        known = (x_T, y_T) if mixes and not rows.whole else None
        step_seed = derive_seed(seed, OBJECTIVE, self.finished, step)
        now = Step(step_seed, self.finished, rows, index_T[rows.slice], known)
        x, y = x_T[rows.slice], y_T[rows.slice]
        with arithmetic(self.device, self.config.dtype):
            result = self.objective(self.passed, x, y, now)
        (result.loss if rows.whole else result.loss * rows.share).backward()
        return len(x) * torch.stack([result.loss.detach(), result.mean, result.gap]).double()

    def _validation_acr(self) -> float:
        every = self.config.validate_every
        if self.validate is None or not every or (self.finished % every and self.finished < self.config.epochs):
            return float("nan")
        return self.validate(self.result.eval())

    def _to_input(self, images: Tensor) -> Tensor:
        return images.to(torch.float32, memory_format=self.layout).div_(255)

    def _is_sound(self) -> bool:
        """Whether all that is saved is finite: weights, batch statistics, their average, and the optimizer's state."""
        return structures.is_finite([value for key, value in self.state().items() if key in SAVED])

    def _require(self, finite: bool, what: str) -> None:
        if not finite:
            kept = f"; what was saved after epoch {self.finished} stays" if self.finished else ""
            raise ValueError(
                f"{what} is not a finite number in epoch {self.finished + 1}{kept}; lower lr (now {self.config.lr}) "
                "and give another --out."
            )


def augmentation(config: TrainConfig) -> Perturbation:
    """What happens to an image before the noise."""
    parts: dict[str, Perturbation] = {"crop": RandomCrop(), "flip": RandomFlip()}
    return Compose([parts[name] for name in config.augment if name in parts])  # the others are made while decoding
