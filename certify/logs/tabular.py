"""Logs whose first line names their columns: one reader, and what is particular to each as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from maxup_smoothing.certify.logs.log import Given, Log, frame, missing_rows
from maxup_smoothing.certify.logs.rows import Rows
from maxup_smoothing.certify.logs.settings import radius_notes
from maxup_smoothing.certify.logs.source import Source

BY_IMAGE = (
    "sigma was chosen for each image by itself: each radius holds for its own classifier, and all together for none "
    "that does not remember its inputs."
)


@dataclass(frozen=True, kw_only=True)
class Tabular:
    """A dialect of rows under a line that names their columns.

    Attributes:
        name: What it is called.
        project: Who writes it, for people.
        needs: Columns by which it is known.
        lacks: Columns that it must not have.
        start: The first columns, where their order tells it from another dialect.
        rename: The dialect's name of a column, and ours.
        kind: ``radii`` or ``predictions``.
        notes: What holds for every such file.
        end: What a line begins with after which there are no rows.
        rejects: What predict -2 means, where it is written; it is read as an abstention.
        names: Whether classes may be names instead of numbers.
    """

    name: str
    project: str
    needs: frozenset[str]
    lacks: frozenset[str] = frozenset()
    start: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    kind: str = "radii"
    notes: tuple[str, ...] = ()
    end: str | None = None
    rejects: str | None = None
    names: bool = False

    def matches(self, source: Source) -> bool:
        """Whether the first line names the dialect's columns."""
        columns = set(source.header)
        starts = source.header[: len(self.start)] == self.start
        return starts and self.needs <= columns and not self.lacks & columns

    def rows(self, source: Source) -> Rows:
        """The rows, faulty ones included."""
        return Rows(source, rename=self.rename, end=self.end, rejects=self.rejects, class_names=self.names)

    def read(self, source: Source, given: Given) -> Log:
        """The rows, each checked as `certify.tables.radius_table.read` checks it.

        Raises:
            ValueError: If a field is malformed or contradicts another, with file and line.
        """
        rows = self.rows(source)
        table = given.added_to(frame(rows.columns()))
        notes = [*self.notes, *rows.notes, *missing_rows(table["idx"].tolist())]
        if self.kind == "radii":
            positive = [text for text, row in zip(rows.radii, rows.fields, strict=True) if row["radius"] > 0]
            one = float(table["sigma"].iloc[0]) if "sigma" in table and table["sigma"].nunique() == 1 else None
            by_image = "sigma" in table and one is None
            notes += [BY_IMAGE] if by_image else []
            notes += radius_notes(positive, one, by_image or {"n", "alpha"} <= set(table))
            if table["time"].isna().all():
                notes.append("times are not told.")
        return Log(table=table, dialect=self.name, kind=self.kind, notes=tuple(notes))
