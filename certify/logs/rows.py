"""The rows of a table in our terms, with what was repaired in them; faulty rows are kept apart, not raised.

A reader that needs whole tables raises the first fault. The audit lists them all.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from maxup_smoothing.certify.logs.log import NO_ROWS
from maxup_smoothing.certify.logs.source import Source
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.tables.fields import MALFORMED, RowError
from maxup_smoothing.certify.tables.row import parse_fields

RUNNING = "correct was a running count: recomputed as predict == label."
_BOOLEANS = {
    **dict.fromkeys(("true", "t", "yes", "y"), "1"),
    **dict.fromkeys(("false", "f", "no", "n"), "0"),
}
_ABSTENTIONS = ("abstain", "abstained", "abstention")
_NO_RADIUS = ("", "nan", "none", "-", "-1", "-1.0", "-inf")
_WORDS = {"\t": "tab", ",": "comma", ";": "semicolon", " ": "space"}
_WHOLE = re.compile(r"(-?[0-9]{1,18})\.0+")
_DECIMAL_COMMA = re.compile(r"-?[0-9]+,[0-9]+(e[+-]?[0-9]+)?", re.IGNORECASE)


class Rows:
    """The rows of a log whose first line names its columns.

    Attributes:
        header: Our names of the columns.
        fields: A sound row's values by column.
        radii: A sound row's radius as it is printed, ``0.0`` where the log has none.
        lines: A sound row's number of the line.
        indices: The pair (idx, line) of each row that has a number there, sound or not.
        count: How many rows there are, sound or not; a last one that is cut off is none.
        faults: Number of the line and error of each row that is malformed or contradicts itself.
        running: Whether ``correct`` was a running count of correct rows; it was recomputed.
        notes: What was repaired or left out.
    """

    def __init__(
        self,
        source: Source,
        *,
        rename: Mapping[str, str] | None = None,
        end: str | None = None,
        rejects: str | None = None,
        class_names: bool = False,
    ) -> None:
        """Read all rows.

        Args:
            source: The file.
            rename: Its name of a column, and ours.
            end: What a line begins with after which there are no rows.
            rejects: What predict -2 means, where it is written; it is read as an abstention.
            class_names: Whether classes may be names instead of numbers.

        Raises:
            ValueError: If a column is there twice.
        """
        self.header = [(rename or {}).get(name, name) for name in source.header]
        if len(set(self.header)) < len(self.header):
            raise ValueError(
                f"{source.path}: the columns must differ, but one is there twice: {' '.join(self.header)[:200]}."
            )
        self.fields: list[dict[str, Any]] = []
        self.radii: list[str] = []
        self.lines: list[int] = []
        self.indices: list[tuple[int, int]] = []
        self.faults: list[tuple[int, RowError]] = []
        self.running, self.count = False, 0
        self.notes: list[str] = []
        self._source, self._short = source, False
        body = self._body(end)
        self._repair([texts for _, texts in body if len(texts) == len(self.header)], rejects, class_names)
        self._parse(body)

    def columns(self) -> dict[str, list[Any]]:
        """The values of a log without faults by column.

        Raises:
            ValueError: If there are no rows, a row has a fault, or an image is there twice, with file and line.
        """
        faults = list[tuple[int, object]](self.faults)
        if self._short and self.count and self.fields:  # a last line without its end may be cut off
            faults.pop()
            self.notes.append(f"line {self._last()}, the last, is cut off and was left out.")
        seen = set[int]()
        for idx, number in self.indices:
            if idx in seen:
                faults.append((number, f"idx {idx} is there twice."))
                break
            seen.add(idx)
        if faults:
            raise self._source.error(*min(faults, key=lambda fault: fault[0]))
        if not self.fields:
            raise ValueError(f"{self._source.path}: {NO_ROWS}")
        return {name: [row[name] for row in self.fields] for name in self.header}

    def _last(self) -> int:
        return len(self._source.lines)

    def _body(self, end: str | None) -> list[tuple[int, list[str]]]:
        """The rows' fields; lines of a terminal's output between them are left out, and so are repeated headers."""
        found, others = list[tuple[int, list[str]]](), list[int]()
        head, columns = self._source.body[0][1] if self._source.body else "", len(self.header)
        for number, line in self._source.body[1:]:
            if end is not None and line.startswith(end):
                break
            texts = self._source.fields(line)
            while len(texts) > columns and not texts[-1]:  # trailing separators
                texts.pop()
            if line == head or (len(texts) != columns and self._is_output(texts) and not self._is_cut(number)):
                others.append(number)
            else:
                found.append((number, texts))
        if self._source.before:
            self.notes.append(
                f"before the line that names the columns, {_lines(self._source.before)} left out: no rows."
            )
        if others:
            self.notes.append(f"{_lines(len(others))} left out: no rows; line {others[0]} is the first.")
        return found

    def _is_output(self, texts: Sequence[str]) -> bool:
        """Whether a line without a row's fields is a terminal's output rather than a damaged row."""
        several = self._source.separator == "\t" and len(texts) > 1
        return not several and not re.fullmatch("-?[0-9]+", texts[0] if texts else "")

    def _is_cut(self, number: int) -> bool:
        return not self._source.ended and number == self._last()

    def _parse(self, body: Sequence[tuple[int, list[str]]]) -> None:
        added = {"radius": "0.0"} if "radius" not in self.header else {}
        names = [*self.header, *added, *(["correct"] if "correct" not in self.header else [])]
        for number, texts in body:
            row = dict(zip(self.header, texts, strict=False))
            more = [*added.values(), *([_hit(row)] if "correct" not in self.header else [])]
            try:
                if "\t".join(texts).count("\t") != len(self.header) - 1:
                    word = _WORDS[self._source.separator]
                    message = f"expected {len(self.header)} {word}-separated fields, got {len(texts)}."
                    raise RowError(message, kind=MALFORMED, field="")
                fields = parse_fields("\t".join([*texts, *more]), names)
            except RowError as error:
                self.faults.append((number, error))
                if self._is_cut(number):
                    torn = (error.kind, error.field) == (MALFORMED, self.header[-1])
                    self._short = torn or len(texts) < len(self.header)
                    continue
            else:
                self.fields.append(fields)
                self.lines.append(number)
                self.radii.append(row.get("radius", "0.0"))
            self.count += 1
            if re.fullmatch("[0-9]{1,18}", row.get("idx", "")):
                self.indices.append((int(row["idx"]), number))
        if "correct" not in self.header:
            self.header = [*self.header, "correct"]
            self.notes.append("correct is not told: it is whether predict is label.")

    def _repair(self, rows: Sequence[list[str]], rejects: str | None, class_names: bool) -> None:
        at = {name: self.header.index(name) for name in self.header}
        if self._source.separator == ";" and (commas := _replace(rows, range(len(self.header)), _with_point)):
            self.notes.append(f"{commas} numbers have a decimal comma, as some spreadsheets write them.")
        _replace(rows, [at[name] for name in ("idx", "label", "predict", "correct") if name in at], _as_integer)
        if class_names:
            self._number_classes(rows, at["label"], at["predict"])
        if "correct" in at:
            _replace(rows, [at["correct"]], lambda text: _BOOLEANS.get(text.lower(), text))
        if "predict" not in at:
            return
        if rejects is not None and (count := _replace(rows, [at["predict"]], lambda t: "-1" if t == "-2" else t)):
            self.notes.append(f"{count} rows have predict -2, {rejects}: read as abstentions.")
        _replace(rows, [at["predict"]], lambda text: str(ABSTAIN) if text.lower() in _ABSTENTIONS else text)
        if "radius" in at:
            abstained = [texts for texts in rows if texts[at["predict"]] == str(ABSTAIN)]
            if count := _replace(abstained, [at["radius"]], lambda t: "0.0" if t.lower() in _NO_RADIUS else t):
                self.notes.append(f"{count} abstentions have no number as their radius: read as 0.")
        if {"label", "correct"} <= at.keys():
            self._recount(rows, at)

    def _recount(self, rows: Sequence[list[str]], at: Mapping[str, int]) -> None:
        hits, running = 0, True
        for texts in rows:
            hits += texts[at["predict"]] == texts[at["label"]]
            running &= texts[at["correct"]] == str(hits)
        if running and hits > 1:
            self.running = True
            self.notes.append(RUNNING)
            for texts in rows:
                texts[at["correct"]] = str(int(texts[at["predict"]] == texts[at["label"]]))

    def _number_classes(self, rows: Sequence[list[str]], label: int, predict: int) -> None:
        classes = [name for texts in rows for name in (texts[label], texts[predict]) if name != str(ABSTAIN)]
        if all(re.fullmatch("[0-9]{1,18}", name) for name in classes):
            return
        numbers = {name: str(index) for index, name in enumerate(dict.fromkeys(classes))}
        _replace(rows, (label, predict), lambda name: numbers.get(name, name))
        self.notes.append("classes are names: numbered in the order of their first appearance.")


def _replace(rows: Sequence[list[str]], columns: Sequence[int], change: Callable[[str], str]) -> int:
    """Change fields in place; how many became others."""
    changed = 0
    for texts in rows:
        for column in columns:
            new = change(texts[column])
            changed += new != texts[column]
            texts[column] = new
    return changed


def _as_integer(text: str) -> str:
    """``3.0`` as ``3``; other texts as they are."""
    match = _WHOLE.fullmatch(text)
    return text if match is None else match[1]


def _with_point(text: str) -> str:
    return text.replace(",", ".") if _DECIMAL_COMMA.fullmatch(text) else text


def _lines(count: int) -> str:
    return f"{count} line{'s were' if count > 1 else ' was'}"


def _hit(row: Mapping[str, str]) -> str:
    return str(int(row.get("predict") == row.get("label")))
