"""The commands that write whole reports: report (HTML), results (Markdown) and search-log."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from maxup_smoothing.analysis.commands.inputs import TABLE, holding, meant, require_no_table, tables_of
from maxup_smoothing.analysis.figures import curves
from maxup_smoothing.analysis.literature.claims import load_claims
from maxup_smoothing.analysis.literature.curves import load_published
from maxup_smoothing.analysis.report.page import build_page
from maxup_smoothing.analysis.report.subjects import load_subjects
from maxup_smoothing.analysis.results.document import build_report
from maxup_smoothing.analysis.results.search import search_log_text
from maxup_smoothing.analysis.runs.evaluated import ACCURACY
from maxup_smoothing.analysis.runs.kinds import load_runs
from maxup_smoothing.analysis.runs.language import PERPLEXITY
from maxup_smoothing.data.runtime.atomic import write_atomically

_SUFFIXES = (".html", ".htm")

Folders = Annotated[list[Path], typer.Argument(metavar="FOLDER...", show_default=False, help="Run folders.")]

_RESULTS = (TABLE, ACCURACY, PERPLEXITY)  # what makes a folder one of results


def results(
    folders: Folders,
    out: Annotated[Path, typer.Option(show_default=False, help="File of the report, which ends in .md.")],
    control: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Run that all others are compared with; may be repeated.")
    ] = None,
) -> None:
    """Write what run folders say as a Markdown report with figures.

    A folder is of a certified classifier (radii.tsv, of `certify run`), of one whose accuracy on test images was
    measured (test.json, of `python -m train.evaluate`), or of both, or of a language model (perplexity.json, written
    when its training ends). All may be named together: each data set has its sections.
    """
    if out.suffix != ".md":
        raise ValueError(f"--out must end in .md, got {out}.")
    if out.is_file() and not out.read_bytes().startswith(b"# Results\n"):
        raise ValueError(f"{out} is no report of this command, and would be overwritten; give another --out.")
    folders = holding(folders, _RESULTS, "radius table, test accuracy or perplexity")
    if not any((folders[0] / name).is_file() for name in _RESULTS) and (below := meant(folders[0], _RESULTS)):
        raise ValueError(f"{folders[0]} has none of {', '.join(_RESULTS)}; did you mean {below}?")
    report = build_report(load_runs(folders), control or [], load_published(), out.stem, load_claims())
    figure_folder = out.with_suffix("")
    for name, figure in report.figures.items():
        write_atomically(figure_folder / name, curves.encode(figure, ".png"))
    write_atomically(out, report.markdown.encode())
    drawn = ", ".join(str(figure_folder / name) for name in report.figures)
    print(f"wrote {out}" + (f" and {drawn}" if drawn else ""))


def search_log(folders: Folders) -> None:
    """Print what differs between runs and what held-out images say of each, the best first, in Markdown."""
    sys.stdout.write(search_log_text(folders))


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", show_default=False, help="Run folders, radius tables or logs.")
    ],
    out: Annotated[Path, typer.Option(show_default=False, help="File of the page, which ends in .html.")],
    data_root: Annotated[
        Path | None,
        typer.Option(envvar="DATA_ROOT", help="Folder of the data sets, for pictures; nothing is downloaded."),
    ] = None,
    control: Annotated[
        str | None, typer.Option(metavar="NAME", help="Run that the others are compared with; by default the first.")
    ] = None,
) -> None:
    """Write one self-contained HTML page about runs: what was certified, how sure it is, and which is better."""
    if out.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"--out must end in .html, got {out}.")
    files = tables_of(runs)
    if any(out.resolve() == file.resolve() for file in files):
        raise ValueError(f"{out} is one of the runs, which would be overwritten; give another --out.")
    require_no_table(out)
    page = build_page(load_subjects(files), data_root=data_root, control=control)
    write_atomically(out, page.encode())
    print(f"wrote {out}")
