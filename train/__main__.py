"""Train a classifier, or a language model, and leave a run folder.

    python -m train mnist_maxup --out runs/mnist            a file in configs/
    python -m train my.toml --set sigma=0.25 --set m=8      a file of yours, with changes
    python -m train mnist_maxup --out runs/mnist --resume   go on after an interruption, bit for bit
    torchrun --nproc-per-node 4 -m train cifar10_maxup      on four devices of this machine; the same batches, shared
    python -m train ptb_maxup --data-root DATA              a language model; see docs/training.md

The folder then holds config.toml (what was run), environment.json (where), train.csv (a line an epoch),
checkpoint.safetensors (for `certify run`) and state.pt (for --resume); with validate_every also best.safetensors, the
epoch that was best on held-out images. Set tensorboard=true to watch the run with TensorBoard.
"""

import json
import math
import platform
import shlex
import sys
from collections.abc import Generator
from contextlib import closing, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

from certify import loader, validation
from certify.memory import is_out_of_memory
from data import console, registry
from data.hardware import cpu_name
from data.registry import Dataset
from data.stopping import WORDS, Stop, Stopped
from data.subset import spread
from train import checkpoint, config_file, distributed, initial, objectives
from train.board import Board
from train.checkpoint import Architecture
from train.config import TrainConfig
from train.distributed import World
from train.language import session
from train.language.config import LanguageConfig
from train.loop import Epoch, Trainer, Validation
from train.run_folder import RunFolder

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command(help=console.manual(__doc__))
def train(
    config: Annotated[str, typer.Argument(metavar="CONFIG", help="A TOML file, or the name of one in configs/.")],
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key; may be repeated.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder.", show_default="runs/CONFIG")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in the folder, if there is one.")
    ] = False,
    data_root: Annotated[
        Path | None, typer.Option(envvar="DATA_ROOT", help="Where data sets lie; otherwise they are downloaded.")
    ] = None,
) -> None:
    """Train as CONFIG says."""
    path = out or Path("runs") / Path(config).stem
    try:
        _run(config, changes or [], path, resume, data_root)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ValueError(
            "memory ran out; a smaller network, batch_size or m takes less (a language model's bptt, too); give "
            "another --out."
        ) from error


def _run(config: str, changes: list[str], path: Path, resume: bool, data_root: Path | None) -> None:
    if config_file.task(config) is not None:
        language = config_file.load(config, changes, kind=LanguageConfig)
        device = _device(language.device)
        with distributed.join(device.type) as world:
            if world.size > 1:
                raise ValueError("a language model trains in one process; start it without torchrun.")
            session.run(language, path, device, _environment(device, world), resume=resume, data_root=data_root)
        return
    settings = config_file.load(config, changes)
    device = _device(settings.device)
    with distributed.join(device.type) as world:
        _train(settings, RunFolder(path), device, world, resume, data_root)


def _train(
    settings: TrainConfig, folder: RunFolder, device: torch.device, world: World, resume: bool, data_root: Path | None
) -> None:
    objective = objectives.build(settings)
    dataset = registry.load(settings.dataset, "train", data_root)
    for note in dataset.notes if world.first else ():
        print(console.one_line(f"note: {note}"), file=sys.stderr)
    if not dataset.labelled:
        raise ValueError(
            f"{settings.dataset} has images without labels, and training needs labels; give one folder of images per "
            "class, or an .npz with labels."
        )
    if dataset.num_classes < 2:
        raise ValueError(f"{settings.dataset} has one class, so there is nothing to tell apart; give at least two.")
    architecture = Architecture(
        arch=settings.arch,
        image_shape=dataset.images.shape[1:],
        num_classes=dataset.num_classes,
        options={"shortcut": settings.shortcut} if settings.arch.startswith("resnet") else {},
    )
    state = world.of_first(lambda: folder.find_state(settings, resume=resume))
    torch.manual_seed(settings.seed)  # initial weights; all else has generators of its own
    model = architecture.build(settings.mean, settings.std)
    if settings.init and state is None:
        initial.take_over(model, _trained(settings, architecture), settings.init)
    model = model.to(device)
    if world.size > 1 and device.type == "cuda":
        if settings.device.startswith("cuda:"):
            raise ValueError(f"torchrun gives each process a device of its own; device = {settings.device} names one.")
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # statistics of the whole batch, as on one device
    images, labels = torch.from_numpy(dataset.images), torch.from_numpy(dataset.labels)
    validate = _validation(settings, dataset, device)
    trainer = Trainer(model, objective, images, labels, settings, world, validate, dataset.num_classes)
    if state is not None:
        folder.restore(trainer, state, dataset.fingerprint)
    if trainer.finished < settings.epochs:
        trainer.prepare()
    board = Board(folder.path, trainer.finished) if world.first and settings.tensorboard else None
    with folder.held() if world.first else nullcontext():
        if world.first:
            folder.begin(settings, _environment(device, world), trainer.finished)
            if trainer.finished >= settings.epochs and not folder.checkpoint.exists():
                _save(folder.checkpoint, trainer, architecture, dataset, settings)
            print(_title(trainer, dataset, settings, folder, world), flush=True)
        with closing(_epochs(trainer, settings, folder, world)) as epochs:
            for line in epochs:
                # The state comes last: what it says is finished is on disk already.
                _save(folder.checkpoint, trainer, architecture, dataset, settings)
                if trainer.improved:
                    _save(folder.best, trainer, architecture, dataset, settings)
                folder.record(line, {**trainer.state(), "data": dataset.fingerprint})
                if board is not None:
                    board.record(line)
                print(_report(line, settings.epochs), flush=True)
    if world.first:
        print(f"checkpoint: {folder.checkpoint}")


def _trained(settings: TrainConfig, architecture: Architecture) -> nn.Module:
    """The network to begin with; another project's weights are read as those of this run's architecture."""
    foreign = Path(settings.init).suffix in loader.WEIGHT_FILES
    return loader.load(
        settings.init,
        architecture.image_shape,
        architecture.num_classes,
        arch=settings.arch if foreign else None,
        normalize=initial.normalize_option(settings.mean, settings.std) if foreign else None,
    ).model


def _epochs(trainer: Trainer, settings: TrainConfig, folder: RunFolder, world: World) -> Generator[Epoch, None, None]:
    """Train, and yield each epoch in the first process.

    Raises:
        Stopped: After the step in which SIGINT or SIGTERM came.
    """
    total = len(trainer.images)
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
                yield line


def _validation(settings: TrainConfig, dataset: Dataset, device: torch.device) -> Validation | None:
    if not settings.validate_every:
        return None
    held_out = spread(len(dataset.images), settings.holdout)
    held_out = held_out[spread(len(held_out), min(settings.validate_images, len(held_out)))]
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
        f"{settings.objective} on {dataset.name}: {len(trainer.images)} images, {settings.arch} "
        f"({parameters:,} parameters), sigma {settings.sigma:g}, epochs {trainer.finished + 1} to {settings.epochs}, "
        f"{settings.dtype} on {trainer.device}{processes}"
    )


def _report(line: Epoch, epochs: int) -> str:
    left = (epochs - line.epoch) * line.seconds
    certified = "" if math.isnan(line.validation_acr) else f"validation ACR {line.validation_acr:.4f}  "
    return (
        f"epoch {line.epoch:3d}/{epochs}  loss {line.loss:.4f}  gap {line.gap:.4f}  "
        f"noisy accuracy {line.noisy_accuracy:.4f}  {certified}{line.images_per_second:,.0f} images/s  "
        f"{timedelta(seconds=round(left))} left"
    )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}.") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {name!r}.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device is {name}, but torch sees {torch.cuda.device_count()} CUDA devices; use --set device=cpu."
        )
    return device


def _environment(device: torch.device, world: World) -> bytes:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else cpu_name()
    described = {
        "command": shlex.join(["python", "-m", "train", *sys.argv[1:]]),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": name,
        "threads": torch.get_num_threads(),
        "processes": world.size,
        "host": platform.node(),
    }
    return json.dumps(described, indent=1).encode() + b"\n"


if __name__ == "__main__":
    console.run(app)
