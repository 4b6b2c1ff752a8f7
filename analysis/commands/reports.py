"""The commands that write whole reports: report (HTML), results (Markdown) and search-log."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from maxup_smoothing.analysis.commands.inputs import TABLE, holding, meant, require_no_table, tables_of
from maxup_smoothing.analysis.figures import curves
from maxup_smoothing.analysis.literature.claims import load_claims
from maxup_smoothing.analysis.literature.curves import load_published
from maxup_smoothing.analysis.report.model_card import MARK, build_card
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

    A folder holds radii.tsv of `certify run`, test.json of `python -m train.evaluate`, both, or perplexity.json, which
    the training of a language model writes. All may be named together: each data set has its sections.
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
    model_card: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.md", help="Also write a model card of the one run, with metadata for the Hugging Face hub."
        ),
    ] = None,
) -> None:
    """Write one self-contained HTML page about runs: what was certified, how sure it is, and which is better."""
    if out.suffix.lower() not in _SUFFIXES:
        raise ValueError(f"--out must end in .html, got {out}.")
    files = tables_of(runs)
    if any(out.resolve() == file.resolve() for file in files):
        raise ValueError(f"{out} is one of the runs, which would be overwritten; give another --out.")
    require_no_table(out)
    if model_card is not None:
        _require_card(model_card, files)
    subjects = load_subjects(files)
    page = build_page(subjects, data_root=data_root, control=control)
    card = None if model_card is None else build_card(subjects[0])
    write_atomically(out, page.encode())
    print(f"wrote {out}")
    if model_card is not None and card is not None:
        write_atomically(model_card, card.encode())
        print(f"wrote {model_card}")


def _require_card(file: Path, runs: Sequence[Path]) -> None:
    """Refuse a card of several runs, and a file that is none of our cards, before anything is written.

    Raises:
        ValueError: With the fix.
    """
    if len(runs) != 1:
        raise ValueError(f"--model-card is about one run, got {len(runs)}; call it for each.")
    if file.suffix.lower() != ".md":
        raise ValueError(f"--model-card must end in .md, got {file}.")
    if file.is_file() and MARK.encode() not in file.read_bytes():
        raise ValueError(f"{file} is no card of this command, and would be overwritten; give another --model-card.")
