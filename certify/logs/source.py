"""A file as dialects read it: its lines, the columns of its table, and grids of numbers without a header.

A table may stand in the captured output of a terminal: lines before the one that names the columns are left out, and so
are comments. Fields are separated by tabs, commas, semicolons or spaces.
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from maxup_smoothing.certify.tables.row import FIELD_COLUMNS

_NUMBER = re.compile(r"-?[0-9]+\.?[0-9]*(e[+-]?[0-9]+)?|-?\.[0-9]+|nan|-?inf", re.IGNORECASE)
_BETWEEN = re.compile(r"[\s,;]+")

_SEPARATORS = ("\t", ";", ",", " ")
_NAMES = {*FIELD_COLUMNS, "original_idx", "counts", "count", "l2_radius", "exact_radius", "radius proved", "p1"}
_NAMED = re.compile(r"\b(original_)?idx\b|\blabel\b", re.IGNORECASE)
_COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_AFTER_WORDS = re.compile(r".*[\s:\]|-](original_idx|idx|[0-9]+)", re.IGNORECASE)
_MOST_LINES_BEFORE = 10_000


@dataclass(frozen=True)
class Source:
    """A file, or a folder (then without data)."""

    path: Path
    data: bytes

    @cached_property
    def text(self) -> str:
        """The text as UTF-8, without a byte order mark and without a terminal's colours."""
        text = self.data.decode("utf-8-sig", errors="replace")
        if "\n" not in text:  # where a carriage return alone ends a line
            text = text.replace("\r", "\n")
        return _COLOURS.sub("", text) if "\x1b" in text else text

    @cached_property
    def lines(self) -> list[str]:
        """The lines without their ends; the last one is empty if the file ends with a line end."""
        return [line.rstrip("\r") for line in self.text.split("\n")]

    @cached_property
    def whole(self) -> list[tuple[int, str]]:
        """The lines that are neither blank nor comments, each with its number from 1.

        A carriage return ends a line too: progress bars are drawn with it.
        """
        return [
            (number, part)
            for number, line in enumerate(self.lines, start=1)
            for part in (line.split("\r") if "\r" in line else (line,))
            if part.strip() and not part.lstrip().startswith("#")
        ]

    @cached_property
    def body(self) -> list[tuple[int, str]]:
        """The same from the line that names the columns, or all of them where no line does."""
        number = self._head[0]
        return self.whole if number is None else [self._named, *(pair for pair in self.whole if pair[0] > number)]

    @cached_property
    def header(self) -> tuple[str, ...]:
        """The columns that the first line of the body names, without white space; this field's in small letters."""
        fields = self.fields(self.body[0][1]) if self.body else []
        while fields and not fields[-1]:  # trailing separators
            fields.pop()
        small = [name.lower() if name.lower() in _NAMES else name for name in fields]
        return tuple(small if len(set(small)) == len(set(fields)) else fields)

    @property
    def separator(self) -> str:
        """What stands between fields: a tab, a semicolon, a comma, or a space for any white space."""
        return self._head[1]

    @property
    def before(self) -> int:
        """How many lines stand before the one that names the columns, comments aside."""
        number = self._head[0]
        return 0 if number is None else sum(found < number for found, _ in self.whole)

    @property
    def ended(self) -> bool:
        """Whether the last line is whole."""
        return self.lines[-1] == ""

    def fields(self, line: str) -> list[str]:
        """The fields of a line, without white space around them, and without a logger's words before the first."""
        fields = _fields(line, self.separator)
        if self._head[2] and fields and (match := _AFTER_WORDS.fullmatch(fields[0])):
            fields[0] = match[1]
        return fields

    def error(self, number: int, message: object) -> ValueError:
        """A fault in a line."""
        return ValueError(f"{self.path}, line {number}: {message}")

    @property
    def _named(self) -> tuple[int, str]:
        """The line that names the columns, which may be a comment, as ``numpy.savetxt`` writes it."""
        number = self._head[0] or 1
        return number, self.lines[number - 1].rsplit("\r", 1)[-1].lstrip().lstrip("#").lstrip(" ")

    @cached_property
    def _head(self) -> tuple[int | None, str, bool]:
        """The number of the line that names the columns, None without one, and what separates its fields.

        And whether words stand before each line, as a logger writes them: ``INFO:root:idx``.
        """
        for number, line in enumerate(self.lines[:_MOST_LINES_BEFORE], start=1):
            if _NAMED.search(line) is None or len(line) > 10_000:
                continue
            last = line.rsplit("\r", 1)[-1].lstrip().lstrip("#")
            for separator in _SEPARATORS:
                fields = _fields(last, separator)
                match = _AFTER_WORDS.fullmatch(fields[0]) if separator == "\t" else None
                if match is not None:
                    fields = [match[1], *fields[1:]]
                if _names_columns(fields, separator):
                    return number, separator, match is not None
        return None, "\t", False


def _fields(line: str, separator: str) -> list[str]:
    if separator == " ":
        return line.split()
    if separator == "\t":
        return [text.strip() for text in line.split("\t")]
    try:
        return [text.strip() for text in next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])]
    except csv.Error:  # a field of more than 131,072 characters
        return [line]


def _names_columns(fields: Sequence[str], separator: str) -> bool:
    """Whether fields are names of a table's columns rather than words of a sentence."""
    names = [name.lower() for name in fields]
    known = _NAMES & set(names)
    if separator == " " and (not names or names[0] not in ("idx", "original_idx", "label")):
        return False
    return len(known) >= 2 and (not known.isdisjoint(("idx", "original_idx")) or {"label", "predict"} <= known)


def split(line: str) -> list[str]:
    """The numbers of a line as texts; tabs, spaces, commas and semicolons stand between them."""
    return [text for text in _BETWEEN.split(line.strip()) if text]


def is_number(text: str) -> bool:
    """Whether a text is a decimal number."""
    return _NUMBER.fullmatch(text) is not None


def numbered(source: Source, names: Sequence[Sequence[str]] = ()) -> list[tuple[int, list[str]]]:
    """The lines of numbers, each with its number; empty where the first line is none and no header.

    Args:
        source: The file.
        names: Headers that may stand above the numbers, each a sequence of names in small letters.
    """
    lines = source.whole
    if lines and tuple(split(lines[0][1].lower())) in set(map(tuple, names)):
        lines = lines[1:]
    if not lines or not all(map(is_number, split(lines[0][1]))):
        return []
    return [(number, split(line)) for number, line in lines]
