"""What commands share: options for what a table's manifest names too, and the request that a user's options make."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from maxup_smoothing.certify.commands import arguments
from maxup_smoothing.certify.tables.location import TABLE, file_in, output, table_in

if TYPE_CHECKING:  # `session` brings torch, whose import takes seconds that --help and `show` can do without
    from maxup_smoothing.certify.runs.session import Request


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


class Group(typer.core.TyperGroup):
    """Takes --debug wherever it stands."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """The arguments with --debug in front."""
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


def request(context: typer.Context, **settled: Any) -> "Request":
    """What a command was asked to open.

    Args:
        context: Of a command whose options are named as the fields of ``Request``.
        settled: Fields for which it has no option, or whose option means another thing.
    """
    from maxup_smoothing.certify.runs.session import Request

    given = {**context.params, "batch_size": arguments.batch_size(context.params["batch_size"]), **settled}
    return Request(**{field.name: given[field.name] for field in dataclasses.fields(Request) if field.name in given})


def unwritten(context: typer.Context, name: str, **settled: Any) -> "Request":
    """The same for a command without a table: the one of this name is never written, nor read, as one to overwrite."""
    return request(context, **{"out": Path(name), "overwrite": True, **settled})
