"""Train a classifier and leave a run folder.

    python -m train mnist_maxup --out runs/mnist            a file in configs/
    python -m train my.toml --set sigma=0.25 --set m=8      a file of yours, with changes
    python -m train mnist_maxup --out runs/mnist --resume   go on after an interruption, bit for bit

The folder then holds config.toml (what was run), environment.json (where), train.csv (a line an epoch),
checkpoint.safetensors (for `certify run`) and state.pt (for --resume).
"""

import json
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from data import console, registry
from data.registry import Dataset
from train import checkpoint, objectives
from train import config as configs
from train.checkpoint import Architecture
from train.config import TrainConfig
from train.loop import Epoch, Trainer
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
    """Train a classifier as CONFIG says."""
    settings = configs.load(config, changes or [])
    folder = RunFolder(out or Path("runs") / Path(config).stem)
    objective = objectives.build(settings)
    device = _device(settings)
    dataset = registry.load(settings.dataset, "train", data_root)
    architecture = Architecture(
        arch=settings.arch,
        image_shape=dataset.images.shape[1:],
        num_classes=dataset.num_classes,
        options={"shortcut": settings.shortcut} if settings.arch.startswith("resnet") else {},
    )
    torch.manual_seed(settings.seed)  # initial weights; all else has generators of its own
    model = architecture.build(settings.mean, settings.std).to(device)
    images, labels = torch.from_numpy(dataset.images), torch.from_numpy(dataset.labels)
    trainer = Trainer(model, objective, images, labels, settings)

    state = folder.prepare(settings, resume=resume)
    if state is not None:
        folder.restore(trainer, state, dataset.fingerprint)
    folder.begin(_environment(device), trainer.finished)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(
        f"{settings.objective} on {dataset.name}: {len(trainer.images)} images, {settings.arch} "
        f"({parameters:,} parameters), sigma {settings.sigma:g}, epochs {trainer.finished + 1} to {settings.epochs}, "
        f"{settings.dtype} on {device}"
        if trainer.finished < settings.epochs
        else f"{folder.path} is finished: {settings.epochs} epochs."
    )
    with console.progress() as bar:
        task = bar.add_task("training", total=settings.epochs * len(trainer.images))
        bar.update(task, completed=trainer.finished * len(trainer.images))
        while trainer.finished < settings.epochs:
            line = trainer.epoch(lambda images: bar.advance(task, images))
            # The state comes last: what it says is finished is on disk already.
            _save(folder, trainer, architecture, dataset, settings)
            folder.record(line, {**trainer.state(), "data": dataset.fingerprint})
            print(_report(line, settings.epochs), flush=True)
    print(f"checkpoint: {folder.checkpoint}")


def _save(
    folder: RunFolder, trainer: Trainer, architecture: Architecture, dataset: Dataset, settings: TrainConfig
) -> None:
    checkpoint.save(
        folder.checkpoint,
        trainer.model,
        architecture,
        {
            "config": json.loads(json.dumps(vars(settings))),
            "classes": list(dataset.classes),
            "epoch": trainer.finished,
            "versions": {"torch": torch.__version__, "python": platform.python_version()},
        },
    )


def _report(line: Epoch, epochs: int) -> str:
    left = (epochs - line.epoch) * line.seconds
    return (
        f"epoch {line.epoch:3d}/{epochs}  loss {line.loss:.4f}  gap {line.gap:.4f}  "
        f"noisy accuracy {line.noisy_accuracy:.4f}  {line.images_per_second:,.0f} images/s  "
        f"{time.strftime('%H:%M:%S', time.gmtime(left))} left"
    )


def _device(settings: TrainConfig) -> torch.device:
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(settings.device)
    except RuntimeError as error:
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {settings.device!r}.") from error
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be auto, cpu, cuda or cuda:N, got {settings.device!r}.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device is {settings.device}, but torch sees {torch.cuda.device_count()} CUDA devices; "
            "use --set device=cpu."
        )
    return device


def _environment(device: torch.device) -> bytes:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    described = {
        "command": shlex.join(["python", "-m", "train", *sys.argv[1:]]),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": name,
        "threads": torch.get_num_threads(),
        "host": platform.node(),
    }
    return json.dumps(described, indent=1).encode() + b"\n"


if __name__ == "__main__":
    console.run(app)
