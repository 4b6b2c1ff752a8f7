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
from pathlib import Path
from typing import Annotated

import typer

from maxup_smoothing.certify.commands import arguments, attack, export, options, plan, serve, tables, transfer, verify
from maxup_smoothing.certify.commands import check as cli_preflight
from maxup_smoothing.certify.distributed import torchrun
from maxup_smoothing.certify.logs.settings import beyond_l2
from maxup_smoothing.certify.statistics.procedure import ProcedureSettings
from maxup_smoothing.certify.tables import evidence, summary
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

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Checkpoint, factory, file or name; `certify --help` lists the kinds.")
]
Data = Annotated[
    str | None,
    typer.Option(
        help="Data set name, FILE.npz, FILE.parquet, folder of class folders or images, or image.",
        show_default="the checkpoint's own",
    ),
]
Split = Annotated[str, typer.Option(help="Part of the data set: train, test or val.")]
ProtocolName = Annotated[
    str, typer.Option("--protocol", help="Which images to take: full, skipN (every N-th), firstN, macer-500-999.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Certify only this many images, the first of the protocol.")]
Sigma = Annotated[
    float | None,
    typer.Option(
        help="Standard deviation of the noise, in [0, 1] pixel units.",
        show_default="what the checkpoint was trained with",
    ),
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
    typer.Option(
        "--randomized", help="The model draws its own random numbers, independently for every image of a batch."
    ),
]
BatchSize = Annotated[str, typer.Option(help="Images in one forward pass; auto measures which number is fastest.")]
Compile = Annotated[
    str, typer.Option(metavar="auto|on|off", help="torch.compile; auto does it where a long run gains from it.")
]
Device = Annotated[str, typer.Option(help="Where the network runs: auto, cpu, cuda or cuda:N.")]
Noise = Annotated[
    str, typer.Option(help="exact (sound in floating point), or float (as behind other tables, for comparison).")
]
Seed = Annotated[int | None, typer.Option(help="Seed of the noise.", show_default="drawn from the operating system")]
Arch = Annotated[
    str | None, typer.Option(help="Architecture of another project's weights: lenet, resnet20, timm:NAME …")
]
Normalize = Annotated[
    str | None,
    typer.Option(
        help="Normalisation in front of the model: none, cifar10, imagenet, or MEAN/STD as 0.5,0.5,0.5/0.2,0.2,0.2.",
        show_default="what a file of weights stores, else of weights cifar10 for CIFAR, else none",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output file instead of continuing it.")]
Check = Annotated[
    bool,
    typer.Option(
        " /--no-check", help="Skip the checks of `certify check`; the manifest records it.", show_default=False
    ),
]
Radii = Annotated[
    str | None,
    typer.Option(help="Radii of the printed table, such as 0,0.25,0.5; sequential and anytime decide these."),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="i/N", help="Certify every N-th image, beginning with the i-th; join the tables with `certify merge`."
    ),
]
Simultaneous = Annotated[
    bool, typer.Option("--simultaneous", help="Use alpha / images for each certificate, so that all hold together.")
]


@app.callback()
def shared(
    debug: Annotated[
        bool, typer.Option("--debug", envvar="CERTIFY_DEBUG", help="Print the traceback of an error as well.")
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
    labels: options.Labels = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    interpolation: options.Interpolation = None,
    grayscale: options.Grayscale = False,
    protocol: ProtocolName = "full",
    limit: Limit = None,
    sigma: Sigma = None,
    n0: Annotated[int, typer.Option(help="Samples for each image that select the class.")] = 100,
    n: Annotated[
        int | None,
        typer.Option(
            "--n",
            "-n",
            help="Samples for each image that estimate the class's probability; at most, for sequential and anytime.",
            show_default="100000; anytime 10000000",
        ),
    ] = None,
    alpha: Alpha = 0.001,
    procedure: Annotated[
        str,
        typer.Option(
            metavar="fixed|sequential|anytime",
            help="fixed draws n samples. sequential and anytime check the votes in between, and stop as soon as every "
            "radius of --radii is decided.",
        ),
    ] = "fixed",
    bound: Annotated[
        str,
        typer.Option(
            metavar="clopper-pearson|joint", help="Confidence bound; joint also bounds the runner-up, by its own votes."
        ),
    ] = "clopper-pearson",
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Stop when the radius is known to this relative precision; --radii are then printed and not decided."
        ),
    ] = None,
    looks: Annotated[
        str | None,
        typer.Option(
            help="Numbers of samples at which sequential checks the votes, such as 200,1000,10000.",
            show_default="200,500,1000 … n",
        ),
    ] = None,
    dtype: Precision = None,
    batch_size: BatchSize = "auto",
    compile: Compile = "auto",
    device: Device = "auto",
    noise: Noise = "exact",
    seed: Seed = None,
    out: Annotated[
        Path | None, options.new_file("Where the radius table is written.", "radii.tsv beside the checkpoint")
    ] = None,
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
    """Certify images: a table with a class and a radius for each.

    This is CERTIFY of Cohen et al. (2019): n0 samples select a class, and n new samples bound its probability. With
    --procedure sequential most images need a few hundred samples, at the same alpha.
    """
    from maxup_smoothing.certify.runs.images import ImageOptions
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
            images=ImageOptions(
                resize=resize, crop=crop, interpolation=interpolation, grayscale=grayscale, labels=labels
            ),
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
    radii: Annotated[
        str | None,
        typer.Option(
            help="Radii of the printed table, such as 0,0.25,0.5.", show_default="0,0.25 … the largest possible"
        ),
    ] = None,
    simultaneous: Simultaneous = False,
    norm: options.Norm = "l2",
    dimension: options.Dimension = None,
    top_k: options.TopK = None,
    format: Annotated[
        str, typer.Option(metavar="text|json", help="json is for other programs; see docs/evidence.md.")
    ] = "text",
) -> None:
    """Print the certified accuracy of a table at several radii.

    Each line has the count, its 95 % interval, and a 95 % lower bound for the population of images.
    """
    statement = evidence.Statement(norm=norm, dimension=dimension, top_k=top_k, simultaneous=simultaneous)
    wanted = arguments.radii(radii)
    if norm != "l2" and (doubt := beyond_l2(read(file))) is not None:
        raise ValueError(doubt)
    if format == "json":
        sys.stdout.write(evidence.encode(evidence.document(file, statement, wanted)))
    elif format == "text":
        print(summary.render(statement.of(read(file), evidence.manifest_of(file)), wanted))
    else:
        raise ValueError(f"--format must be text or json, got {format[:200]!r}.")


@app.command()
def predict(
    model: Model,
    data: Data = None,
    split: Split = "test",
    class_map: options.ClassMap = None,
    labels: options.Labels = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    interpolation: options.Interpolation = None,
    grayscale: options.Grayscale = False,
    protocol: ProtocolName = "full",
    limit: Limit = None,
    sigma: Sigma = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Samples for each image; at most, for sequential.")] = 1000,
    alpha: Annotated[
        float, typer.Option(help="Probability, at most, of a class that is not the smoothed classifier's.")
    ] = 0.001,
    procedure: Annotated[
        str,
        typer.Option(
            metavar="fixed|sequential",
            help="fixed draws n samples. sequential stops as soon as the votes decide, mostly after tens of samples.",
        ),
    ] = "fixed",
    dtype: Precision = None,
    batch_size: BatchSize = "auto",
    compile: Compile = "auto",
    device: Device = "auto",
    noise: Noise = "exact",
    seed: Seed = None,
    out: Annotated[
        Path | None,
        options.new_file("Where the predicted classes are written.", "predictions.tsv beside the checkpoint"),
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
    """Classify images with the smoothed classifier, or abstain.

    This is PREDICT of Cohen et al. (2019). It abstains if n samples do not decide.
    """
    from maxup_smoothing.certify.runs.images import ImageOptions
    from maxup_smoothing.certify.runs.launch import predict_request
    from maxup_smoothing.certify.runs.session import Request
    from maxup_smoothing.certify.statistics.prediction import PredictionSettings

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
            images=ImageOptions(
                resize=resize, crop=crop, interpolation=interpolation, grayscale=grayscale, labels=labels
            ),
        ),
        PredictionSettings(n=n, alpha=alpha, procedure=procedure),
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
