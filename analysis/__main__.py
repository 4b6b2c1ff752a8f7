"""Figures and tables from radius tables.

Draw certified accuracy over the radius, one curve a run, each with its
pointwise 95 % confidence band and with its ceiling, the radius above which
its n votes can certify nothing:

    python -m analysis curve runs/*/radii.tsv --out curve.png

Print certified accuracies at chosen radii, a line a run, as CSV, Markdown or
LaTeX, with the 95 % interval or, by --population, with a 95 % lower bound on
the share of all images that is truly robust, which allows for false
certificates; by --simultaneous with all certificates of a run true together:

    python -m analysis table runs/*/radii.tsv --radii 0,0.25,0.5

Write a report in Markdown, with its figures in a folder beside it, of run
folders, in which training and certification lie together: certified accuracy,
ACR, paired comparisons with a control, published numbers, and all conditions:

    python -m analysis results runs/* --control gaussian --out docs/results.md

Print the log of a search for a recipe, from run folders that certified
held-out images while they trained; test images are not looked at:

    python -m analysis experiments runs/search/*

FILE is a table that `certify` wrote, or another project's log with at least
the columns idx, label, predict, radius, correct and time. A run is called NAME
where its file is NAME/radii.tsv, and as the file otherwise.

Certified accuracy at r is the share, among all images, of those predicted
rightly and certified at a radius of r or more. Accuracies and radii are
rounded down, never up.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from analysis import figures, run_folders, runs, tables
from analysis.experiments import experiments_text
from analysis.published import load_published
from analysis.results import build_report
from certify.summary import radii_of
from data import console
from data.files import write_atomically

app = typer.Typer(
    help=console.manual(__doc__),
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Files = Annotated[list[Path], typer.Argument(metavar="FILE...", show_default=False, help="Radius tables.")]
Labels = Annotated[str | None, typer.Option(help="Names of the runs, separated by commas, in the order of the files.")]


@app.command()
def curve(
    files: Files,
    out: Annotated[Path, typer.Option(show_default=False, help="The figure: .png, .svg or .pdf.")],
    radii_max: Annotated[float | None, typer.Option(help="Last radius shown; by default all of the curves.")] = None,
    labels: Labels = None,
    title: Annotated[str | None, typer.Option(help="Shown above the axes.")] = None,
) -> None:
    """Draw certified accuracy over the radius into a figure."""
    figures.require_format(out.suffix)
    _require_no_table(out)
    loaded = _load(files, labels)
    write_atomically(out, figures.encode(figures.draw(loaded, end=radii_max, title=title), out.suffix))
    print(f"wrote {out}")


@app.command()
def table(
    files: Files,
    radii: Annotated[str | None, typer.Option(help="Such as 0,0.25,0.5; by default to the largest ceiling.")] = None,
    format: Annotated[str, typer.Option(help=f"One of {', '.join(tables.FORMATS)}.")] = "csv",
    out: Annotated[Path | None, typer.Option(help="Write here instead of printing.")] = None,
    labels: Labels = None,
    population: Annotated[
        bool, typer.Option("--population", help="Lower bounds for the population instead of intervals.")
    ] = False,
    simultaneous: Annotated[
        bool, typer.Option("--simultaneous", help="Each certificate at alpha / images: all are true together.")
    ] = False,
) -> None:
    """Print or write certified accuracies at chosen radii, a line a run."""
    if format not in tables.FORMATS:
        raise ValueError(f"--format must be one of {', '.join(tables.FORMATS)}, got {format!r}.")
    if out is not None:
        _require_no_table(out)
    chosen = None if radii is None else _numbers(radii)
    loaded = _load(files, labels)
    if simultaneous:
        loaded = runs.simultaneous(loaded)
    chosen = chosen or max((radii_of(run.table) for run in loaded), key=len)
    text = tables.FORMATS[format](loaded, chosen, "population" if population else "interval")
    if out is None:
        sys.stdout.write(text)
    else:
        write_atomically(out, text.encode())
        print(f"wrote {out}")


@app.command()
def results(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", show_default=False, help="Run folders.")],
    out: Annotated[Path, typer.Option(show_default=False, help="The report: a file that ends in .md.")],
    control: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Compare all runs with this one; may be given again.")
    ] = None,
) -> None:
    """Write what run folders say as a Markdown report with figures."""
    if out.suffix != ".md":
        raise ValueError(f"--out must end in .md, got {out}.")
    report = build_report(run_folders.load_folders(folders), control or [], load_published(), out.stem)
    figure_folder = out.with_suffix("")
    for name, figure in report.figures.items():
        write_atomically(figure_folder / name, figures.encode(figure, ".png"))
    write_atomically(out, report.markdown.encode())
    print(f"wrote {out} and {', '.join(str(figure_folder / name) for name in report.figures)}")


@app.command()
def experiments(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", show_default=False, help="Run folders.")],
) -> None:
    """Print what differs between runs and what held-out images say of each, the best first, in Markdown."""
    sys.stdout.write(experiments_text(folders))


def main() -> None:
    """Run the command line: one line on stderr and status 2 for what a user can mend."""
    console.run(app)


def _load(files: Sequence[Path], labels: str | None) -> list[runs.Run]:
    loaded = runs.load(files, None if labels is None else [label.strip() for label in labels.split(",")])
    if (warning := runs.different_images(loaded)) is not None:
        print(f"warning: {warning}", file=sys.stderr)
    return loaded


def _require_no_table(out: Path) -> None:
    """A slip in the arguments must not cost hours of certification."""
    if out.is_file() and out.read_bytes()[:17] == b"idx\tlabel\tpredict":
        raise ValueError(f"{out} is a radius table, which would be overwritten; give another --out.")


def _numbers(text: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"--radii must be numbers separated by commas, such as 0,0.25,0.5, got {text!r}.") from None
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"--radii must name each radius once, got {text!r}.")
    return numbers


if __name__ == "__main__":
    main()
