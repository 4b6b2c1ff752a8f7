"""Commands that work on finished tables: ``certify show``, ``recompute``, ``merge`` and ``audit``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from maxup_smoothing.certify.audit.auditing import audit_log, render
from maxup_smoothing.certify.commands import arguments, options
from maxup_smoothing.certify.distributed.merge import merge_tables
from maxup_smoothing.certify.logs.settings import beyond_l2
from maxup_smoothing.certify.statistics import rounding
from maxup_smoothing.certify.statistics.certificate import BOUNDS
from maxup_smoothing.certify.statistics.norms import require_norm
from maxup_smoothing.certify.tables import evidence, summary
from maxup_smoothing.certify.tables.location import tables_in
from maxup_smoothing.certify.tables.radius_table import read
from maxup_smoothing.certify.tables.recompute import recompute_table

Files = Annotated[
    list[Path],
    typer.Argument(metavar="FILE...", help="Radius tables, or their run folders.", callback=tables_in),
]
Out = Annotated[
    Path,
    typer.Option(parser=options.new_table, metavar="FILE|FOLDER/", help="The new radius table, another file."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output file.")]


def show(
    file: Annotated[Path, options.table_argument()],
    radii: Annotated[
        str | None,
        typer.Option(
            help="Radii of the printed table, such as 0,0.25,0.5.", show_default="0,0.25 … the largest possible"
        ),
    ] = None,
    simultaneous: options.Simultaneous = False,
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


def recompute(
    file: Annotated[Path, options.table_argument()],
    out: Out,
    alpha: Annotated[
        float | None, typer.Option(help="Failure probability of each certificate.", show_default="the table's own")
    ] = None,
    bound: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(BOUNDS),
            help="Confidence bound; joint also bounds the runner-up, by its own votes.",
            show_default="the table's own",
        ),
    ] = None,
    n: Annotated[
        int | None, typer.Option(min=1, help="Use only this many of the votes.", show_default="all of them")
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k",
            metavar="K",
            help="Add a column with the radius within which the label stays among the first K classes.",
            show_default="no such column",
        ),
    ] = None,
    norm: Annotated[str, typer.Option(hidden=True)] = "l2",
    overwrite: Overwrite = False,
) -> None:
    """Compute new radii from the votes that a table stores.

    The new radii may have another alpha, another bound or fewer samples. Neither model nor images are needed. Choose
    the settings before you see the results, or alpha no longer holds.
    """
    require_norm(norm)
    if norm != "l2":
        raise ValueError(
            "a radius table holds l2 radii, which every reader takes them for, so none is written in another norm; "
            f"read it in {norm} with `certify show {file} --norm {norm}`."
        )
    recompute_table(file, out, alpha=alpha, bound=bound, n=n, top_k=top_k, overwrite=overwrite)
    old, new = read(file), read(out)
    print(summary.render(new))
    if top_k is not None:
        print(f"\n{summary.render(evidence.Statement(top_k=top_k).of(new, evidence.manifest_of(out)))}")
    radii = max(summary.radii_of(old), summary.radii_of(new), key=len)
    before, after = (summary.certified_share(table, radii)["certified"] for table in (old, new))
    print(f"\n{'radius':>8}  {'before':>13}  {'after':>13}   of {len(new)} images")
    for radius, was, now in zip(radii, before, after, strict=True):
        print(f"{rounding.radius_text(radius):>8}  {was:>13}  {now:>13}")


def merge(files: Files, out: Out, overwrite: Overwrite = False) -> None:
    """Join several tables into one.

    The tables must have the same model, data, noise and settings. They may hold different images.
    """
    merge_tables(files, out, overwrite=overwrite)
    print(summary.render(read(out)))


def audit(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="Radius tables, run folders, or logs of other projects.",
            callback=options.logs_in,
        ),
    ],
    n: Annotated[int | None, typer.Option(help="Number of samples, if a log does not record it.")] = None,
    alpha: Annotated[float | None, typer.Option(help="Failure probability, if a log does not record it.")] = None,
    sigma: Annotated[
        float | None, typer.Option(help="Standard deviation of the noise, if a log does not record it.")
    ] = None,
) -> None:
    """Check whether the radii of tables, and of other projects' logs, are possible.

    The exit status is 1 if any of them has an error.
    """
    results = [audit_log(file, n=n, alpha=alpha, sigma=sigma) for file in files]
    print("\n\n".join(render(result) for result in results))
    if not all(result.ok for result in results):
        raise typer.Exit(1)
