"""Reports that stand by themselves: of run folders in Markdown, and of a search."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from analysis import figures, run_folders
from analysis.experiments import experiments_text
from analysis.published import load_published
from analysis.results import build_report
from data.files import write_atomically

Folders = Annotated[list[Path], typer.Argument(metavar="FOLDER...", show_default=False, help="Run folders.")]


def results(
    folders: Folders,
    out: Annotated[Path, typer.Option(show_default=False, help="The report: a file that ends in .md.")],
    control: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Compare all runs with this one; may be given again.")
    ] = None,
) -> None:
    """Write what run folders say as a Markdown report with figures."""
    if out.suffix != ".md":
        raise ValueError(f"--out must end in .md, got {out}.")
    if out.is_file() and not out.read_bytes().startswith(b"# Results\n"):
        raise ValueError(f"{out} is no report of this command, and would be overwritten; give another --out.")
    report = build_report(run_folders.load_folders(folders), control or [], load_published(), out.stem)
    figure_folder = out.with_suffix("")
    for name, figure in report.figures.items():
        write_atomically(figure_folder / name, figures.encode(figure, ".png"))
    write_atomically(out, report.markdown.encode())
    print(f"wrote {out} and {', '.join(str(figure_folder / name) for name in report.figures)}")


def experiments(folders: Folders) -> None:
    """Print what differs between runs and what held-out images say of each, the best first, in Markdown."""
    sys.stdout.write(experiments_text(folders))
