"""``certify run`` and ``certify predict``: certificates, or classes, for the images of a data set."""

from pathlib import Path
from typing import Annotated

import typer

from maxup_smoothing.certify.commands import arguments, options
from maxup_smoothing.certify.statistics.certificate import BOUNDS, PROCEDURES
from maxup_smoothing.certify.statistics.procedure import ProcedureSettings
from maxup_smoothing.certify.tables import summary
from maxup_smoothing.certify.tables.radius_table import read


def run(
    model: options.Model,
    data: options.Data = None,
    split: options.Split = "test",
    class_map: options.ClassMap = None,
    labels: options.Labels = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    interpolation: options.Interpolation = None,
    grayscale: options.Grayscale = False,
    protocol: options.ProtocolName = "full",
    limit: options.Limit = None,
    sigma: options.Sigma = None,
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
    alpha: options.Alpha = 0.001,
    procedure: Annotated[
        str,
        typer.Option(
            metavar="|".join(PROCEDURES),
            help="fixed draws n samples. sequential and anytime check the votes in between, and stop as soon as every "
            "radius of --radii is decided.",
        ),
    ] = "fixed",
    bound: Annotated[
        str,
        typer.Option(
            metavar="|".join(BOUNDS), help="Confidence bound; joint also bounds the runner-up, by its own votes."
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
    dtype: options.Precision = None,
    batch_size: options.BatchSize = "auto",
    compile: options.Compile = "auto",
    device: options.Device = "auto",
    noise: options.Noise = "exact",
    seed: options.Seed = None,
    out: Annotated[
        Path | None, options.new_file("Where the radius table is written.", "radii.tsv beside the checkpoint")
    ] = None,
    overwrite: options.Overwrite = False,
    radii: options.Radii = None,
    arch: options.Arch = None,
    normalize: options.Normalize = None,
    weights: options.Weights = None,
    data_root: options.DataRoot = None,
    check: options.Check = True,
    shard: options.Shard = None,
    randomized: options.Randomized = False,
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


def predict(
    model: options.Model,
    data: options.Data = None,
    split: options.Split = "test",
    class_map: options.ClassMap = None,
    labels: options.Labels = None,
    resize: options.Resize = None,
    crop: options.Crop = None,
    interpolation: options.Interpolation = None,
    grayscale: options.Grayscale = False,
    protocol: options.ProtocolName = "full",
    limit: options.Limit = None,
    sigma: options.Sigma = None,
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
    dtype: options.Precision = None,
    batch_size: options.BatchSize = "auto",
    compile: options.Compile = "auto",
    device: options.Device = "auto",
    noise: options.Noise = "exact",
    seed: options.Seed = None,
    out: Annotated[
        Path | None,
        options.new_file("Where the predicted classes are written.", "predictions.tsv beside the checkpoint"),
    ] = None,
    overwrite: options.Overwrite = False,
    arch: options.Arch = None,
    normalize: options.Normalize = None,
    weights: options.Weights = None,
    data_root: options.DataRoot = None,
    check: options.Check = True,
    shard: options.Shard = None,
    randomized: options.Randomized = False,
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
