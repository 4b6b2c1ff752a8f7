"""Certify smoothed classifiers: for each image a class and a radius within which it cannot change.

    certify run runs/maxup --protocol skip20       certify every 20th image into runs/maxup/radii.tsv
    certify show runs/maxup/radii.tsv              print certified accuracy at several radii
    certify verify runs/maxup/radii.tsv            redraw some rows from the recorded seed and compare
    certify audit log.tsv                          check whether the radii of a log are possible

MODEL is one of

    runs/maxup, or a .safetensors    a checkpoint of `python -m train`
    package.module:factory           a callable without arguments, importable from the working directory, that returns
    path/to/file.py:factory          an nn.Module in evaluation mode, or a function from float32 arrays (B, C, H, W)
                                     to logits (B, K) or classes (B,)
    model.onnx, model.pt2, model.pt  ONNX (with onnxruntime), a program of torch.export, which can run any code, or of
                                     TorchScript
    timm:NAME, torchvision:NAME      with that library's weights and normalisation
    A+B, probabilities:A+B           the mean of the logits, or of the probabilities, of such networks
    weights.pth --arch NAME          another project's weights, also .ckpt, .safetensors, .bin; NAME is lenet, resnet20,
                                     resnet56, resnet110, wrn-16-4, wrn-28-10, resnet50, timm:NAME or torchvision:NAME

DATA, the images, is one of

    mnist, fashion-mnist, fashion-sample, cifar10, cifar100
    images.npz                       with images and labels, or x_train, y_train, x_test, y_test (also x_val, y_val)
    folder                           with one folder of images per class, or with these in train, test or val
    FILE.parquet, or a folder        of such files, as Hugging Face's `datasets` writes them (with pyarrow)
    images alone                     without labels: an .npz of images, a folder of images, or one image

Images of different sizes need --resize and --crop, such as --resize 256 --crop 224 (docs/your_images.md).

If DATA has only some of the network's classes, --class-map FILE names them: a line for each class with its name and its
number in the network. The network's own list of classes will do as well, such as synset_words.txt.

An interrupted command continues its table when it is called again. Under torchrun the processes of `certify run` and
`certify predict` share the images (docs/scale.md).
"""

import shlex
import sys
from typing import Annotated

import typer

from maxup_smoothing.certify.commands import attack, check, export, options, plan, run, serve, tables, transfer, verify
from maxup_smoothing.certify.distributed import torchrun
from maxup_smoothing.data.runtime import console

_SHARED = (["run"], ["predict"])  # by the processes of torchrun
_NAMES = "`certify run` and `certify predict`"

app = typer.Typer(
    cls=options.Group,
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help=console.manual(__doc__),
    rich_markup_mode=None,
)


@app.callback()
def shared(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="CERTIFY_DEBUG", help="Print the traceback of an error as well.")
    ] = False,
) -> None:
    """Take what all commands share."""
    if debug:
        console.show_tracebacks()


for command in (
    plan.plan,
    check.check,
    run.run,
    run.predict,
    tables.show,
    verify.verify,
    tables.recompute,
    tables.merge,
    tables.audit,
    attack.attack,
    transfer.transfer,
    verify.selftest,
    serve.serve,
    export.export,
):
    app.command()(command)


def obey() -> None:
    """Do what the command line says, or say why not under torchrun."""
    words = [word for word in sys.argv[1:] if word != "--debug"]
    (_alone if torchrun.shares() and words[:1] not in _SHARED else app)()


def _alone() -> None:
    if torchrun.is_first():
        raise ValueError(f"under torchrun only {_NAMES} share their work; call {shlex.join(sys.argv)} without it.")
    raise SystemExit(console.USAGE_ERROR)
