"""The text of a table without its times, which differ from run to run."""

from pathlib import Path


def lines(path: str | Path = "out/radii.tsv") -> list[list[str]]:
    """A table's fields without the time."""
    rows = [line.split("\t") for line in Path(path).read_text().splitlines()]
    time_at = rows[0].index("time")
    return [row[:time_at] + row[time_at + 1 :] for row in rows]
