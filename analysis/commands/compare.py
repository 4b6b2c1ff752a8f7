"""The command that compares two networks image by image, or two methods seed by seed."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from maxup_smoothing.analysis.commands.inputs import matching, numbers, print_notes, require_figure, write_figure
from maxup_smoothing.analysis.comparison import difference, text
from maxup_smoothing.analysis.comparison.methods import compare_seeds
from maxup_smoothing.analysis.comparison.networks import compare_tables
from maxup_smoothing.analysis.comparison.settings import different_norm, refuted
from maxup_smoothing.analysis.figures.difference import draw_difference
from maxup_smoothing.analysis.runs import run as runs
from maxup_smoothing.analysis.runs.folders import one_method
from maxup_smoothing.certify.tables.summary import radii_of


def compare(
    a: Annotated[
        str, typer.Argument(metavar="A", show_default=False, help="A table, a run folder, or a quoted pattern.")
    ],
    b: Annotated[
        str, typer.Argument(metavar="B", show_default=False, help="The table, run folder or pattern to compare A with.")
    ],
    radii: Annotated[
        str | None, typer.Option(help="Radii, chosen before looking; by default 0, 0.25 … to the ceiling.")
    ] = None,
    figure: Annotated[
        Path | None, typer.Option(help="File for a figure of the difference: .png, .svg or .pdf.")
    ] = None,
    labels: Annotated[str | None, typer.Option(help="Names of A and B, separated by a comma.")] = None,
    common: Annotated[bool, typer.Option("--common", help="Compare on the images that all tables have.")] = False,
    different_sigma: Annotated[
        bool, typer.Option("--different-sigma", help="Compare models under different noise, too.")
    ] = False,
) -> None:
    """Compare two classifiers on the same images, or two methods by several training seeds each."""
    if figure is not None:
        require_figure(figure)
    files_a, files_b = matching(a), matching(b)
    loaded = runs.load([*files_a, *files_b])
    for run in loaded:
        print_notes(run.notes, run.name)
    if common:
        loaded = runs.on_common_images(loaded)
    ours, theirs = loaded[: len(files_a)], loaded[len(files_a) :]
    chosen = numbers(radii) if radii is not None else max((radii_of(run.table) for run in loaded), key=len)
    names = tuple(label.strip() for label in labels.split(",")) if labels else (_name(a, ours), _name(b, theirs))
    if len(names) != 2 or not all(names):
        raise ValueError(f"--labels must be two names, got {len(names)}: {', '.join(names)}.")
    if (norms := different_norm(loaded)) is not None:
        raise ValueError(f"{norms}.")
    _require_the_same_images(loaded)
    _warn_of_the_unknown(loaded, different_sigma)
    _require_the_same(loaded, [*files_a, *files_b], different_sigma)
    for other in loaded[1:]:
        if (differing := runs.different_stopping(loaded[0], other)) is not None:
            raise ValueError(f"{loaded[0].name} and {other.name} were certified with different {differing}.")
    if len(ours) == len(theirs) == 1:
        found = compare_tables(ours[0].table, theirs[0].table, chosen, different_sigma=different_sigma)
        sys.stdout.write(text.of_networks(found, *names))
        if figure is not None:
            curve = difference.difference_curve(ours[0].table, theirs[0].table, different_sigma=different_sigma)
            write_figure(draw_difference(curve, *names), figure)
        return
    if figure is not None:
        raise ValueError(
            "--figure draws the difference of two networks; leave it out for several seeds, or name one each."
        )
    seeds_a, seeds_b = one_method(files_a), one_method(files_b)
    known = None not in seeds_a and None not in seeds_b
    if not known:
        print(
            "warning: not every table has its config.toml beside it; taken for networks of different seeds",
            file=sys.stderr,
        )
    # A seed pairs two networks; then their order is made the same.
    paired = known and sorted(map(str, seeds_a)) == sorted(map(str, seeds_b))
    order = [seeds_b.index(seed) for seed in seeds_a] if paired else range(len(theirs))
    by_seed = compare_seeds(
        [run.table for run in ours],
        [theirs[i].table for i in order],
        chosen,
        paired=paired,
        different_sigma=different_sigma,
    )
    sys.stdout.write(text.of_methods(by_seed, *names))


def _warn_of_the_unknown(loaded: list[runs.Run], different_sigma: bool) -> None:
    """Say which settings no table tells; refuse where what their radii tell of them differs.

    Raises:
        ValueError: If the radii refute that n and alpha, and sigma where that is not asked for, are equal.
    """
    if early := runs.unknown_stopping(loaded):
        print(f"warning: no manifest tells when {', '.join(early)} stopped; taken to be alike", file=sys.stderr)
    unknown = [name for name in ("sigma", "n", "alpha") if all(name not in run.table for run in loaded)]
    if not unknown:
        return
    if (why := refuted(loaded, different_sigma=different_sigma)) is not None:
        pass_ = "" if different_sigma else ", or pass --different-sigma where sigma alone differs"
        raise ValueError(f"{why}; compare logs of the same settings{pass_}.")
    if equal := [name for name in unknown if name != "sigma" or not different_sigma]:
        print(f"warning: no table tells {', '.join(equal)}; taken to be equal", file=sys.stderr)


def _require_the_same_images(loaded: list[runs.Run]) -> None:
    """Refuse tables of different images, with the option that goes on with those that all have.

    Raises:
        ValueError: If one has images that another has not.
    """
    if (differing := runs.different_images(loaded)) is None:
        return
    shared = set[int].intersection(*(set(run.table["idx"]) for run in loaded))
    advice = f"pass --common to compare on the {len(shared)} images that all have" if shared else "none is in all"
    ours = all("status" in run.table for run in loaded)
    protocol = ", or certify both with the same --protocol and --limit" if ours else ""
    raise ValueError(f"the tables are about different images: {differing}; {advice}{protocol}.")


def _require_the_same(loaded: list[runs.Run], files: list[Path], different_sigma: bool) -> None:
    """Refuse in this command's words what `compare_tables` would refuse in the library's.

    Raises:
        ValueError: If sigma differs and that is not asked for, or if only some tables record sigma, n or alpha.
    """
    wanted = [name for name in ("sigma", "n", "alpha") if name != "sigma" or not different_sigma]
    for run, file in zip(loaded, files, strict=True):
        missing = [name for name in wanted if name not in run.table and any(name in one.table for one in loaded)]
        if missing:
            options = " ".join(f"--{name} {name.upper()}" for name in missing)
            raise ValueError(
                f"{run.name} does not tell its {', '.join(missing)}, and others here do; write a table that does with "
                f"`python -m analysis import {file} {options} --out OUT.tsv`, and compare OUT.tsv."
            )
    if not different_sigma and (differing := runs.different_sigma(loaded)) is not None:
        raise ValueError(f"{differing}; pass --different-sigma if yours is another one.")


def _name(pattern: str, loaded: list[runs.Run]) -> str:
    return loaded[0].name if len(loaded) == 1 else pattern
