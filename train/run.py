"""One training run of a classifier, from its configuration to the files in its folder."""

import json
import math
import platform
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from maxup_smoothing.certify import validation
from maxup_smoothing.certify.models import loading
from maxup_smoothing.certify.models.classes import moved
from maxup_smoothing.certify.models.normalizations import settled
from maxup_smoothing.certify.models.weights import Undecided, weights_of
from maxup_smoothing.data.lazy import LazyImages
from maxup_smoothing.data.loader import Loader
from maxup_smoothing.data.registry import Dataset
from maxup_smoothing.data.runtime import console
from maxup_smoothing.data.runtime.memory import is_out_of_memory
from maxup_smoothing.data.runtime.signals import WORDS, Stop, Stopped
from maxup_smoothing.train import checkpoint, images, machine, models, objectives
from maxup_smoothing.train import optimizer as optimizers
from maxup_smoothing.train.checkpoint import Architecture
from maxup_smoothing.train.config import TrainConfig
from maxup_smoothing.train.distributed import World
from maxup_smoothing.train.loop import Epoch, Trainer, Validation
from maxup_smoothing.train.models import hub
from maxup_smoothing.train.models.heads import head_parts
from maxup_smoothing.train.models.normalize import Normalize
from maxup_smoothing.train.objectives.objective import Objective
from maxup_smoothing.train.run_folder import Board, RunFolder


def train(
    settings: TrainConfig, folder: RunFolder, device: torch.device, world: World, resume: bool, data_root: Path | None
) -> None:
    """Train a classifier as ``settings`` say, and leave what comes out of it in ``folder``.

    Args:
        settings: The resolved configuration.
        folder: Of the run; new, or one to go on with.
        device: Where to train.
        world: The processes that share each batch.
        resume: Whether to go on with the run in the folder, if there is one.
        data_root: Where data sets lie.

    Raises:
        ValueError: If the configuration, the data or the folder do not allow it; with the fix.
        OSError: If files cannot be read or written.
    """
    objectives.build(settings)  # refuses settings that contradict each other before the data is read
    preprocessing, from_disk = settings.preprocessing(), "random_resized_crop" in settings.augment
    dataset = images.load(settings.dataset, data_root, preprocessing, from_disk=from_disk)
    architecture = _architecture(settings, dataset)
    model, settings = _new(settings, architecture)
    objective = objectives.build(settings)
    # Held from before it is looked at until the end: preparing may take long, and a second run would begin meanwhile.
    with ExitStack() as stack:
        loader = stack.enter_context(_loader(settings, dataset, device)) if from_disk else None
        world.of_first(lambda: stack.enter_context(folder.held()))
        state = world.of_first(lambda: folder.find_state(settings, resume=resume))
        settings = world.of_first(partial(folder.recorded, settings))
        if state is None:
            for note in dataset.notes if world.first else ():
                print(console.one_line(f"note: {note}"), file=sys.stderr)
            world.of_first(
                lambda: images.check(dataset, settings.holdout, preprocessing, skip_unreadable=settings.skip_unreadable)
            )
        trainer = _trainer(settings, objective, model, dataset, device, world, state, loader)
        if state is not None:
            folder.restore(trainer, state, dataset.fingerprint)
        if trainer.finished < settings.epochs:
            trainer.prepare()
        board = Board(folder.path, trainer.finished) if world.first and settings.tensorboard else None
        if world.first:
            folder.begin(settings, machine.environment(device, world), trainer.finished)
            trained = images.readable(dataset.images, trainer.numbers.numpy(), skip=settings.skip_unreadable)
            images.record(folder.path, dataset.images, trained, settings.init)
            if trainer.finished >= settings.epochs and not folder.checkpoint.exists():
                _save(folder.checkpoint, trainer, architecture, dataset, settings)
            print(_title(trainer, dataset, settings, folder, world), flush=True)
        for line in stack.enter_context(closing(_epochs(trainer, settings, folder, world))):
            # The state comes last: what it says is finished is on disk already.
            _save(folder.checkpoint, trainer, architecture, dataset, settings)
            if trainer.improved:
                _save(folder.best, trainer, architecture, dataset, settings)
            folder.record(line, {**trainer.state(), "data": dataset.fingerprint})
            if board is not None:
                board.record(line)
            print(report(line, settings.epochs), flush=True)
    if world.first:
        print(f"checkpoint: {folder.checkpoint}")


def _architecture(settings: TrainConfig, dataset: Dataset) -> Architecture:
    options = dict(settings.arch_options)
    if models.is_residual(settings.arch):
        options["shortcut"] = settings.shortcut
    return Architecture(
        arch=settings.arch,
        image_shape=dataset.images.shape[1:],
        num_classes=dataset.num_classes,
        options=hub.described(settings.arch, options) if hub.is_name(settings.arch) else options,
    )


def _new(settings: TrainConfig, architecture: Architecture) -> tuple[nn.Module, TrainConfig]:
    """The model with its initial weights, and the settings with the normalisation that a library's network declares."""
    torch.manual_seed(settings.seed)  # initial weights; all else has generators of its own
    if not architecture.foreign:
        model = architecture.build(settings.mean, settings.std)
        if settings.grad_checkpointing:
            optimizers.checkpoint_gradients(model, settings.arch)
        return model, settings
    shape, classes = architecture.image_shape, architecture.num_classes
    network = models.network(settings.arch, shape, classes, architecture.options)
    if (settings.mean, settings.std) == ((0.0,), (1.0,)):
        mean, std = models.declared(network, shape[0])
        settings = replace(settings, mean=mean, std=std)
    model = models.Classifier(Normalize(settings.mean, settings.std, shape[0]), network.model, classes)
    models.try_out(model, settings.arch, shape, network.size)
    if settings.grad_checkpointing:
        optimizers.checkpoint_gradients(network.model, settings.arch)
    return model, settings


def _trainer(
    settings: TrainConfig,
    objective: Objective,
    model: nn.Module,
    dataset: Dataset,
    device: torch.device,
    world: World,
    state: dict[str, Any] | None,
    loader: Loader | None,
) -> Trainer:
    if state is None:
        _begin_with_trained(model, settings, dataset)
    model = model.to(device)
    if world.size > 1 and device.type == "cuda":
        if settings.device.startswith("cuda:"):
            raise ValueError(f"torchrun gives each process a device of its own; device = {settings.device} names one.")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # statistics of the whole batch, as on one device
    even = state is not None and images.CHOICE not in state  # a run that an older version has begun
    return Trainer(
        model,
        objective,
        dataset.images if isinstance(dataset.images, LazyImages) else torch.from_numpy(dataset.images),
        torch.from_numpy(dataset.labels),
        settings,
        world,
        _validation(settings, dataset, device, even),
        dataset.num_classes,
        even=even,
        loader=loader,
    )


def _loader(settings: TrainConfig, dataset: Dataset, device: torch.device) -> Loader:
    """What decodes training images from disk."""
    stored = dataset.images
    if not isinstance(stored, LazyImages):
        raise ValueError(f"{settings.dataset} is in memory as a whole; leave random_resized_crop out of augment.")
    held_out = images.measured(dataset.labels, settings.holdout, even=False, held_out=True)
    return Loader(
        stored,
        dataset.labels,
        size=stored.shape[2],
        workers=settings.workers,
        scale=(settings.crop_scale[0], settings.crop_scale[1]),
        skip_unreadable=settings.skip_unreadable,
        among=np.setdiff1d(np.arange(len(dataset.labels)), held_out),
        pin_memory=device.type == "cuda",
    )


def _begin_with_trained(model: nn.Module, settings: TrainConfig, dataset: Dataset) -> None:
    """Give a new model the weights that ``init`` names, or those in the folder of ``hf:FOLDER``."""
    name = settings.init or (settings.arch if settings.arch.startswith("hf:") else "")
    found = _trained(name, model, settings, dataset) if name else None
    if found is None:
        return
    trained, names = found
    reset = settings.init_head == "reset"
    if (told := moved(names, dataset.classes)) and not reset:
        raise ValueError(
            f"init = {name!r} was trained with {told[0]} as class {told[1]}, but in the data set it is class "
            f"{told[2]}; number the classes as there, or pass --set init_head=reset to begin with a new head."
        )
    if told:
        head = head_parts(model, dataset.num_classes)
        trained = {part: tensor for part, tensor in trained.items() if part not in head}
    fresh = checkpoint.take_over(model, trained, name, dataset.num_classes, reset_head=reset)
    if fresh:
        print(console.one_line(f"note: begins with the weights of {name}; new are {', '.join(fresh)}"), file=sys.stderr)


def _trained(
    name: str, model: nn.Module, settings: TrainConfig, dataset: Dataset
) -> tuple[Mapping[str, Tensor], Sequence[str]] | None:
    """The state of the network to begin with, by the names of ``model``, and its class names, empty if not known.

    None if a folder holds a network alone.
    """
    path = Path(name)
    if hub.is_name(name):
        if (found := hub.weights_in(name)) is None:
            return None
        return {f"backbone.{part}": tensor for part, tensor in found[0].items()}, found[1]
    if loading.holds_weights_of_others(path):
        return _weights_of_others(path, model, settings, dataset), ()
    if settings.init_head == "reset":  # its classes, and so its head, may be others
        own = checkpoint.load(path / loading.CHECKPOINT if path.is_dir() else path)
        return own.model.state_dict(), own.classes
    loaded = loading.load(
        name,
        dataset.images.shape[1:],
        dataset.num_classes,
        weights=settings.init_weights or None,
        options=lambda option: "init_weights =" if option == "weights" else "",
    )
    return loaded.model.state_dict(), loaded.classes


def _weights_of_others(path: Path, model: nn.Module, settings: TrainConfig, dataset: Dataset) -> Mapping[str, Tensor]:
    """Another project's weights, read as those of this run's architecture."""
    network, channels = model.get_submodule("backbone"), dataset.images.shape[1]
    file = loading.weight_file(path)
    read = partial(
        weights_of,
        file,
        network,
        f"{settings.arch} with {dataset.num_classes} classes",
        channels=channels,
        wanted=settings.init_weights or None,
        option="init_weights =",
    )
    head = head_parts(network, dataset.num_classes)
    try:
        found = read(head=head) if settings.init_head == "reset" else read()
    except Undecided:
        raise
    except ValueError:
        # Without its head it may be the same network: then that is said.
        try:
            found = read(head=head)
        except ValueError:
            pass
        else:
            own = network.state_dict()
            if any(part not in found.state or found.state[part].shape != own[part].shape for part in head):
                return {f"backbone.{part}": tensor for part, tensor in found.state.items()}  # the head will be refused
        raise
    default = (settings.mean, settings.std)
    mean, std = settled(file, found.normalization, found.place, None, default, channels, option="")
    first = Normalize(mean, std, channels).state_dict()
    for note in loading.told(path, found):
        print(console.one_line(f"note: {note}"), file=sys.stderr)
    state = {f"backbone.{part}": tensor for part, tensor in found.state.items()}
    return state | {f"normalize.{part}": tensor for part, tensor in first.items()}


def _epochs(trainer: Trainer, settings: TrainConfig, folder: RunFolder, world: World) -> Generator[Epoch, None, None]:
    """Train, and yield each epoch in the first process.

    Raises:
        Stopped: After the step in which SIGINT or SIGTERM came.
    """
    total, passed_over = len(trainer.numbers), 0
    promise = "leaving after this step, with the finished epochs on disk"
    with Stop(promise) as stop, console.progress(disable=not world.first) as bar:
        task = bar.add_task("training", total=settings.epochs * total, completed=trainer.finished * total)

        def leave_if_asked() -> None:
            if stop.status is not None:
                raise Stopped(stop.status, said(stop.status) if world.first else "")

        def said(status: int) -> str:
            return (
                f"{WORDS[status]}; what was finished is on disk: {trainer.finished} of {settings.epochs} epochs in "
                f"{folder.path}. The same command with --resume goes on."
            )

        def advance(images: int) -> None:
            bar.advance(task, images)
            leave_if_asked()

        while trainer.finished < settings.epochs:
            leave_if_asked()
            try:
                line = trainer.epoch(advance)
            except (RuntimeError, MemoryError) as error:
                if is_out_of_memory(error):
                    raise ValueError(
                        f"memory ran out in epoch {trainer.finished + 1}; pass --set accumulate="
                        f"{2 * settings.accumulate}, which passes batches in parts, or a smaller batch_size, and "
                        "another --out."
                    ) from error
                if world.size > 1:  # a partner may have left a step earlier
                    leave_if_asked()
                raise
            if world.first:
                if len(trainer.unreadable) > passed_over:
                    passed_over = len(trainer.unreadable)
                    print(_unreadable(trainer), file=sys.stderr)
                yield line


def _unreadable(trainer: Trainer) -> str:
    shown = ", ".join(map(str, sorted(trainer.unreadable)[:5]))
    more = " …" if len(trainer.unreadable) > 5 else ""
    count = len(trainer.unreadable)
    return f"note: {count} training images cannot be read and are passed over (numbers {shown}{more})."


def _validation(settings: TrainConfig, dataset: Dataset, device: torch.device, even: bool) -> Validation | None:
    if not settings.validate_every:
        return None
    held_out = images.measured(dataset.labels, settings.holdout, even=even, held_out=True)
    number = min(settings.validate_images, len(held_out))
    held_out = held_out[images.measured(dataset.labels[held_out], number, even=even, held_out=False)]
    held_out = images.readable(dataset.images, held_out, skip=settings.skip_unreadable)
    return validation.certifier(
        dataset.images[held_out],
        dataset.labels[held_out],
        num_classes=dataset.num_classes,
        sigma=settings.sigma,
        n=settings.validate_n,
        dtype=settings.dtype,
        device=device,
        seed=settings.seed,
    )


def _save(path: Path, trainer: Trainer, architecture: Architecture, dataset: Dataset, settings: TrainConfig) -> None:
    checkpoint.save(
        path,
        trainer.result,
        architecture,
        {
            "config": json.loads(json.dumps(vars(settings))),
            "classes": list(dataset.classes),
            "epoch": trainer.finished,
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
        },
    )


def _title(trainer: Trainer, dataset: Dataset, settings: TrainConfig, folder: RunFolder, world: World) -> str:
    if trainer.finished >= settings.epochs:
        return f"{folder.path} is finished: {settings.epochs} epochs."
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters())
    processes = f", {world.size} processes" if world.size > 1 else ""
    return (
        f"{settings.objective} on {dataset.name}: {len(trainer.numbers)} images, {settings.arch} "
        f"({parameters:,} parameters), sigma {settings.sigma:g}, epochs {trainer.finished + 1} to {settings.epochs}, "
        f"{settings.dtype} on {trainer.device}{processes}"
    )


def report(line: Epoch, epochs: int) -> str:
    """The line of a finished epoch, for the terminal."""
    left = (epochs - line.epoch) * line.seconds
    certified = "" if math.isnan(line.validation_acr) else f"validation ACR {line.validation_acr:.4f}  "
    return (
        f"epoch {line.epoch:3d}/{epochs}  loss {line.loss:.4f}  gap {line.gap:.4f}  "
        f"noisy accuracy {line.noisy_accuracy:.4f}  {certified}{line.images_per_second:,.0f} images/s  "
        f"{timedelta(seconds=round(left))} left"
    )
