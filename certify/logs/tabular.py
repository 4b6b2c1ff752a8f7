"""Tab-separated logs whose first line names their columns: one reader, and what is particular to each as data."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from certify.logs.log import NO_ROWS, Given, Log, Source, frame, missing_rows
from certify.logs.settings import radius_notes
from certify.radius import ABSTAIN
from certify.row import parse_fields

RUNNING = "correct was a running count: recomputed as predict == label."
BY_IMAGE = (
    "sigma was chosen for each image by itself: each radius holds for its own classifier, and all together for none "
    "that does not remember its inputs."
)
_BOOLEANS = {"True": "1", "False": "0"}


@dataclass(frozen=True, kw_only=True)
class Tabular:
    """A dialect of tab-separated rows.

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

    def read(self, source: Source, given: Given) -> Log:
        """The rows, each checked as `certify.table.read` checks it.

        Raises:
            ValueError: If a field is malformed or contradicts another, with file and line.
        """
        rows = Rows(source, self)
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


class Rows:
    """The rows of a tab-separated log in our terms.

    Attributes:
        header: Our names of the columns.
        fields: A row's values by column.
        radii: A row's radius as it is printed, ``0.0`` where the log has none.
        notes: What was repaired.
    """

    def __init__(self, source: Source, dialect: Tabular) -> None:
        """Read all rows.

        Raises:
            ValueError: If there are none, or one is malformed, contradicts itself or is there twice.
        """
        self.header = [dialect.rename.get(name, name) for name in source.header]
        if len(set(self.header)) < len(self.header):
            raise ValueError(f"{source.path}: a column is there twice: {' '.join(self.header)[:200]}.")
        self.fields: list[dict[str, Any]] = []
        self.radii: list[str] = []
        self.notes: list[str] = []
        self._predictions = "radius" not in self.header
        body = _texts(source, dialect, len(self.header))
        if not body:
            raise ValueError(f"{source.path}: {NO_ROWS}")
        whole = [texts for _, texts in body if len(texts) == len(self.header)]
        self._repair(whole, dialect)
        self._parse(source, body)

    def columns(self) -> dict[str, list[Any]]:
        """The values by column."""
        return {name: [row[name] for row in self.fields] for name in self.header}

    def _parse(self, source: Source, body: list[tuple[int, list[str]]]) -> None:
        seen = set[int]()
        parsed = [*self.header, "radius"] if self._predictions else self.header
        for number, texts in body:
            try:
                row = parse_fields("\t".join([*texts, "0.0"] if self._predictions else texts), parsed)
            except ValueError as error:
                torn = len(texts) < len(self.header) or str(error).startswith(f"{self.header[-1]} must be")
                if torn and number == len(source.lines) and len(body) > 1:  # without a line end
                    self.notes.append(f"line {number}, the last, is cut off and was left out.")
                    break
                raise source.error(number, str(error)[:300]) from None
            if row["idx"] in seen:
                raise source.error(number, f"idx {row['idx']} is there twice.")
            seen.add(row["idx"])
            self.fields.append(row)
            self.radii.append("0.0" if self._predictions else texts[self.header.index("radius")])

    def _repair(self, rows: list[list[str]], dialect: Tabular) -> None:
        label, predict, correct = (self.header.index(name) for name in ("label", "predict", "correct"))
        if dialect.names:
            self._number_classes(rows, label, predict)
        rejected = 0
        for texts in rows:
            texts[correct] = _BOOLEANS.get(texts[correct], texts[correct])
            if dialect.rejects is not None and texts[predict] == "-2":
                texts[predict] = str(ABSTAIN)
                rejected += 1
        if rejected:
            self.notes.append(f"{rejected} rows have predict -2, {dialect.rejects}: read as abstentions.")
        hits, running = 0, True
        plain = True
        for texts in rows:
            hit = texts[predict] == texts[label]
            hits += hit
            plain &= texts[correct] == str(int(hit))
            running &= texts[correct] == str(hits)
        if running and hits > 1 and not plain:
            self.notes.append(RUNNING)
            for texts in rows:
                texts[correct] = str(int(texts[predict] == texts[label]))

    def _number_classes(self, rows: list[list[str]], label: int, predict: int) -> None:
        classes = [name for texts in rows for name in (texts[label], texts[predict]) if name != str(ABSTAIN)]
        if all(re.fullmatch("[0-9]{1,18}", name) for name in classes):
            return
        numbers = {name: str(index) for index, name in enumerate(dict.fromkeys(classes))}
        for texts in rows:
            texts[label], texts[predict] = (numbers.get(texts[at], texts[at]) for at in (label, predict))
        self.notes.append("classes are names: numbered in the order of their first appearance.")


def _texts(source: Source, dialect: Tabular, columns: int) -> list[tuple[int, list[str]]]:
    found = []
    for number, line in source.body[1:]:
        if dialect.end is not None and line.startswith(dialect.end):
            break
        texts = [text.strip() for text in line.split("\t")]
        while len(texts) > columns and not texts[-1]:  # trailing tabs
            texts.pop()
        found.append((number, texts))
    return found
