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


class Group(typer.core.TyperGroup):
    """Takes --debug wherever it stands, and refuses options by their earlier names with the new ones."""

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


WithManifest = Annotated[Path, table_argument("A radius table, its manifest beside it, or its run folder.")]
Data = Annotated[str | None, typer.Option(help="Data set.", show_default="the manifest's")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.", show_default="what the table was made on")]
Arch = Annotated[str | None, typer.Option(help="Of another project's weights.", show_default="the manifest's")]
Normalize = Annotated[str | None, typer.Option(help="In front of the model.", show_default="the manifest's")]
_WEIGHTS = "Which of several sets of weights in one file: ema, raw, or the name of a set."
Weights = Annotated[str | None, typer.Option(metavar="ema|raw|NAME", help=_WEIGHTS, show_default=False)]
RecordedWeights = Annotated[
    str | None, typer.Option("--weights", metavar="ema|raw|NAME", help=_WEIGHTS, show_default="the manifest's")
]
ClassMap = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Which class of the data is which of the network: lines of a name and a number."),
]
DataRoot = Annotated[
    Path | None, typer.Option(envvar="DATA_ROOT", help="Where data sets lie; otherwise they are downloaded.")
]
