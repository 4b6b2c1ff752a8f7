"""The table of attacks: for each image and goal the strongest attack found, and what PREDICT said of it.

``docs/attack.md`` describes the columns.
"""

import io
import math
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maxup_smoothing.certify.attack.projection import LEVELS, budget
from maxup_smoothing.certify.attack.threat_model import MOST
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.tables import fields as kinds
from maxup_smoothing.certify.tables.durable import DurableTable, read_lines
from maxup_smoothing.certify.tables.fields import (
    Field,
    as_attributes,
    contradiction,
    format_counts,
    format_seconds,
    parse_line,
)
from maxup_smoothing.data.runtime.atomic import write_atomically

COLUMNS = (
    "idx", "label", "predict", "radius", "goal", "factor", "epsilon", "attack", "squares", "distance",
    "attacked_predict", "n", "counts", "confirmed", "confirm_counts", "time",
)  # fmt: skip
#: How the attacked image was found; ``none`` is the image itself.
ATTACKS = ("pgd", "ddn", "none")
NOT_NEEDED, REFUTED, CONFIRMED = "", "no", "yes"
FIELDS: Mapping[str, Field[Any]] = {
    "idx": kinds.COUNT,
    "label": kinds.LABEL,
    "predict": kinds.PREDICTION,
    "radius": kinds.NOT_NEGATIVE,
    "goal": kinds.integer(0, MOST - 1),
    "factor": kinds.optional(kinds.POSITIVE, None),
    "epsilon": kinds.NOT_NEGATIVE,
    "attack": kinds.one_of(ATTACKS),
    "squares": kinds.COUNT,
    "distance": kinds.NOT_NEGATIVE,
    "attacked_predict": kinds.PREDICTION,
    "n": kinds.POSITIVE_COUNT,
    "counts": kinds.COUNTS,
    "confirmed": kinds.one_of((NOT_NEEDED, REFUTED, CONFIRMED)),
    "confirm_counts": kinds.optional(kinds.COUNTS, {}),
    "time": kinds.SECONDS,
}
_SAVED = ("idx", "goal", "label", "predict", "radius", "epsilon", "distance", "attacked_predict")


@dataclass(frozen=True, kw_only=True)
class AttackRow:
    """One image under one goal.

    ``predict`` and ``radius`` are the certificate's; ``squares`` is the sum of squares of the change in 1/255.
    ``attacked_predict`` is the answer of PREDICT for the attacked image with ``counts`` of n votes. Where it is a
    success within the certified radius, ``confirmed`` says what PREDICT found at the strict alpha, from
    ``confirm_counts``.
    """

    idx: int
    label: int
    predict: int
    radius: float
    goal: int
    factor: float | None
    epsilon: float
    attack: str
    squares: int
    attacked_predict: int
    n: int
    counts: Mapping[int, int]
    confirmed: str
    confirm_counts: Mapping[int, int]
    seconds: float

    @property
    def key(self) -> tuple[int, int]:
        """What tells the rows of a table apart: the image and the goal."""
        return self.idx, self.goal

    @property
    def distance(self) -> float:
        """l2 norm of the change, in [0, 1] pixel units."""
        return math.sqrt(self.squares) / LEVELS

    @property
    def right(self) -> bool:
        """Whether PREDICT returned the label all the same."""
        return self.attacked_predict == self.label

    @property
    def success(self) -> bool:
        """Whether PREDICT returned a class that is not the certified one (the label, if none was certified)."""
        return self.attacked_predict not in (ABSTAIN, target_of(self.label, self.predict))

    @property
    def inside(self) -> bool:
        """Whether the change is within the certified radius; in whole numbers, so exact."""
        return self.predict != ABSTAIN and self.squares <= budget(self.radius)


def target_of(label: int, predict: int) -> int:
    """The class that is attacked: the certified one, or the label where the certificate abstained."""
    return label if predict == ABSTAIN else predict


def format_attack(row: AttackRow) -> str:
    """The row's line, without its end."""
    texts: dict[str, object] = {
        "factor": "" if row.factor is None else repr(float(row.factor)),
        "distance": repr(row.distance),
        "counts": format_counts(row.counts),
        "confirm_counts": format_counts(row.confirm_counts),
        "time": format_seconds(row.seconds),
    }
    texts |= {name: repr(float(getattr(row, name))) for name in ("radius", "epsilon")}
    return "\t".join(str(texts[name] if name in texts else getattr(row, name)) for name in COLUMNS)


def parse_attack(line: str) -> AttackRow:
    """The inverse of `format_attack`.

    Raises:
        RowError: If a field is malformed or contradicts another one.
    """
    fields = as_attributes(parse_line(line, COLUMNS, FIELDS))
    distance = fields.pop("distance")
    row = AttackRow(**fields)
    if not math.isclose(distance, row.distance, rel_tol=1e-12):
        message = f"distance is {distance}, but squares={row.squares} give {row.distance}."
        raise contradiction("distance", message)
    if row.squares > budget(row.epsilon):
        raise contradiction("epsilon", f"distance is {distance}, more than epsilon={row.epsilon}.")
    if sum(row.counts.values()) != row.n:
        raise contradiction("counts", f"counts sum to {sum(row.counts.values())}, but n is {row.n}.")
    if row.attacked_predict != ABSTAIN and row.counts.get(row.attacked_predict, 0) < max(row.counts.values()):
        message = f"attacked_predict is {row.attacked_predict}, for which most did not vote."
        raise contradiction("attacked_predict", message)
    if (row.confirmed != NOT_NEEDED) != (row.success and row.inside) or bool(row.confirm_counts) != bool(row.confirmed):
        message = "what is confirmed or refuted are successes within the certified radius, and only those."
        raise contradiction("confirmed", message)
    return row


class AttackTable(DurableTable[AttackRow]):
    """A table of attacks open for writing; see `certify.tables.durable`."""

    columns = COLUMNS
    kind = "table of attacks"
    format = staticmethod(format_attack)
    parse = staticmethod(parse_attack)

    @staticmethod
    def named(row: AttackRow) -> str:
        """The row's key in words, for messages."""
        return f"idx {row.idx} with goal {row.goal}"


def is_attack_table(path: str | os.PathLike[str]) -> bool:
    """Whether a file begins as such a table does."""
    header = "\t".join(COLUMNS).encode()
    with Path(path).open("rb") as stream:
        return stream.read(len(header) + 2).split(b"\n")[0].rstrip(b"\r") == header


def read_attacks(path: str | os.PathLike[str]) -> list[AttackRow]:
    """The rows of a table of attacks, in the file's order; zero rows are allowed.

    Raises:
        ValueError: If it is another table or a row is malformed, with file and line.
        OSError: If it cannot be read.
    """
    if not is_attack_table(path):
        raise ValueError(f"{path} is not a table of `certify attack`: its first line differs.")
    lines, _ = read_lines(path)
    rows: dict[tuple[int, int], AttackRow] = {}
    for number, line in enumerate(lines[1:], start=2):
        try:
            row = parse_attack(line)
            if row.key in rows:
                raise contradiction("goal", f"{AttackTable.named(row)} is there twice.")
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        rows[row.key] = row
    return list(rows.values())


class Evidence:
    """Images of successes, in a file that is whole after every `add`.

    The file has ``images`` (uint8, (N, C, H, W)) and, for each of them, the columns ``idx``, ``goal``, ``label``,
    ``predict``, ``radius``, ``epsilon``, ``distance`` and ``attacked_predict`` of the table.

    Args:
        path: The file; one that exists is continued.
        overwrite: Begin it again instead.

    Raises:
        ValueError: If the file is there, and is none of these.
        OSError: If it cannot be read.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        if path.suffix != ".npz":
            raise ValueError(f"--save-images writes an .npz file, got {path}.")
        self._path = path
        self._found: dict[tuple[int, int], tuple[dict[str, float], NDArray[np.uint8]]] = {}
        if path.exists() and not overwrite:
            self._read()

    def add(self, successes: Sequence[tuple[AttackRow, NDArray[np.uint8]]]) -> None:
        """Put images (C, H, W) into the file, in place of those that it had for the same rows.

        Raises:
            OSError: If it cannot be written.
        """
        if not successes:
            return
        for row, pixels_CHW in successes:
            fields = {name: getattr(row, name) for name in _SAVED}
            self._found[row.key] = (fields, pixels_CHW)
        ordered = [self._found[key] for key in sorted(self._found)]
        columns = {name: np.array([fields[name] for fields, _ in ordered]) for name in _SAVED}
        stream = io.BytesIO()
        columns["images"] = np.stack([pixels_CHW for _, pixels_CHW in ordered])
        np.savez_compressed(stream, allow_pickle=False, **columns)
        write_atomically(self._path, stream.getvalue())

    def require(self, rows: Iterable[AttackRow]) -> None:
        """Refuse to go on with a table whose successes are not all here.

        Raises:
            ValueError: With the fix.
        """
        lost = sum(row.success and row.key not in self._found for row in rows)
        if lost:
            raise ValueError(
                f"{self._path} lacks the images of {lost} successes that the table has already; leave "
                "--save-images away, or begin again with --overwrite."
            )

    def _read(self) -> None:
        try:
            with np.load(self._path, allow_pickle=False) as file:
                columns = {name: file[name] for name in (*_SAVED, "images")}
            for place, pixels_CHW in enumerate(columns["images"]):
                fields = {name: columns[name][place].item() for name in _SAVED}
                self._found[int(fields["idx"]), int(fields["goal"])] = (fields, pixels_CHW)
        except (ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile) as error:
            reason = " ".join(str(error).split())[:120]
            raise ValueError(f"{self._path} was not written by --save-images ({reason}); name another file.") from error
