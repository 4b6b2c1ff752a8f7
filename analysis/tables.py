"""Certified accuracies of several runs as a table: CSV for programs, Markdown, LaTeX and HTML for people."""

import csv
import html
import io
import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Literal

from maxup_smoothing.analysis.runs.run import Run
from maxup_smoothing.certify.statistics.rounding import ceil_text, floor_text, fraction_text, radius_text
from maxup_smoothing.certify.tables.population import false_certificates
from maxup_smoothing.certify.tables.summary import certified_accuracy

#: What stands beside an accuracy: its 95 % interval, or the 95 % lower bound on the truly robust share of all images.
Statement = Literal["interval", "population"]

_UNKNOWN = "–"


def csv_text(runs: Sequence[Run], radii: Sequence[float], statement: Statement = "interval") -> str:
    """A line a run: ``run,images,sigma,n,alpha,acr,abstained,false_at_most`` and a column a radius.

    Sigma, n and alpha are empty where the file does not record them, or not one for all rows. Accuracies and ACR are
    rounded down. ``abstained`` is a count, ``false_at_most`` bounds the number of false certificates with probability
    0.95, empty where the file records no alpha; accuracies are fractions with six decimals.

    Raises:
        ValueError: If a radius is negative or not finite, or if the statement is not "interval": none has a column.
    """
    if statement != "interval":
        raise ValueError(f"csv has no column for the {statement} bounds; write markdown, latex or html.")
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    facts = ["run", "images", "sigma", "n", "alpha", "acr", "abstained", "false_at_most"]
    writer.writerow([*facts, *map(radius_text, radii)])
    for run in runs:
        at = certified_accuracy(run.table, radii)
        accuracies = [fraction_text(count, run.summary.images, 6) for count in at["certified"]]
        summary, false = run.summary, false_certificates(run.table)
        counts = [summary.abstained, "" if false is None else false.at_most]
        told = ["" if value is None else value for value in (summary.sigma, summary.n, summary.alpha)]
        writer.writerow([run.name, summary.images, *told, floor_text(summary.acr, 6), *counts, *accuracies])
    return stream.getvalue()


def markdown_text(runs: Sequence[Run], radii: Sequence[float], statement: Statement = "interval") -> str:
    """A Markdown table: certified accuracy with the statement at each radius, and ACR with its sigma, n and alpha.

    Raises:
        ValueError: If a radius is negative or not finite.
    """
    header, *lines = _cells(runs, radii, statement)
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(map(_escape_markdown, cells))} |\n" for cells in [header, rule, *lines])


def latex_text(runs: Sequence[Run], radii: Sequence[float], statement: Statement = "interval") -> str:
    r"""A LaTeX tabular with booktabs rules: certified accuracy with the statement at each radius.

    Raises:
        ValueError: If a radius is negative or not finite.
    """
    header, *lines = (r" & ".join(map(_escape_latex, cells)) + r" \\" for cells in _cells(runs, radii, statement))
    columns = "l" + "r" * (6 + len(radii))
    body = [r"\toprule", header, r"\midrule", *lines, r"\bottomrule"]
    return "\n".join([f"\\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}", ""])


def html_text(runs: Sequence[Run], radii: Sequence[float], statement: Statement = "interval") -> str:
    """An HTML table: certified accuracy with the statement at each radius, and ACR with its sigma, n and alpha.

    Raises:
        ValueError: If a radius is negative or not finite.
    """
    header, *lines = ([html.escape(cell) for cell in cells] for cells in _cells(runs, radii, statement))
    head = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    body = [
        f'<tr><th scope="row">{cells[0]}</th>{"".join(f"<td>{cell}</td>" for cell in cells[1:])}</tr>'
        for cells in lines
    ]
    return "\n".join(["<table>", f"<thead><tr>{head}</tr></thead>", "<tbody>", *body, "</tbody>", "</table>", ""])


FORMATS: dict[str, Callable[[Sequence[Run], Sequence[float], Statement], str]] = {
    "csv": csv_text,
    "markdown": markdown_text,
    "latex": latex_text,
    "html": html_text,
}


def _cells(runs: Sequence[Run], radii: Sequence[float], statement: Statement) -> list[list[str]]:
    cells = [["run", "images", "sigma", "n", "alpha", "ACR", "abstained", *map(radius_text, radii)]]
    for run in runs:
        summary = run.summary
        told = [_UNKNOWN if value is None else str(value) for value in (summary.sigma, summary.n, summary.alpha)]
        accuracies = [
            f"{fraction_text(row['certified'], row['images'], 3)} {_stated(row, statement)}"
            for row in certified_accuracy(run.table, radii).to_dict("records")
        ]
        numbers = [str(summary.images), *told, floor_text(summary.acr, 3), str(summary.abstained)]
        cells.append([run.name, *numbers, *accuracies])
    return cells


def _stated(row: dict[Hashable, Any], statement: Statement) -> str:
    if statement == "interval":
        return f"[{floor_text(row['low'], 3)}, {ceil_text(row['high'], 3)}]"
    return f"(≥ {_UNKNOWN if math.isnan(row['population']) else floor_text(row['population'], 3)})"


def _escape_markdown(text: str) -> str:
    return text.replace("\\", r"\\").replace("|", r"\|")


def _escape_latex(text: str) -> str:
    special = {character: f"\\{character}" for character in "&%$#_{}"}
    special |= {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        _UNKNOWN: "--",
        "≥": r"$\geq$",
    }
    escaped = "".join(special.get(character, character) for character in text)
    return "{}" + escaped if escaped.startswith("[") else escaped  # the \\ before it would take it for its argument
