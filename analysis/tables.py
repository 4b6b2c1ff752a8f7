"""Certified accuracies of several runs as a table: CSV for programs, Markdown and LaTeX for papers."""

import csv
import io
from collections.abc import Callable, Sequence

from analysis.runs import Run
from certify.summary import ceil_text, certified_accuracy, floor_text, fraction_text, radius_text

_UNKNOWN = "–"


def csv_text(runs: Sequence[Run], radii: Sequence[float]) -> str:
    """A line a run: ``run,images,acr,abstained`` and a column a radius; accuracies and ACR rounded down.

    ``abstained`` is a count; accuracies are fractions with six decimals.

    Raises:
        ValueError: If a radius is negative or not finite.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["run", "images", "acr", "abstained", *map(radius_text, radii)])
    for run in runs:
        at = certified_accuracy(run.table, radii)
        accuracies = [fraction_text(count, run.summary.images, 6) for count in at["certified"]]
        summary = run.summary
        writer.writerow([run.name, summary.images, floor_text(summary.acr, 6), summary.abstained, *accuracies])
    return stream.getvalue()


def markdown_text(runs: Sequence[Run], radii: Sequence[float]) -> str:
    """A Markdown table: certified accuracy with its 95 % interval at each radius, and ACR with its n and alpha.

    Raises:
        ValueError: If a radius is negative or not finite.
    """
    header, *lines = _cells(runs, radii)
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "".join(f"| {' | '.join(map(_escape_markdown, cells))} |\n" for cells in [header, rule, *lines])


def latex_text(runs: Sequence[Run], radii: Sequence[float]) -> str:
    r"""A LaTeX tabular with booktabs rules: certified accuracy with its 95 % interval at each radius.

    Raises:
        ValueError: If a radius is negative or not finite.
    """
    header, *lines = (r" & ".join(map(_escape_latex, cells)) + r" \\" for cells in _cells(runs, radii))
    columns = "l" + "r" * (5 + len(radii))
    body = [r"\toprule", header, r"\midrule", *lines, r"\bottomrule"]
    return "\n".join([f"\\begin{{tabular}}{{{columns}}}", *body, r"\end{tabular}", ""])


FORMATS: dict[str, Callable[[Sequence[Run], Sequence[float]], str]] = {
    "csv": csv_text,
    "markdown": markdown_text,
    "latex": latex_text,
}


def _cells(runs: Sequence[Run], radii: Sequence[float]) -> list[list[str]]:
    cells = [["run", "images", "n", "alpha", "ACR", "abstained", *map(radius_text, radii)]]
    for run in runs:
        summary = run.summary
        told = [_UNKNOWN if value is None else str(value) for value in (summary.n, summary.alpha)]
        accuracies = [
            f"{fraction_text(row['certified'], row['images'], 3)} "
            f"[{floor_text(row['low'], 3)}, {ceil_text(row['high'], 3)}]"
            for row in certified_accuracy(run.table, radii).to_dict("records")
        ]
        numbers = [str(summary.images), *told, floor_text(summary.acr, 3), str(summary.abstained)]
        cells.append([run.name, *numbers, *accuracies])
    return cells


def _escape_markdown(text: str) -> str:
    return text.replace("\\", r"\\").replace("|", r"\|")


def _escape_latex(text: str) -> str:
    special = {character: f"\\{character}" for character in "&%$#_{}"}
    special |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", _UNKNOWN: "--"}
    escaped = "".join(special.get(character, character) for character in text)
    return "{}" + escaped if escaped.startswith("[") else escaped  # the \\ before it would take it for its argument
