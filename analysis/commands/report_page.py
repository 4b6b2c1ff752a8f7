"""One HTML page that explains runs to someone who has never seen the project."""

from pathlib import Path
from typing import Annotated

import typer

from maxup_smoothing.analysis.commands.inputs import require_no_table, tables_of
from maxup_smoothing.analysis.report.page import build_page
from maxup_smoothing.analysis.report.subjects import load_subjects
from maxup_smoothing.data.runtime.atomic import write_atomically

_SUFFIXES = (".html", ".htm")


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", show_default=False, help="Run folders, radius tables or logs.")
    ],
    out: Annotated[Path, typer.Option(show_default=False, help="The page: a file that ends in .html.")],
    data_root: Annotated[
        Path | None,
        typer.Option(envvar="DATA_ROOT", help="Where data sets lie, for pictures; nothing is downloaded."),
    ] = None,
    control: Annotated[
        str | None, typer.Option(metavar="NAME", help="Compare with this run; by default with the first.")
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
