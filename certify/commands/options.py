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


Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Checkpoint, factory, file or name; `certify --help` lists the kinds.")
]
Data = Annotated[
    str | None,
    typer.Option(
        help="Data set name, FILE.npz, FILE.parquet, folder of class folders or images, or image.",
        show_default="the checkpoint's own",
    ),
]
Split = Annotated[str, typer.Option(help="Part of the data set: train, test or val.")]
ProtocolName = Annotated[
    str, typer.Option("--protocol", help="Which images to take: full, skipN (every N-th), firstN, macer-500-999.")
]
Limit = Annotated[int | None, typer.Option(min=1, help="Take only this many images, the first of the protocol.")]
Sigma = Annotated[
    float | None,
    typer.Option(
        help="Standard deviation of the noise, in [0, 1] pixel units.",
        show_default="what the checkpoint was trained with",
    ),
]
Alpha = Annotated[float, typer.Option(help="Failure probability of each certificate.")]
Precision = Annotated[
    str | None,
    typer.Option(
        help="Cast the network to float32, bfloat16 or float16, which may be another function.",
        show_default="the model's own arithmetic",
    ),
]
Randomized = Annotated[
    bool,
    typer.Option(
        "--randomized", help="The model draws its own random numbers, independently for every image of a batch."
    ),
]
BatchSize = Annotated[str, typer.Option(help="Images in one forward pass; auto measures which number is fastest.")]
Compile = Annotated[
    str, typer.Option(metavar="auto|on|off", help="torch.compile; auto does it where a long run gains from it.")
]
Device = Annotated[str, typer.Option(help="Where the network runs: auto, cpu, cuda or cuda:N.")]
Noise = Annotated[
    str, typer.Option(help="exact (sound in floating point), or float (as behind other tables, for comparison).")
]
Seed = Annotated[int | None, typer.Option(help="Seed of the noise.", show_default="drawn from the operating system")]
Arch = Annotated[
    str | None, typer.Option(help="Architecture of another project's weights: lenet, resnet20, timm:NAME …")
]
Normalize = Annotated[
    str | None,
    typer.Option(
        help="Normalisation in front of the model: none, cifar10, imagenet, or MEAN/STD as 0.5,0.5,0.5/0.2,0.2,0.2.",
        show_default="what a file of weights stores, else of weights cifar10 for CIFAR, else none",
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the output file instead of continuing it.")]
Check = Annotated[
    bool,
    typer.Option(
        " /--no-check", help="Skip the checks of `certify check`; the manifest records it.", show_default=False
    ),
]
Radii = Annotated[
    str | None,
    typer.Option(help="Radii of the printed table, such as 0,0.25,0.5; sequential and anytime decide these."),
]
Shard = Annotated[
    str | None,
    typer.Option(
        metavar="i/N", help="Certify every N-th image, beginning with the i-th; join the tables with `certify merge`."
    ),
]
Simultaneous = Annotated[
    bool, typer.Option("--simultaneous", help="Use alpha / images for each certificate, so that all hold together.")
]
WithManifest = Annotated[Path, table_argument("A radius table with its manifest beside it, or its run folder.")]

#: Of commands that open a table's classifier again; what is left out is as the table was made.
RecordedData = Annotated[
    str | None, typer.Option(help="Data set that the table was made from.", show_default="the manifest's")
]
RecordedDevice = Annotated[
    str | None, typer.Option(help="Where the network runs: cpu, cuda or cuda:N.", show_default="as the table was made")
]
RecordedArch = Annotated[
    str | None, typer.Option(help="Architecture of another project's weights.", show_default="the manifest's")
]
RecordedNormalize = Annotated[
    str | None, typer.Option(help="Normalisation in front of the model.", show_default="the manifest's")
]
_WEIGHTS = "Which set of weights to take from a file with several: ema, raw, or a name."
Weights = Annotated[str | None, typer.Option(metavar="ema|raw|NAME", help=_WEIGHTS, show_default=False)]
RecordedWeights = Annotated[
    str | None, typer.Option("--weights", metavar="ema|raw|NAME", help=_WEIGHTS, show_default="the manifest's")
]
ClassMap = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|auto",
        help="The network's number for each class of the data: lines of a name and a number; auto finds each by name.",
    ),
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
