"""The report of results: run folders as one Markdown text with its figures, every number from the folders' files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from maxup_smoothing.analysis.literature.claims import Claim
from maxup_smoothing.analysis.literature.curves import Published
from maxup_smoothing.analysis.results import accuracy, language
from maxup_smoothing.analysis.results import certified as results_certified
from maxup_smoothing.analysis.runs.kinds import Runs
from maxup_smoothing.analysis.runs.run import is_named

_WRITTEN = "Written by `python -m analysis results` from run folders; no number was typed by hand.\n"


@dataclass(frozen=True, kw_only=True)
class MarkdownReport:
    """A Markdown text, and the figures that it shows, by the file name it shows them under."""

    markdown: str
    figures: Mapping[str, Figure]


def build_report(
    runs: Runs,
    controls: Sequence[str],
    published: Sequence[Published],
    figure_folder: str,
    claims: Sequence[Claim] = (),
) -> MarkdownReport:
    """All that the folders say: a section for each data set and sigma, data set without noise, and corpus.

    Args:
        runs: At least one.
        controls: Names of the runs that all others of their section are compared with: as shown, or the last part.
        published: Rows shown beside certified runs of the same data set, sigma and architecture.
        figure_folder: Where the text will find its figures, relative to itself.
        claims: Numbers of papers, shown beside runs on the same data.

    Raises:
        ValueError: If a control names no run.
    """
    for control in controls:
        if not any(is_named(name, control) for name in runs.names()):
            raise ValueError(f"--control {control} is none of the runs; name one of {', '.join(runs.names())}.")
    certified, figures = results_certified.certified_sections(runs.certified, controls, published, figure_folder)
    kinds = (
        (results_certified.READING, certified),
        (accuracy.READING, accuracy.accuracy_sections(runs.evaluated, controls, claims)),
        (language.READING, language.language_sections(runs.language, controls, claims)),
    )
    readings = [reading for reading, sections in kinds if sections]
    pieces = [piece for _, sections in kinds for piece in sections]
    return MarkdownReport(markdown="\n".join(["# Results\n", _WRITTEN, *readings, *pieces]), figures=figures)
