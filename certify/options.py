"""Options of the commands that open what a table's manifest names: its model, data and device."""

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[str | None, typer.Option(help="Data set.", show_default="the manifest's")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.", show_default="what the table was made on")]
Arch = Annotated[str | None, typer.Option(help="Of another project's weights.", show_default="the manifest's")]
Normalize = Annotated[str | None, typer.Option(help="Of another project's weights.", show_default="the manifest's")]
DataRoot = Annotated[
    Path | None, typer.Option(envvar="DATA_ROOT", help="Where data sets lie; otherwise they are downloaded.")
]
