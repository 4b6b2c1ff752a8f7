"""Views behind a certified accuracy: votes, samples, and attacks."""

from pathlib import Path
from typing import Annotated

import typer

from maxup_smoothing.analysis.commands.inputs import (
    FigureOut,
    Files,
    Labels,
    load,
    require_figure,
    subject_of,
    tables_of,
    write_figure,
)
from maxup_smoothing.analysis.figures import attack_bounds as bounds
from maxup_smoothing.analysis.figures import votes as distributions
from maxup_smoothing.certify.attack.table import read_attacks
from maxup_smoothing.certify.logs.reader import read_log
from maxup_smoothing.certify.logs.settings import L2, norm_of


def votes(files: Files, out: FigureOut, labels: Labels = None) -> None:
    """Draw the distribution, over images, of the share of noisy copies classified rightly."""
    require_figure(out)
    write_figure(distributions.draw_shares(load(tables_of(files), labels)), out)


def samples(files: Files, out: FigureOut, labels: Labels = None) -> None:
    """Draw how many samples were spent on how many images."""
    require_figure(out)
    write_figure(distributions.draw_samples(load(tables_of(files), labels)), out)


def attack_bounds(
    file: Annotated[Path, typer.Argument(metavar="FILE", show_default=False, help="A radius table or run folder.")],
    attacked: Annotated[
        list[str],
        typer.Option(
            metavar="FILE|EPS=FILE",
            show_default=False,
            help="The table of `certify attack`, or predictions of images attacked at EPS; again for more.",
        ),
    ],
    out: FigureOut,
) -> None:
    """Draw certified accuracy from below and accuracy under attack from above."""
    require_figure(out)
    run = load([file])[0]
    if norm_of(run.table) != L2:
        raise ValueError(f"attacks here are measured in l2, and the radii of {run.name} are not; name an l2 log.")
    certified = run.summary.images
    attacks: dict[float, bounds.Attacked] = {}
    for item in attacked:
        if "=" not in item and Path(item).is_file():
            rows = read_attacks(item)
            found = bounds.attacks_of(run, rows)
            run = bounds.attacked_part(run, rows)
            if not attacks.keys().isdisjoint(found):
                raise ValueError(f"--attacked must name each EPS once, but {item} has one that was named before.")
            attacks |= found
            continue
        text, _, path = item.partition("=")
        try:
            epsilon = float(text)
        except ValueError:
            raise ValueError(
                f"--attacked must be EPS=FILE, such as 0.25=attacked.tsv, or a table of `certify attack`, got {item!r}."
            ) from None
        if not path or epsilon in attacks:
            raise ValueError(f"--attacked must name a file and each EPS once, got {item!r}.")
        attacks[epsilon] = bounds.under_attack(run, epsilon, read_log(path).table)
    title = subject_of([file], [run])
    write_figure(bounds.draw_attack_bounds(run, attacks, title=title, certified=certified), out)
    for attack in attacks.values():
        if attack.broken:
            shown = ", ".join(map(str, attack.broken[:10]))
            raise ValueError(
                f"ALARM: {len(attack.broken)} images were predicted wrongly within their certified radius at epsilon "
                f"{attack.epsilon:g} (idx {shown}): confirm with PREDICT at a strict alpha, and that both files are of "
                "one classifier and the norm is l2."
            )
