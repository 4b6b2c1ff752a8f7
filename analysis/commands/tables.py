"""Certified accuracy of runs as curves and as tables, whole or in parts."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from maxup_smoothing.analysis import tables
from maxup_smoothing.analysis.commands.inputs import (
    Dimension,
    FigureOut,
    Files,
    Labels,
    Norm,
    TopK,
    data_sets,
    divided,
    load,
    load_curves,
    numbers,
    require_figure,
    require_no_table,
    subject_of,
    tables_of,
    write_figure,
)
from maxup_smoothing.analysis.comparison.settings import different_norm
from maxup_smoothing.analysis.figures import classes, curves
from maxup_smoothing.analysis.literature.curves import (
    Published,
    different_conditions,
    load_published,
    published_beside,
    require_data,
)
from maxup_smoothing.analysis.runs import run as runs
from maxup_smoothing.analysis.runs.run import Run, Traced
from maxup_smoothing.certify.tables.evidence import Statement
from maxup_smoothing.certify.tables.summary import radii_of
from maxup_smoothing.data.runtime import console
from maxup_smoothing.data.runtime.atomic import write_atomically

By = Annotated[str, typer.Option(help="Parts of the images: class, or difficulty by --reference.")]
Reference = Annotated[Path | None, typer.Option(help="Another classifier's table, which tells hard images from easy.")]


def curve(
    files: Files,
    out: FigureOut,
    radii_max: Annotated[float | None, typer.Option(help="Last radius shown; by default all of the curves.")] = None,
    labels: Labels = None,
    title: Annotated[
        str | None, typer.Option(help="Shown above the axes; by default data, network and sigma of all runs.")
    ] = None,
    envelope: Annotated[
        bool, typer.Option("--envelope", help="Add the best run at each radius, which is not one classifier.")
    ] = False,
    published: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Draw published results at the runs' sigma behind them, as points."),
    ] = None,
    norm: Norm = "l2",
    dimension: Dimension = None,
    top_k: TopK = None,
) -> None:
    """Draw certified accuracy over the radius into a figure."""
    require_figure(out)
    statement = Statement(norm=norm, dimension=dimension, top_k=top_k)
    if published is not None and statement != Statement():
        raise ValueError("--published shows l2 radii of the predicted class; leave out --norm and --top-k beside it.")
    files = tables_of(files)
    found = load_curves(files, labels)
    loaded, traced = [one for one in found if isinstance(one, Run)], [one for one in found if isinstance(one, Traced)]
    files = [file for file, one in zip(files, found, strict=True) if isinstance(one, Run)]
    if traced and statement != Statement():
        raise ValueError(f"{traced[0].name} is a curve without images, which --norm and --top-k cannot state anew.")
    loaded = runs.stated(loaded, files, statement)
    if envelope and (differing := different_norm(loaded)) is not None:
        raise ValueError(f"--envelope shows the best run at each radius, and {differing}.")
    if not loaded and (envelope or published is not None):
        raise ValueError("--envelope and --published are for logs of images; name one, or leave them out.")
    sigmas = {run.summary.sigma for run in loaded}
    behind = list[Published]()
    if published is not None:
        told = data_sets(files, loaded)
        require_data(published, told)
        behind = published_beside(load_published(), published, sigmas, loaded[0].table["idx"])
        if (warning := different_conditions(behind, [run.summary for run in loaded], told.values())) is not None:
            print(console.one_line(f"warning: {warning}."), file=sys.stderr)
    title = subject_of(files, loaded) if title is None else title
    write_figure(curves.draw(loaded, traced, end=radii_max, title=title, envelope=envelope, published=behind), out)


def table(
    files: Files,
    radii: Annotated[str | None, typer.Option(help="Such as 0,0.25,0.5; by default to the largest ceiling.")] = None,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(tables.FORMATS)}.")] = "csv",
    out: Annotated[Path | None, typer.Option(help="Write here instead of printing.")] = None,
    labels: Labels = None,
    by: Annotated[str | None, typer.Option(help="Parts of one run: class, or difficulty by --reference.")] = None,
    reference: Reference = None,
    population: Annotated[
        bool, typer.Option("--population", help="Lower bounds for the population instead of intervals.")
    ] = False,
    simultaneous: Annotated[
        bool, typer.Option("--simultaneous", help="Each certificate at alpha / images: all are true together.")
    ] = False,
    norm: Norm = "l2",
    dimension: Dimension = None,
    top_k: TopK = None,
) -> None:
    """Print or write certified accuracies at chosen radii, a line a run or a part of one."""
    if format not in tables.FORMATS:
        raise ValueError(f"--format must be one of {', '.join(tables.FORMATS)}, got {format!r}.")
    if out is not None:
        require_no_table(out)
    chosen = None if radii is None else numbers(radii)
    files = tables_of(files)
    statement = Statement(norm=norm, dimension=dimension, top_k=top_k, simultaneous=simultaneous)
    loaded = runs.stated(load(files, labels), files, statement)
    chosen = chosen or max((radii_of(run.table) for run in loaded), key=len)
    if by is not None:
        loaded = divided(_single(loaded), files[0], by, reference)
    text = tables.FORMATS[format](loaded, chosen, "population" if population else "interval")
    if out is None:
        sys.stdout.write(text)
    else:
        write_atomically(out, text.encode())
        print(f"wrote {out}")


def parts(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="A radius table or run folder.")],
    out: FigureOut,
    by: By = "class",
    reference: Reference = None,
    radii: Annotated[str | None, typer.Option(help="One to four; by default 0 and even steps to the ceiling.")] = None,
) -> None:
    """Draw certified accuracy of each class, or of hard and easy images, into a figure."""
    require_figure(out)
    chosen = None if radii is None else numbers(radii)
    run = load([file])[0]
    if chosen is None:
        steps = radii_of(run.table)
        chosen = steps[:: -(-len(steps) // 4)]
    write_figure(classes.draw_parts(divided(run, file, by, reference), chosen, title=run.name), out)


def _single(loaded: list[runs.Run]) -> runs.Run:
    if len(loaded) > 1:
        raise ValueError(f"--by divides one run, got {len(loaded)}; call it for each.")
    return loaded[0]
