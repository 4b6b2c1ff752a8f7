"""The commands that draw figures or print tables: curve, table, groups, votes, samples and attack-bounds."""

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
    divided,
    load,
    load_curves,
    numbers,
    require_figure,
    require_no_table,
    tables_of,
    write_figure,
)
from maxup_smoothing.analysis.comparison.settings import different_norm
from maxup_smoothing.analysis.figures import attack_bounds as bounds
from maxup_smoothing.analysis.figures import classes, curves
from maxup_smoothing.analysis.figures import votes as distributions
from maxup_smoothing.analysis.literature.curves import (
    Published,
    different_conditions,
    load_published,
    published_beside,
    require_data,
)
from maxup_smoothing.analysis.runs import run as runs
from maxup_smoothing.analysis.runs.run import Run, Traced
from maxup_smoothing.certify.attack.table import read_attacks
from maxup_smoothing.certify.logs.reader import read_log
from maxup_smoothing.certify.logs.settings import L2, norm_of
from maxup_smoothing.certify.tables.evidence import Statement
from maxup_smoothing.certify.tables.summary import radii_of
from maxup_smoothing.data.runtime import console
from maxup_smoothing.data.runtime.atomic import write_atomically

By = Annotated[str, typer.Option(help="How images are divided: class, or difficulty with --reference.")]
Reference = Annotated[Path | None, typer.Option(help="Another classifier's table, by which images are hard or easy.")]


def curve(
    files: Files,
    out: FigureOut,
    radii_max: Annotated[
        float | None, typer.Option(help="Last radius shown; by default the end of the curves.")
    ] = None,
    labels: Labels = None,
    title: Annotated[
        str | None, typer.Option(help="Title; by default the data, network and sigma that all runs share.")
    ] = None,
    envelope: Annotated[
        bool, typer.Option("--envelope", help="Add the best run at each radius; that is not one classifier.")
    ] = False,
    published: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Draw published results of this data set at the runs' sigma, as points."),
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
    found = load_curves(tables_of(files), labels)
    loaded, traced = [one for one in found if isinstance(one, Run)], [one for one in found if isinstance(one, Traced)]
    if traced and statement != Statement():
        raise ValueError(f"{traced[0].name} is a curve without images, which --norm and --top-k cannot state anew.")
    loaded = runs.stated(loaded, statement)
    if envelope and (differing := different_norm(loaded)) is not None:
        raise ValueError(f"--envelope shows the best run at each radius, and {differing}.")
    if not loaded and (envelope or published is not None):
        raise ValueError("--envelope and --published are for logs of images; name one, or leave them out.")
    sigmas = {run.summary.sigma for run in loaded}
    behind = list[Published]()
    if published is not None:
        told = {run.name: run.dataset for run in loaded}
        require_data(published, told)
        behind = published_beside(load_published(), published, sigmas, loaded[0].table["idx"])
        if (warning := different_conditions(behind, [run.summary for run in loaded], told.values())) is not None:
            print(console.one_line(f"warning: {warning}."), file=sys.stderr)
    title = runs.common_conditions(loaded) if title is None else title
    write_figure(curves.draw(loaded, traced, end=radii_max, title=title, envelope=envelope, published=behind), out)


def table(
    files: Files,
    radii: Annotated[
        str | None, typer.Option(help="Radii, such as 0,0.25,0.5; by default up to the largest ceiling.")
    ] = None,
    format: Annotated[str, typer.Option(help=f"Format of the table: {', '.join(tables.FORMATS)}.")] = "csv",
    out: Annotated[Path | None, typer.Option(help="File to write instead of printing.")] = None,
    labels: Labels = None,
    by: Annotated[str | None, typer.Option(help="Divide one run by class, or by difficulty with --reference.")] = None,
    reference: Reference = None,
    population: Annotated[
        bool, typer.Option("--population", help="Print lower bounds for the population instead of intervals.")
    ] = False,
    simultaneous: Annotated[
        bool, typer.Option("--simultaneous", help="Read each certificate at alpha / images, so that all hold together.")
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
    statement = Statement(norm=norm, dimension=dimension, top_k=top_k, simultaneous=simultaneous)
    loaded = runs.stated(load(tables_of(files), labels), statement)
    chosen = chosen or max((radii_of(run.table) for run in loaded), key=len)
    if by is not None:
        loaded = divided(_single(loaded), by, reference)
    text = tables.FORMATS[format](loaded, chosen, "population" if population else "interval")
    if out is None:
        sys.stdout.write(text)
    else:
        write_atomically(out, text.encode())
        print(f"wrote {out}")


def groups(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="A radius table or run folder.")],
    out: FigureOut,
    by: By = "class",
    reference: Reference = None,
    radii: Annotated[
        str | None, typer.Option(help="One to four radii; by default 0 and even steps to the ceiling.")
    ] = None,
) -> None:
    """Draw certified accuracy of each class, or of hard and easy images, into a figure."""
    require_figure(out)
    chosen = None if radii is None else numbers(radii)
    run = load([file])[0]
    if chosen is None:
        steps = radii_of(run.table)
        chosen = steps[:: -(-len(steps) // 4)]
    write_figure(classes.draw_parts(divided(run, by, reference), chosen, title=run.name), out)


def _single(loaded: list[runs.Run]) -> runs.Run:
    if len(loaded) > 1:
        raise ValueError(f"--by divides one run, got {len(loaded)}; call it for each.")
    return loaded[0]


def votes(files: Files, out: FigureOut, labels: Labels = None) -> None:
    """Draw the distribution, over images, of the share of noisy copies classified rightly."""
    require_figure(out)
    write_figure(distributions.draw_shares(load(tables_of(files), labels)), out)


def samples(files: Files, out: FigureOut, labels: Labels = None) -> None:
    """Draw how many samples were spent on how many images."""
    require_figure(out)
    write_figure(distributions.draw_samples(load(tables_of(files), labels)), out)


def attack_bounds(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="A radius table or run folder.")],
    attacked: Annotated[
        list[str],
        typer.Option(
            metavar="FILE|EPS=FILE",
            show_default=False,
            help="A table of `certify attack`, or predictions of images attacked at EPS; may be repeated.",
        ),
    ],
    out: FigureOut,
) -> None:
    """Draw certified accuracy from below and accuracy under attack from above."""
    require_figure(out)
    run = load([file])[0]
    if norm_of(run.table) != L2:
        raise ValueError(f"attacks here are measured in l2, and the radii of {run.name} are not; name an l2 log.")
    certified = run.summary.images
    attacks: dict[float, bounds.Attacked] = {}
    for item in attacked:
        if "=" not in item and Path(item).is_file():
            rows = read_attacks(item)
            found = bounds.attacks_of(run, rows)
            run = bounds.attacked_part(run, rows)
            if not attacks.keys().isdisjoint(found):
                raise ValueError(f"--attacked must name each EPS once, but {item} has one that was named before.")
            attacks |= found
            continue
        text, _, path = item.partition("=")
        try:
            epsilon = float(text)
        except ValueError:
            raise ValueError(
                f"--attacked must be EPS=FILE, such as 0.25=attacked.tsv, or a table of `certify attack`, got {item!r}."
            ) from None
        if not path or epsilon in attacks:
            raise ValueError(f"--attacked must name a file and each EPS once, got {item!r}.")
        attacks[epsilon] = bounds.under_attack(run, epsilon, read_log(path).table)
    write_figure(bounds.draw_attack_bounds(run, attacks, title=runs.common_conditions([run]), certified=certified), out)
    for attack in attacks.values():
        if attack.broken:
            shown = ", ".join(map(str, attack.broken[:10]))
            raise ValueError(
                f"ALARM: {len(attack.broken)} images were predicted wrongly within their certified radius at epsilon "
                f"{attack.epsilon:g} (idx {shown}): confirm with PREDICT at a strict alpha, and that both files are of "
                "one classifier and the norm is l2."
            )
