"""``certify attack``: does any attack succeed within a certified radius?"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer

from maxup_smoothing.certify.attack import report
from maxup_smoothing.certify.attack.threat_model import Goal, goals_of
from maxup_smoothing.certify.commands import arguments, options
from maxup_smoothing.certify.tables import summary
from maxup_smoothing.certify.tables.location import file_in
from maxup_smoothing.certify.tables.radius_table import read

if TYPE_CHECKING:  # both bring torch
    from maxup_smoothing.certify.attack.table import AttackRow


def attack(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="The model of the table, as for `certify run`.")],
    file: options.WithManifest,
    radii: Annotated[
        str | None,
        typer.Option(
            help="l2 norms at which every image is attacked, such as 0.25,0.5.",
            show_default="those of `certify show`; none with --radius-factors",
        ),
    ] = None,
    radius_factors: Annotated[
        str | None,
        typer.Option(
            metavar="FACTORS",
            help="Attack each image at these multiples of its certified radius, such as 0.5,0.99,1.1.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Attack only this many rows, the first of the table.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Gradient steps of each attack.")] = 20,
    samples: Annotated[int, typer.Option(min=1, help="Noisy copies that each gradient averages over.")] = 32,
    restarts: Annotated[int, typer.Option(min=1, help="Attempts for each image and norm, each with new noise.")] = 1,
    n: Annotated[int, typer.Option(help="Samples of PREDICT, which decides whether an attack succeeded.")] = 1000,
    alpha: Annotated[float, typer.Option(help="Failure probability of PREDICT.")] = 0.001,
    confirm_n: Annotated[int, typer.Option(help="Samples that confirm a success within a certified radius.")] = 100_000,
    confirm_alpha: Annotated[float, typer.Option(help="Failure probability of that confirmation.")] = 1e-6,
    group_size: Annotated[
        int, typer.Option(min=1, help="Images attacked together; a smaller group takes less memory.")
    ] = 32,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the attack's noise.", show_default="drawn from the operating system")
    ] = None,
    out: Annotated[
        Path | None, options.new_file("Where the table of attacks is written.", "attacks.tsv beside FILE")
    ] = None,
    save_images: Annotated[
        Path | None, typer.Option(metavar="FILE.npz", help="Where the attacked images of successes are written.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the table of attacks instead of continuing it.")
    ] = False,
    data: options.RecordedData = None,
    device: options.RecordedDevice = None,
    arch: options.RecordedArch = None,
    normalize: options.RecordedNormalize = None,
    weights: options.RecordedWeights = None,
    data_root: options.DataRoot = None,
) -> None:
    """Attack the smoothed classifier, and compare its successes with the certified radii.

    PGD and DDN follow the gradient of the mean softmax over noisy copies. PREDICT classifies the strongest 8-bit image
    within the norm, on noise that the attack has not seen. A success within the certified radius is confirmed with many
    more samples. If it is confirmed, the command prints ALARM and stops with status 1. The radius table is not changed.
    """
    from maxup_smoothing.certify.attack.run import AttackRequest, attack_request
    from maxup_smoothing.certify.runs.reopen import Overrides

    fixed, factors = arguments.radii(radii), _factors(radius_factors)

    def chosen(table: pd.DataFrame) -> Sequence[Goal]:
        default = summary.radii_of(table) if factors is None else []
        return goals_of(default if fixed is None else fixed, factors or [])

    path, rows = attack_request(
        AttackRequest(
            file=file,
            given=Overrides(
                model=model,
                data=data,
                data_root=data_root,
                device=device,
                arch=arch,
                normalize=normalize,
                weights=weights,
            ),
            goals=chosen,
            limit=limit,
            steps=steps,
            samples=samples,
            restarts=restarts,
            n=n,
            alpha=alpha,
            confirm_n=confirm_n,
            confirm_alpha=confirm_alpha,
            at_once=group_size,
            seed=seed,
            out=None if out is None else file_in(out, "attacks.tsv"),
            save=save_images,
            overwrite=overwrite,
        )
    )
    print(_text(path, rows))
    if (said := report.alarm(rows, read(file), confirm_alpha)) is not None:
        print("\n" + said)
        raise typer.Exit(1)


def _text(path: Path, rows: "Sequence[AttackRow]") -> str:
    images = len({row.idx for row in rows})
    return f"{path}: {images} images, {len(rows)} attacks\n\n{report.render(rows)}"


def _factors(text: str | None) -> list[float] | None:
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"--radius-factors must be numbers separated by commas, such as 0.5,0.9,1.1; got {text!r}."
        ) from None
