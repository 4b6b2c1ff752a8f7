"""Options and arguments that several commands share."""

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from maxup_smoothing.certify.tables.location import TABLE, file_in, output, table_in


def logs_in(paths: list[Path]) -> list[Path]:
    """`table_in` of each, and folders that are logs themselves as they are."""
    from maxup_smoothing.certify.logs.reader import (
        is_log_folder,  # it brings scipy, whose import other commands can do without
    )

    return [path if is_log_folder(path) and not (path / TABLE).is_file() else table_in(path) or path for path in paths]


def new_file(what: str, default: str) -> Any:
    """An option --out FILE, or FOLDER/ for a file of the usual name in it."""
    return typer.Option(parser=output, metavar="FILE|FOLDER/", help=what, show_default=default)


def new_table(text: str) -> Path:
    """The path of a new radius table as a user typed it."""
    return file_in(output(text), TABLE)


#: Options by their earlier names, of all commands and of single ones.
_RENAMED = {
    "": {"--max": "--limit"},
    "plan": {"--like": "--votes-from", "--pilot": "--pilot-seconds"},
    "transfer": {"--split": "--alpha-share"},
    "attack": {"--of-radius": "--radius-factors", "--at-once": "--group-size", "--save": "--save-images"},
}


#: The commands as --help groups them.
_GROUPS = {
    "Before a run": ("plan", "check"),
    "Run": ("run", "predict", "serve"),
    "Tables": ("show", "recompute", "merge", "transfer", "export"),
    "Trust": ("verify", "audit", "attack", "selftest"),
}


class Group(typer.core.TyperGroup):
    """Shows commands in groups, takes --debug wherever it stands, and refuses options by their earlier names."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, each with the first sentence of its help."""
        for title, names in _GROUPS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(f"{name:<9}", self.commands[name].get_short_help_str(limit=200)) for name in names]
                )

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments with --debug in front.

        Raises:
            ValueError: For an earlier name of an option.
        """
        renamed = _RENAMED[""] | _RENAMED.get(next((text for text in args if not text.startswith("-")), ""), {})
        for text in args:
            if (new := renamed.get(text.partition("=")[0])) is not None:
                raise ValueError(f"{text.partition('=')[0]} is now called {new}.")
        return super().parse_args(ctx, ["--debug"] * ("--debug" in args) + [text for text in args if text != "--debug"])


def table_argument(what: str = "A radius table, or its run folder.") -> Any:
    """An argument FILE that may be a run folder, too."""
    return typer.Argument(metavar="FILE", help=what, callback=table_in, show_default=False)


WithManifest = Annotated[Path, table_argument("A radius table with its manifest beside it, or its run folder.")]
Data = Annotated[str | None, typer.Option(help="Data set that the table was made from.", show_default="the manifest's")]
Device = Annotated[
    str | None, typer.Option(help="Where the network runs: cpu, cuda or cuda:N.", show_default="as the table was made")
]
Arch = Annotated[
    str | None, typer.Option(help="Architecture of another project's weights.", show_default="the manifest's")
]
Normalize = Annotated[
    str | None, typer.Option(help="Normalisation in front of the model.", show_default="the manifest's")
]
_WEIGHTS = "Which set of weights to take from a file with several: ema, raw, or a name."
Weights = Annotated[str | None, typer.Option(metavar="ema|raw|NAME", help=_WEIGHTS, show_default=False)]
RecordedWeights = Annotated[
    str | None, typer.Option("--weights", metavar="ema|raw|NAME", help=_WEIGHTS, show_default="the manifest's")
]
ClassMap = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The network's number for each class of the data: lines of a name and a number."),
]
Resize = Annotated[
    str | None,
    typer.Option(
        metavar="PIXELS|auto",
        help="Resize the shorter side of each image; auto takes what a network of timm or torchvision declares.",
        show_default="as the checkpoint was trained, else not",
    ),
]
Crop = Annotated[
    int | None,
    typer.Option(metavar="PIXELS", help="Cut a square out of the centre of each image.", show_default="--resize"),
]
Interpolation = Annotated[
    str | None,
    typer.Option(
        help="Filter of --resize: nearest, box, bilinear, hamming, bicubic, lanczos.", show_default="bilinear"
    ),
]
Grayscale = Annotated[bool, typer.Option("--grayscale", help="Make one channel of images that are resized or cropped.")]
Labels = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Labels of a folder of images alone: lines of a name and a class or number."),
]
Norm = Annotated[
    str,
    typer.Option(
        metavar="l2|l1|linf",
        help="Norm of the printed radii: an l2 radius r is also the l1 radius r, and the linf radius r / sqrt(C*H*W).",
    ),
]
Dimension = Annotated[
    int | None,
    typer.Option(
        metavar="C*H*W",
        help="Coordinates of an image for --norm linf, such as 784 for 1x28x28.",
        show_default="the manifest's",
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        metavar="K",
        help="Print the radius within which the label stays among the first K classes.",
        show_default="the radius of the predicted class",
    ),
]
DataRoot = Annotated[
    Path | None, typer.Option(envvar="DATA_ROOT", help="Folder with data sets; without it they are downloaded.")
]
