"""What commands share: options for what a table's manifest names too, and the request that a user's options make."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from certify import arguments

if TYPE_CHECKING:  # `session` brings torch, whose import takes seconds that --help and `show` can do without
    from certify.session import Request

TABLE = "radii.tsv"


class Folder(type(Path())):  # type: ignore[misc]  # the kind of path of this system
    """A folder, whether it is there yet or not: a path that was typed with a slash at its end."""


def output(text: str) -> Path:
    """The path of an output as a user typed it."""
    return Folder(text) if text.endswith(("/", os.sep)) else Path(text)


def file_in(out: Path, name: str) -> Path:
    """The file that is meant by an output: one of this name where a folder was given."""
    return Path(out, name) if isinstance(out, Folder) or out.is_dir() else out


def table_in(path: Path | None) -> Path | None:
    """The radius table of a run folder; a file as it is.

    Raises:
        ValueError: If a folder holds none.
    """
    if path is None or not path.is_dir():
        return path
    if not (path / TABLE).is_file():
        raise ValueError(f"{path} is a folder without {TABLE}; name a radius table, or make one with `certify run`.")
    return path / TABLE


def tables_in(paths: list[Path]) -> list[Path]:
    """`table_in` of each."""
    return [table_in(path) or path for path in paths]


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
DataRoot = Annotated[
    Path | None, typer.Option(envvar="DATA_ROOT", help="Where data sets lie; otherwise they are downloaded.")
]


def request(context: typer.Context, **settled: Any) -> "Request":
    """What a command was asked to open.

    Args:
        context: Of a command whose options are named as the fields of ``Request``.
        settled: Fields for which it has no option, or whose option means another thing.
    """
    from certify.session import Request

    given = {**context.params, "batch_size": arguments.batch_size(context.params["batch_size"]), **settled}
    return Request(**{field.name: given[field.name] for field in dataclasses.fields(Request) if field.name in given})


def unwritten(context: typer.Context, name: str, **settled: Any) -> "Request":
    """The same for a command without a table: the one of this name is never written, nor read, as one to overwrite."""
    return request(context, **{"out": Path(name), "overwrite": True, **settled})
