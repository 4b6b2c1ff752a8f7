"""Train a classifier, or a language model, and leave a run folder.

    python -m train mnist_maxup --out runs/mnist            a file in configs/
    python -m train my.toml --set sigma=0.25 --set m=8      a file of yours, with changes
    python -m train mnist_maxup --out runs/mnist --resume   go on after an interruption, bit for bit
    torchrun --nproc-per-node 4 -m maxup_smoothing.train cifar10_maxup    on four devices, which share each batch
    python -m train folder_finetune --set dataset=PHOTOS    a network of timm, on images of your own
    python -m train ptb_maxup --data-root DATA              a language model; see docs/training.md

The folder then holds config.toml (what was run), environment.json (where), train.csv (a line an epoch),
checkpoint.safetensors (for `certify run`) and state.pt (for --resume); with validate_every also best.safetensors, the
epoch that was best on held-out images. train_images.hashes tells which images were trained on. Set tensorboard=true to
watch the run with TensorBoard.
"""

from pathlib import Path
from typing import Annotated

import typer

from maxup_smoothing.data.runtime import console
from maxup_smoothing.data.runtime.memory import is_out_of_memory
from maxup_smoothing.train import config_file, distributed, machine, run
from maxup_smoothing.train.language import session
from maxup_smoothing.train.language.config import LanguageConfig
from maxup_smoothing.train.run_folder import RunFolder

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
    path = out or Path("runs") / Path(config).name.removesuffix(".toml")
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
        device = machine.device(language.device)
        with distributed.join(device.type) as world:
            if world.size > 1:
                raise ValueError("a language model trains in one process; start it without torchrun.")
            session.run(language, path, device, machine.environment(device, world), resume=resume, data_root=data_root)
        return
    settings = config_file.load(config, changes)
    device = machine.device(settings.device)
    with distributed.join(device.type) as world:
        run.train(settings, RunFolder(path), device, world, resume, data_root)


if __name__ == "__main__":
    console.run(app)
