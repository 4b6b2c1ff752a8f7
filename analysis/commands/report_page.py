"""One HTML page that explains runs to someone who has never seen the project."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from maxup_smoothing.analysis.commands.inputs import require_no_table, tables_of
from maxup_smoothing.analysis.report.model_card import MARK, build_card
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
