"""The command that checks whether MaxUp acts as a penalty on the gradient norm."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from maxup_smoothing.analysis.commands.inputs import numbers


def check(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            show_default=False,
            help="Run folders, models as `certify run` takes them, or toy:tanh, toy:softplus, toy:relu.",
        ),
    ],
    out: Annotated[Path, typer.Option(show_default=False, help="File of the report, which ends in .md.")],
    data: Annotated[str | None, typer.Option(help="Data set; by default the one that the run was trained on.")] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(envvar="DATA_ROOT", help="Folder of the data sets; without it they are downloaded."),
    ] = None,
    images: Annotated[int, typer.Option(min=2, help="Number of test images for each network.")] = 64,
    groups: Annotated[
        int, typer.Option(min=16, help="Groups of m copies at each image; toys get 8 times as many.")
    ] = 64,
    m: Annotated[str, typer.Option(help="Numbers of copies, separated by commas.")] = "2,4,16",
    sigmas: Annotated[str | None, typer.Option(help="At least three noise levels; that of training is added.")] = None,
    nudge: Annotated[
        float, typer.Option(min=0, help="Noise by which images are moved where some have no gradient.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Seed of all random numbers.")] = 0,
) -> None:
    """Check whether MaxUp acts as a penalty on the gradient norm; status 1 if the law fails."""
    from maxup_smoothing.analysis.theory import lab, report  # with torch, which nothing else here needs

    settings = lab.Settings(
        sigmas=lab.SIGMAS if sigmas is None else tuple(numbers(sigmas, "--sigmas")),
        ms=tuple(_whole(value) for value in numbers(m, "--m")),
        groups=groups,
        seed=seed,
    )
    studies = lab.run(
        names,
        out,
        data=data,
        data_root=data_root,
        images=images,
        nudge=nudge,
        settings=settings,
        command="python -m analysis " + shlex.join(sys.argv[1:]),
    )
    print("\n".join(report.lines(studies)))
    print(f"wrote {out}")
    if any(study.word == "FAIL" for study in studies):
        raise typer.Exit(1)


def _whole(value: float) -> int:
    if not value.is_integer():
        raise ValueError(f"--m must be whole numbers, got {value}.")
    return int(value)
