"""Radius tables of smoothed classifiers.

    certify run runs/maxup --protocol skip20   a radius table, beside the checkpoint
    certify show runs/maxup/radii.tsv          certified accuracy at the radii asked for
    certify predict runs/maxup --n 1000        the smoothed classifier's classes
    certify plan runs/maxup --radii 0.5        what a run will take, measured in seconds
    certify check runs/maxup                   is anything wrong with the model, the data or the noise?
    certify verify runs/maxup/radii.tsv        some rows again from the recorded seed: are they the same?
    certify recompute radii.tsv --alpha 1e-4 --out strict.tsv    new radii from the stored votes
    certify merge A.tsv B.tsv --out all.tsv    several tables as one
    certify transfer FILE --to-dtype float32 --to-batch-size 1 --out NEW.tsv    radii of the deployed classifier
    certify audit FILE                         are these radii possible? Also for logs of other projects
    certify attack runs/maxup radii.tsv        does an attack succeed within a certified radius?
    certify selftest                           does this installation err no more often than alpha?

MODEL is one of

    runs/maxup, or a .safetensors    a checkpoint of `python -m train`
    package.module:factory           a callable without arguments, importable from the working directory, that returns
    path/to/file.py:factory          an nn.Module in evaluation mode, or a function from float32 arrays (B, C, H, W)
                                     to logits (B, K) or classes (B,)
    model.onnx, model.pt2, model.pt  ONNX (with onnxruntime), a program of torch.export, which can run any code, or of
                                     TorchScript
    timm:NAME, torchvision:NAME      with that library's weights and normalisation
    weights.pth --arch NAME          another project's weights, also .ckpt, .safetensors, .bin; NAME is lenet, resnet20,
                                     resnet56, resnet110, wrn-16-4, wrn-28-10, resnet50, timm:NAME or torchvision:NAME

DATA, the images, is one of

    mnist, fashion-mnist, fashion-sample, cifar10, cifar100
    images.npz                       with images and labels, or x_train, y_train, x_test, y_test (also x_val, y_val)
    folder                           with one folder of images per class, or with these in train, test or val
    images alone                     without labels: an .npz of images, a folder of images, or one image

Where DATA has some of the network's classes, --class-map FILE says which: a line for each class, its name and its
number in the network.

Under torchrun the processes of `certify run` and `predict` share the images; see docs/scale.md.

The same command again goes on with a table that was interrupted.
"""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from maxup_smoothing.certify.commands import arguments, attack, options, plan, tables, transfer, verify
from maxup_smoothing.certify.commands import check as cli_preflight
from maxup_smoothing.certify.distributed import torchrun
from maxup_smoothing.certify.statistics.procedure import ProcedureSettings
from maxup_smoothing.certify.tables import population, summary
from maxup_smoothing.certify.tables.radius_table import read
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

Model = Annotated[str, typer.Argument(metavar="MODEL", help="Checkpoint, factory, file or name; see `certify --help`.")]
Data = Annotated[
    str | None,
    typer.Option(
        help="Data set name, FILE.npz, folder of class folders or images, or image.",
        show_default="the checkpoint's own",
    ),
]
Split = Annotated[str, typer.Option(help="train, test or val.")]
ProtocolName = Annotated[str, typer.Option("--protocol", help="Which images: full, skipN, firstN, macer-500-999.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many images of the protocol.")]
Sigma = Annotated[
    float | None,
    typer.Option(help="Noise in [0, 1] pixel units.", show_default="what the checkpoint was trained with"),
]
Alpha = Annotated[float, typer.Option(help="Failure probability of each certificate.")]
Precision = Annotated[
    str | None,
    typer.Option(
        help="Cast the network to float32, bfloat16 or float16, which may be another function.",
        show_default="the model's own arithmetic",
    ),
]
Randomized = Annotated[
    bool,
    typer.Option("--randomized", help="The model draws random numbers of its own, anew for every image of a batch."),
]
BatchSize = Annotated[str, typer.Option(help="Rows of a forward pass; auto measures the fastest.")]
Compile = Annotated[
    str, typer.Option(metavar="auto|on|off", help="torch.compile; auto does it where a long run gains from it.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Noise = Annotated[
    str, typer.Option(help="exact (sound in floating point), or float (as behind other tables, for comparison).")
]
Seed = Annotated[int | None, typer.Option(help="Of the noise.", show_default="from the operating system")]
Arch = Annotated[str | None, typer.Option(help="Of another project's weights: lenet, resnet20, timm:NAME …")]
Normalize = Annotated[
    str | None,
    typer.Option(
        help="In front of the model: none, cifar10, imagenet, or MEAN/STD as 0.5,0.5,0.5/0.2,0.2,0.2.",
        show_default="what a file of weights stores, else of weights cifar10 for CIFAR, else none",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output file instead of going on with it.")]
Check = Annotated[
    bool,
    typer.Option(
        " /--no-check", help="Begin without the checks of `certify check`; the manifest says so.", show_default=False
    ),
]
Radii = Annotated[
    str | None, typer.Option(help="Radii of the printed table, such as 0,0.25,0.5; also those that are decided.")
]
Shard = Annotated[
    str | None,
    typer.Option(metavar="i/N", help="Only every N-th image, from the i-th on; join the tables with `certify merge`."),
]
Simultaneous = Annotated[
    bool, typer.Option("--simultaneous", help="Each certificate at alpha / images: all are true together.")
]


@app.callback()
def shared(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="CERTIFY_DEBUG", help="Print the traceback of an error, too.")
    ] = False,
) -> None:
    """Take what all commands share."""
    if debug:
        console.show_tracebacks()


@app.command()
def run(
    model: Model,
    data: Data = None,
    split: Split = "test",
    class_map: options.ClassMap = None,
    protocol: ProtocolName = "full",
    limit: Limit = None,
    sigma: Sigma = None,
    n0: Annotated[int, typer.Option(help="Samples for each image that select the class.")] = 100,
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            "-n",
            help="Samples for each image that estimate its probability; at most, with sequential or anytime.",
            show_default="100000; anytime 10000000",
        ),
    ] = None,
    alpha: Alpha = 0.001,
    procedure: Annotated[
        str,
        typer.Option(
            metavar="fixed|sequential|anytime",
            help="fixed: n samples. sequential looks at the votes on a schedule, anytime at any time; both stop as "
            "soon as every radius of --radii is decided.",
        ),
    ] = "fixed",
    bound: Annotated[
        str,
        typer.Option(metavar="clopper-pearson|joint", help="joint bounds the runner-up by its own votes, too."),
    ] = "clopper-pearson",
    tolerance: Annotated[
        float | None,
        typer.Option(help="Stop when the radius is known to this relative precision; --radii are then only printed."),
    ] = None,
    looks: Annotated[
        str | None,
        typer.Option(help="When sequential looks, such as 200,1000,10000.", show_default="200,500,1000 … n"),
    ] = None,
    dtype: Precision = None,
    batch_size: BatchSize = "auto",
    compile: Compile = "auto",
    device: Device = "auto",
    noise: Noise = "exact",
    seed: Seed = None,
    out: Annotated[Path | None, options.new_file("The radius table.", "radii.tsv beside the checkpoint")] = None,
    overwrite: Overwrite = False,
    radii: Radii = None,
    arch: Arch = None,
    normalize: Normalize = None,
    weights: options.Weights = None,
    data_root: options.DataRoot = None,
    check: Check = True,
    shard: Shard = None,
    randomized: Randomized = False,
) -> None:
    """Certify images and print the radius table.

    This is CERTIFY of Cohen et al. (2019): n0 samples select a class, n fresh ones bound its probability. With
    --procedure sequential most images take a few hundred of them, at the same alpha.
    """
    from maxup_smoothing.certify.runs.launch import certify_request
    from maxup_smoothing.certify.runs.session import Request

    wanted = arguments.radii(radii)
    schedule = arguments.integers("--looks", looks)
    decided = None if wanted is None or procedure == "fixed" or tolerance is not None else tuple(sorted(set(wanted)))

    settings = ProcedureSettings(
        n0=n0, n=n, alpha=alpha, procedure=procedure, bound=bound, radii=decided, tolerance=tolerance, looks=schedule
    )
    table_path = certify_request(
        Request(
            model=model,
            data=data,
            split=split,
            protocol=protocol,
            limit=limit,
            sigma=sigma,
            dtype=dtype,
            batch_size=arguments.batch_size(batch_size),
            compile=compile,
            device=device,
            noise=noise,
            seed=seed,
            out=out,
            overwrite=overwrite,
            arch=arch,
            normalize=normalize,
            data_root=data_root,
            check=check,
            shard=shard,
            randomized=randomized,
            weights=weights,
            class_map=class_map,
        ),
        settings,
        wanted,
    )
    if table_path is None:
        return  # one of several processes talks for all
    table = read(table_path)
    print(summary.render(table, wanted))
    if procedure != "fixed":
        print(summary.saved_text(table, min(n or 100_000, 100_000)))


@app.command()
def show(
    file: Annotated[Path, options.table_argument()],
    radii: Annotated[str | None, typer.Option(help="Such as 0,0.25,0.5.", show_default="0,0.25 … the ceiling")] = None,
    simultaneous: Simultaneous = False,
) -> None:
    """Print certified accuracy at several radii.

    Each with the count behind it, its 95 % interval, and a 95 % lower bound for the population.
    """
    table = read(file)
    if simultaneous:
        table = population.simultaneous(table)
    print(summary.render(table, arguments.radii(radii)))


@app.command()
def predict(
    model: Model,
    data: Data = None,
    split: Split = "test",
    class_map: options.ClassMap = None,
    protocol: ProtocolName = "full",
    limit: Limit = None,
    sigma: Sigma = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Samples for each image.")] = 1000,
    alpha: Annotated[float, typer.Option(help="Chance, at most, of a class that is not the smoothed one's.")] = 0.001,
    dtype: Precision = None,
    batch_size: BatchSize = "auto",
    compile: Compile = "auto",
    device: Device = "auto",
    noise: Noise = "exact",
    seed: Seed = None,
    out: Annotated[
        Path | None, options.new_file("Where the classes go.", "predictions.tsv beside the checkpoint")
    ] = None,
    overwrite: Overwrite = False,
    arch: Arch = None,
    normalize: Normalize = None,
    weights: options.Weights = None,
    data_root: options.DataRoot = None,
    check: Check = True,
    shard: Shard = None,
    randomized: Randomized = False,
) -> None:
    """Classify images with the smoothed classifier.

    This is PREDICT of Cohen et al. (2019): it abstains where n samples do not decide.
    """
    from maxup_smoothing.certify.engine.datasets import PredictionSettings
    from maxup_smoothing.certify.runs.launch import predict_request
    from maxup_smoothing.certify.runs.session import Request

    text = predict_request(
        Request(
            model=model,
            data=data,
            split=split,
            protocol=protocol,
            limit=limit,
            sigma=sigma,
            dtype=dtype,
            batch_size=arguments.batch_size(batch_size),
            compile=compile,
            device=device,
            noise=noise,
            seed=seed,
            out=out,
            overwrite=overwrite,
            arch=arch,
            normalize=normalize,
            data_root=data_root,
            check=check,
            shard=shard,
            randomized=randomized,
            weights=weights,
            class_map=class_map,
        ),
        PredictionSettings(n=n, alpha=alpha),
    )
    if text is not None:
        print(text)


for command in (
    plan.plan,
    cli_preflight.check,
    verify.verify,
    tables.recompute,
    tables.merge,
    tables.audit,
    attack.attack,
    transfer.transfer,
    verify.selftest,
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
