"""Logs of votes, from which radii follow with sigma and alpha: smoothingGenGaussian and bridging_the_gap."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from maxup_smoothing.certify.logs.log import NO_ROWS, Given, Log, frame, missing_rows
from maxup_smoothing.certify.logs.rows import Rows
from maxup_smoothing.certify.logs.source import Source
from maxup_smoothing.certify.logs.tabular import Tabular
from maxup_smoothing.certify.statistics.binomial import lower_confidence_bound
from maxup_smoothing.certify.statistics.radius import ABSTAIN, certified_radius
from maxup_smoothing.certify.tables.fields import COUNT, LABEL, NOT_NEGATIVE
from maxup_smoothing.data.runtime import strict_json
from maxup_smoothing.data.runtime.untrusted import read_bytes

_COUNT = re.compile("[0-9]{1,9}")
_VOTES = re.compile(r"\[ ?[0-9]{1,9}(, ?[0-9]{1,9}){1,9999} ?\]")
_IID, _EXACT = "any_iid_distribution_bound", "exact_radius"
_FIELD = frozenset({"idx", "label", "predict", "count", "correct"})


@dataclass(frozen=True)
class GenGaussian:
    """Votes for the predicted class in ``count``, perhaps with the radius that its authors computed."""

    name: str = "gengaussian"
    project: str = "alevine0/smoothingGenGaussian"

    def matches(self, source: Source) -> bool:
        """Whether there are votes and no ``radius``."""
        return set(source.header) >= _FIELD and "radius" not in source.header

    def rows(self, source: Source) -> Rows:
        """The rows, faulty ones included; votes are ``n_a``."""
        return self._tabular.rows(source)

    def read(self, source: Source, given: Given) -> Log:
        """Radii from the votes, never above those printed; without sigma, n and alpha the printed ones.

        Raises:
            ValueError: If a line is malformed, sigma, n or alpha is missing where no radius is printed, or a printed
                radius does not follow from its votes.
        """
        exact = _EXACT in source.header
        if exact and given.sigma is given.n is given.alpha is None:
            return self._tabular.read(source, given)
        settings = Given(**{name: given.or_told(name, None) for name in ("sigma", "n", "alpha")})
        rows = self.rows(source)
        table = settings.added_to(frame(rows.columns()))
        notes, audited = [*rows.notes], tuple(missing_rows(table["idx"].tolist()))
        if (table["n_a"] > table["n"]).any():
            raise ValueError(f"{source.path}: {table['n_a'].max()} votes are more than n={given.n}.")
        table["p_a_lower"] = lower_confidence_bound(table["n_a"].to_numpy(), table["n"].to_numpy(), given.alpha or 0.0)
        if not exact and not _gaussian(table):
            notes.append(
                f"the noise was not Gaussian ({_IID} is not that of p = 2): no l2 radius follows from these votes."
            )
            table = table.drop(columns="p_a_lower")
            return Log(table=table, dialect=self.name, kind="sampling", notes=tuple(notes), audited=audited)
        proved = certified_radius(table["p_a_lower"].to_numpy(), given.sigma or 0.0)
        if exact:
            _follow(source, table, proved)
            proved = np.minimum(proved, table["radius"].to_numpy())
        notes.append("radii were computed from the votes; p_a_lower is our own bound.")
        table = _certified(table, proved, notes)
        return Log(table=table, dialect=self.name, kind="sampling", notes=tuple(notes), audited=audited)

    @property
    def _tabular(self) -> Tabular:
        return Tabular(name=self.name, project=self.project, needs=_FIELD, rename={"count": "n_a", _EXACT: "radius"})


@dataclass(frozen=True)
class VotesByClass:
    """Votes of all classes as a list, selection and estimation in two files with a JSON configuration beside them."""

    name: str = "bridging-the-gap"
    project: str = "bridging_the_gap, log_certify"

    def matches(self, source: Source) -> bool:
        """Whether the columns are idx, label and counts."""
        return source.header == ("idx", "label", "counts")

    def read(self, source: Source, given: Given) -> Log:
        """Radii from the votes; sigma and alpha are ``certify_args.json``'s beside the file, or given.

        Raises:
            ValueError: If a line is malformed, sigma or alpha is missing, or this is the file of the selection.
        """
        if re.search(r"_N0_\d", source.path.name):
            raise ValueError(f"{source.path} holds the selection's votes; read the file of N beside it.")
        votes = _votes(source)
        told = _arguments(source.path)
        sigma, alpha = (given.or_told(name, told.get(name)) for name in ("sigma", "alpha"))
        n = given.or_told("n", int(sum(next(iter(votes.values()))[1])))
        counts_NK = np.array([counts for _, counts in votes.values()], dtype=np.int64)
        notes = ["radii were computed from the votes."]
        beside = _selection_file(source.path)
        selection = {} if beside is None else _votes(Source(beside, beside.read_bytes()))
        columns: dict[str, Any] = {}
        if set(selection) >= set(votes):
            chosen = np.array([int(np.argmax(selection[idx][1])) for idx in votes], dtype=np.int64)
            columns["n0"] = [sum(selection[idx][1]) for idx in votes]
        else:
            chosen, level = counts_NK.argmax(axis=1), alpha / counts_NK.shape[1]
            notes.append(
                f"there is no file of the selection's votes: classes are chosen by the votes that certify them, so "
                f"alpha = {alpha:g} is shared by {counts_NK.shape[1]} classes."
            )
            alpha = level
        if (chosen >= counts_NK.shape[1]).any():
            raise ValueError(f"{beside} has more classes than {source.path}.")
        n_a = counts_NK[np.arange(len(votes)), chosen]
        lower = lower_confidence_bound(n_a, n, alpha)
        columns |= {"n": [n] * len(votes), "n_a": n_a.tolist(), "alpha": [alpha] * len(votes)}
        columns |= {"sigma": [sigma] * len(votes), "p_a_lower": lower.tolist(), "radius": [0.0] * len(votes)}
        labels = [label for label, _ in votes.values()]
        right = (chosen == np.array(labels)).astype(int).tolist()
        told_columns = {"idx": list(votes), "label": labels, "predict": chosen.tolist(), "correct": right}
        table = _certified(frame({**told_columns, **columns}), certified_radius(lower, sigma), [])
        audited = tuple(missing_rows(list(votes)))
        return Log(table=table, dialect=self.name, kind="sampling", notes=tuple(notes), audited=audited)


def _certified(table: pd.DataFrame, proved: Any, notes: list[str]) -> pd.DataFrame:
    """The table with radii, and abstentions where there is none."""
    predict = table["predict"].to_numpy()
    if new := int(((proved == 0) & (predict != ABSTAIN)).sum()):
        notes.append(f"{new} rows have a class that their votes do not certify: read as abstentions.")
    predict = np.where(proved > 0, predict, ABSTAIN)
    radius = np.where(predict == ABSTAIN, 0.0, proved)
    right = (predict == table["label"].to_numpy()).astype(np.int64)
    done = table.assign(predict=predict, radius=radius, correct=right)
    return frame({str(name): done[name].tolist() for name in done})


def _gaussian(table: pd.DataFrame) -> bool:
    """Whether the log's bound for any noise is that of p = 2: the only p for which the dimension drops out of it.

    It is sigma / (2 sqrt 2) d^(1/p - 1/2) (1 / sqrt(1 - p_a) + 1 / sqrt(p_b)) with p_b = 1 - p_a; Kumar et al. (2020).
    """
    if _IID not in table:
        return False  # nothing records the noise
    rows = table[(table["predict"] != ABSTAIN) & (table["p_a_lower"] > 0.5)]
    if rows.empty:
        return False
    printed = np.array([NOT_NEGATIVE.read(text, _IID) for text in rows[_IID]], dtype=np.float64)
    expected = rows["sigma"].to_numpy() / np.sqrt(2 * (1 - rows["p_a_lower"].to_numpy()))
    return bool(np.allclose(printed, expected, rtol=1e-2))


def _follow(source: Source, table: pd.DataFrame, proved: Any) -> None:
    for idx, predict, printed, radius in zip(table["idx"], table["predict"], table["radius"], proved, strict=True):
        unit = 10.0 ** (math.floor(math.log10(printed)) - 4) if printed > 0 else 1.0  # five significant digits
        if predict != ABSTAIN and printed - radius > 0.51 * unit:
            raise ValueError(
                f"{source.path}, idx {idx}: exact_radius {printed} is above {radius:.6g}, which its votes prove with "
                "the sigma, n and alpha given."
            )


def _votes(source: Source) -> dict[int, tuple[int, list[int]]]:
    """Label and votes by image, all of one length and one sum."""
    found: dict[int, tuple[int, list[int]]] = {}
    for number, line in source.body[1:]:
        texts = source.fields(line)
        if len(texts) != 3 or not _VOTES.fullmatch(texts[2]):
            raise source.error(number, "expected idx, label and a list of votes such as [3, 97], tab-separated.")
        try:
            idx, label = COUNT.read(texts[0], "idx"), LABEL.read(texts[1], "label")
        except ValueError as error:
            raise source.error(number, error) from None
        counts: list[int] = json.loads(texts[2])
        first = next(iter(found.values()), (0, counts))[1]
        if idx in found or len(counts) != len(first) or sum(counts) != sum(first) or sum(counts) == 0:
            raise source.error(
                number, f"idx must be there once, with {len(first)} classes and {sum(first)} votes as above, above 0."
            )
        found[idx] = (label, counts)
    if not found:
        raise ValueError(f"{source.path}: {NO_ROWS}")
    return found


def _arguments(path: Path) -> dict[str, float]:
    """sigma and alpha of the configuration beside a log, as far as it records them."""
    beside = path.with_name("certify_args.json")
    if not beside.is_file() or beside.stat().st_size > 1_000_000:
        return {}
    try:
        told = strict_json.parse(read_bytes(beside, 1_000_000))
    except ValueError as error:
        raise ValueError(f"{beside} is no JSON: {error}") from None
    found = {name: told.get(name) for name in ("sigma", "alpha")} if isinstance(told, dict) else {}
    known = {name: value for name, value in found.items() if value is not None}
    for name, value in known.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{beside}: {name} must be a number, got {str(value)[:50]}.")
    Given(**known)
    return known


def _selection_file(path: Path) -> Path | None:
    """The one file of the selection: ``…_N0_…`` beside ``certify_cifar10_0.5_N_100000_alpha_0.001.txt``, or None."""
    name, parts = re.subn(r"_N_\d+_", "_N0_*_", re.sub(r"([*?\[])", r"[\1]", path.name))
    found = [one for one in path.parent.glob(name) if one.stat().st_size <= 10 * path.stat().st_size] if parts else []
    return found[0] if len(found) == 1 else None
