"""The command that reads another project's log and writes it as a radius table."""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from maxup_smoothing.analysis.commands.inputs import print_notes, require_no_table, table_of
from maxup_smoothing.certify.logs.reader import read_log
from maxup_smoothing.certify.statistics.rounding import floor_text
from maxup_smoothing.certify.tables.fields import format_seconds
from maxup_smoothing.certify.tables.row import FIELD_COLUMNS
from maxup_smoothing.certify.tables.summary import render, summarize
from maxup_smoothing.data.runtime.atomic import write_atomically

_KEPT = ("sigma", "alpha", "n", "norm")  # what a table needs to be compared; votes and bounds stay in the log


def import_(
    file: Annotated[Path, typer.Argument(metavar="LOG", show_default=False, help="A log, or the folder of one.")],
    sigma: Annotated[float | None, typer.Option(help="Standard deviation of the noise, in [0, 1] pixel units.")] = None,
    n: Annotated[int | None, typer.Option(help="Number of estimation samples.")] = None,
    alpha: Annotated[float | None, typer.Option(help="One-sided failure probability.")] = None,
    norm: Annotated[
        str | None,
        typer.Option(help="Norm of the radii: l1, linf, another word, or l2, which is assumed otherwise."),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File to write as a radius table.")] = None,
) -> None:
    """Print what another project's log is and its results, and write it as a radius table with --out."""
    if out is not None:
        require_no_table(out)
        if out.exists() and out.samefile(file):
            raise ValueError(f"{out} is the log itself, which would be overwritten; give another --out.")
    log = read_log(table_of(file), sigma, n, alpha, norm)
    print_notes(log.notes, file.name)
    print(f"{log.dialect}, {log.kind}, {len(log.table)} rows")
    if "radius" not in log.table or log.kind == "curve":
        if out is not None:
            raise ValueError(
                f"{file} is a log of {log.kind}, without radii of images: no radius table can be made of it."
            )
        return
    table, lowered = _capped(log.table)
    print(f"\n{render(table)}")
    if lowered:
        print_notes(
            [f"{lowered} radii above what so many votes can certify, by rounding, were lowered to it."], file.name
        )
    if out is not None:
        write_atomically(out, _as_text(table).encode())
        print(f"\nwrote {out}")


def _capped(table: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """The table with no radius above the ceiling of its settings, where they are known, and how many were.

    Raises:
        ValueError: If one is further above than three digits, rounded to nearest, can be.
    """
    summary = summarize(table)
    if summary.ceiling is None:
        return table, 0
    if summary.largest_radius > 1.005 * summary.ceiling:
        raise ValueError(
            f"the largest radius, {summary.largest_radius}, is above {floor_text(summary.ceiling, 4)}, the most that "
            f"n = {summary.n} votes certify at alpha = {summary.alpha} and sigma = {summary.sigma}; mend "
            "them, or say with --norm which norm the radii are of."
        )
    above = table["radius"] > summary.ceiling
    return table.assign(radius=table["radius"].mask(above, summary.ceiling)), int(above.sum())


def _as_text(table: pd.DataFrame) -> str:
    """The field's six columns, then the settings that are known; an unknown time is 0."""
    columns = [*FIELD_COLUMNS, *(name for name in _KEPT if name in table)]
    shown = table[columns].assign(time=[format_seconds(seconds) for seconds in table["time"].fillna(0.0)])
    lines = ["\t".join(columns), *("\t".join(map(str, row)) for row in shown.itertuples(index=False))]
    return "\n".join(lines) + "\n"
