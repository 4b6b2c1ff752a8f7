"""Where a table lies: a file, or a file of the usual name in a folder."""

import os
from pathlib import Path

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
