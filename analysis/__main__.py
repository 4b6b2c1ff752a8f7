"""Figures, tables and comparisons from radius tables.

Draw certified accuracy over the radius, one curve a run, with its pointwise
95 % confidence band and its ceiling: above it, n votes certify nothing. On
request, draw published results and the best run at each radius as well:

    python -m analysis curve runs/*/radii.tsv --out curve.png
    python -m analysis curve runs/* --published fashion-mnist --out curve.png

Print certified accuracies at chosen radii, a line a run, as CSV, Markdown,
LaTeX or HTML, with their 95 % intervals. With --population, print instead a
95 % lower bound on the share of all images that is truly robust; it allows
for false certificates. With --simultaneous, all certificates of a run hold
together:

    python -m analysis table runs/*/radii.tsv --radii 0,0.25,0.5

State the radii in l1 or linf, or as those within which the label stays among
the first K classes, in tables and curves (docs/evidence.md):

    python -m analysis table runs/* --norm linf --top-k 3

Compare two classifiers on the same images, by McNemar's exact test at radii
chosen before looking and by a bootstrap of the ACR. Or compare two methods
by several training seeds of each, with a t interval over the seeds:

    python -m analysis compare runs/maxup runs/gaussian --radii 0.5,1
    python -m analysis compare 'runs/maxup-*' 'runs/gaussian-*'

Print what another project's log is and its results, and write it as a radius
table. Give sigma, n and alpha (one-sided) where the log does not record them:

    python -m analysis import OTHER.log --sigma 0.5 --out radii.tsv

Check on trained networks whether MaxUp acts as a penalty on the norm of the
loss's gradient, up to which sigma, and that it does not beyond:

    python -m analysis theory runs/maxup toy:tanh --out theory.md

Write one HTML page that explains runs to anyone, with pictures of the hardest
and the easiest images; it needs no network to be read:

    python -m analysis report runs/* --control gaussian --out report.html

Write a model card of one run as well, with metadata for the Hugging Face hub:

    python -m analysis report runs/maxup --out page.html --model-card card.md

Write a report in Markdown, with its figures in a folder beside it, of run
folders, in which training and certification lie together: certified accuracy,
ACR, paired comparisons with a control, published numbers, and all conditions;
and of the accuracy without noise of `python -m train.evaluate`, and of the
perplexity of language models:

    python -m analysis results runs/* --control gaussian --out docs/results.md

Print the log of a search for a recipe, from run folders that certified
held-out images while they trained; test images are not looked at:

    python -m analysis search-log runs/search/*

FILE is a radius table, a run folder that holds one as radii.tsv, or the log
of another project, of which many dialects are read (docs/logs.md). A run is
called NAME where its file is NAME/radii.tsv, and as the file otherwise. Where
several are named, a folder that holds no table is left out with a note.

Certified accuracy at r is the share, among all images, of those predicted
rightly and certified at a radius of r or more. Accuracies and radii are
rounded down, never up.
"""

from typing import Any

import typer
import typer.core

from maxup_smoothing.analysis.commands import compare, figures, import_log, reports, theory
from maxup_smoothing.data.runtime import console

_RENAMED = {"sandwich": "attack-bounds", "experiments": "search-log", "parts": "groups"}


class _Group(typer.core.TyperGroup):
    """Refuses the former name of a command with its present one."""

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name.

        Raises:
            ValueError: If it is a former name.
        """
        if cmd_name in _RENAMED:
            raise ValueError(f"`analysis {cmd_name}` is now called `analysis {_RENAMED[cmd_name]}`; use that name.")
        return super().get_command(ctx, cmd_name)


app = typer.Typer(
    cls=_Group,
    help=console.manual(__doc__),
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command()(figures.curve)
app.command()(figures.table)
app.command()(compare.compare)
app.command()(figures.groups)
app.command()(figures.votes)
app.command()(figures.samples)
app.command()(figures.attack_bounds)
app.command("import")(import_log.import_)
app.command()(reports.report)
app.command("theory")(theory.check)
app.command()(reports.results)
app.command()(reports.search_log)


def main() -> None:
    """Run the command line: one line on stderr and status 2 for what a user can mend."""
    console.run(app)


if __name__ == "__main__":
    main()
