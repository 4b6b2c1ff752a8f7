"""Rows of a radius table, drawn again from its manifest, so that anybody can check its certificates.

A row's votes are a function of the network, the image and the recorded seed. So a few rows, chosen by whoever checks,
are drawn again: as many samples as they claim, split at the looks that they claim. Votes, looks, bounds and radius must
come out. Nothing is written.
"""

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from maxup_smoothing.certify.engine.votes import Item, count_votes
from maxup_smoothing.certify.noise import ESTIMATION, SELECTION
from maxup_smoothing.certify.runs.reopen import Overrides, brief, reopen_table, require_sections
from maxup_smoothing.certify.runs.session import Session
from maxup_smoothing.certify.statistics.certificate import Certificate, certificate_of, look_at
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables.radius_table import read_certified, sparse
from maxup_smoothing.certify.tables.row import Row

EXACT, CONSISTENT, DIFFERENT = "EXACT", "CONSISTENT", "DIFFERENT"
#: On another platform a sum may be rounded otherwise, and a few votes with it. A row stays CONSISTENT up to this share
#: of differing votes (one vote always), and if its redrawn votes prove at least that part of its radius.
FEW_VOTES, ENOUGH_RADIUS = 1e-3, 0.9

_SLACK = 1e-9  # of bounds and radii, between versions of scipy


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A row that did not come out.

    Attributes:
        idx: Its image.
        fields: What differs, such as ``n_a=198, redrawn 196``.
        votes: How many estimation votes went to another class.
        few: Whether rounding on another platform may explain it.
    """

    idx: int
    fields: tuple[str, ...]
    votes: int
    few: bool


@dataclass(frozen=True, kw_only=True)
class Report:
    """What was found.

    Attributes:
        rows: In the table.
        redrawn: The rows, by idx, that were drawn again; none where the manifests already contradict each other.
        differences: Those of them that did not come out.
        errors: Fields of the manifest that say that another function, data set or noise was certified.
        warnings: Fields that say it was on another platform, where rounding may differ.
    """

    rows: int
    redrawn: tuple[int, ...]
    differences: tuple[Difference, ...]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """``EXACT``, ``CONSISTENT`` or ``DIFFERENT``."""
        if self.errors:
            return DIFFERENT
        if not self.differences:
            return EXACT
        return CONSISTENT if self.warnings and all(found.few for found in self.differences) else DIFFERENT


def verify_table(
    file: Path,
    given: Overrides,
    *,
    rows: int | None,
    seed: int,
    expect: Callable[[int, int], None] = lambda rows, samples: None,
    advance: Callable[[int, int], None] = lambda samples, rows: None,
) -> Report:
    """Draw rows of a table again and compare; see the module.

    Args:
        file: A radius table with its manifest beside it.
        given: What the user says in place of the manifest.
        rows: How many, chosen at random; None for all.
        seed: Of that choice, at least 0.
        expect: Called once with the numbers of rows and samples that will be drawn.
        advance: Called with the number of samples of each batch and 0, and after each row with 0 and 1.

    Raises:
        ValueError: If the table or its manifest is damaged, or the model or data do not load; with the fix.
        OSError: If a file cannot be read.
    """
    if rows is not None and rows < 1:
        raise ValueError(f"--rows must be all or a positive integer, got {rows}.")
    if seed < 0:
        raise ValueError(f"--seed must be at least 0, got {seed}.")
    table, stored = read_certified(file), _stored(file)
    reopened = reopen_table(file, stored, given)
    chosen: list[Row] = []
    if not reopened.errors:
        count = len(table) if rows is None else min(rows, len(table))
        places = np.random.default_rng(seed).choice(len(table), size=count, replace=False)
        chosen = sorted((table[place] for place in places), key=lambda row: row.idx)
    expect(len(chosen), sum(row.n0 + row.n for row in chosen))
    found = []
    for row in chosen:
        found.append(redraw(reopened.session, row, stored["sampling"], lambda samples: advance(samples, 0)))
        advance(0, 1)
    return Report(
        rows=len(table),
        redrawn=tuple(row.idx for row in chosen),
        differences=tuple(difference for difference in found if difference is not None),
        errors=tuple(map(brief, reopened.errors)),
        warnings=tuple(map(brief, reopened.warnings)),
    )


def redraw(
    session: Session, row: Row, sampling: Mapping[str, Any], advance: Callable[[int], None] = lambda samples: None
) -> Difference | None:
    """Draw a row's samples again; None if all of the row comes out.

    Args:
        session: Model, data and noise, as recorded.
        row: The claim.
        sampling: The manifest's section, which the row must keep to.
        advance: Called with the number of samples of each batch.
    """
    if row.idx not in session.indices:
        return Difference(idx=row.idx, fields=("idx is not one of the protocol's images",), votes=0, few=False)
    fields = _broken_rules(row, sampling)
    label = int(session.dataset.labels[row.idx])
    if row.label != label:
        fields.append(f"label={row.label}, the data set's is {label}")
    few = not fields
    proved = _again(session, row, advance)
    redrawn: dict[str, object] = {name: getattr(proved, name) for name in ("selected", "predict", "n_a", "looks")}
    redrawn["counts"] = sparse(proved.counts)
    for name, value in redrawn.items():
        if getattr(row, name) != value:
            fields.append(f"{name}={_brief(getattr(row, name))}, redrawn {_brief(value)}")
    for name in ("p_a_lower", "p_b_upper", "radius"):
        claimed, now = getattr(row, name), getattr(proved, name)
        if not math.isclose(claimed, now, rel_tol=_SLACK):
            fields.append(f"{name}={claimed:.6g}, redrawn {now:.6g}")
    if not fields:
        return None
    counts = sparse(proved.counts)
    votes = sum(abs(row.counts.get(kind, 0) - counts.get(kind, 0)) for kind in {*row.counts, *counts}) // 2
    few &= row.selected == proved.selected and votes <= max(1, FEW_VOTES * row.n)
    few &= proved.radius >= ENOUGH_RADIUS * row.radius
    return Difference(idx=row.idx, fields=tuple(fields), votes=votes, few=few)


def _again(session: Session, row: Row, advance: Callable[[int], None]) -> Certificate:
    image_CHW = torch.from_numpy(session.dataset.images[row.idx])
    stops = [0, *(look.n for look in row.looks)]
    parts = [(SELECTION, 0, row.n0), *((ESTIMATION, *part) for part in itertools.pairwise(stops))]
    items = [Item(image_CHW, row.idx, *part) for part in parts]
    selection_V, *estimation = count_votes(session.classifier, session.noise, items, advance)
    selected = int(selection_V[:-1].argmax())
    sums = np.cumsum(estimation, axis=0)
    return certificate_of(
        [look_at(so_far_V, selected, look.level) for so_far_V, look in zip(sums, row.looks, strict=True)],
        selected,
        sums[-1],
        sigma=session.sigma,
        procedure=row.procedure,
        bound=row.bound,
        probability_error=session.noise.probability_error(image_CHW.numel()),
    )


def _broken_rules(row: Row, sampling: Mapping[str, Any]) -> list[str]:
    """Settings of a row that are not the manifest's; stopping early is allowed by any rule."""
    broken = [
        f"{name}={getattr(row, name)}, the manifest says {sampling.get(name)}"
        for name in ("procedure", "bound", "sigma", "alpha", "n0")
        if getattr(row, name) != sampling.get(name)
    ]
    looks = [[look.n, look.level] for look in row.looks]
    if row.procedure == "sequential":
        kept = looks == [list(look) for look in sampling.get("looks", [])][: len(looks)]
    else:
        kept = all(level == row.alpha for _, level in looks)
        kept &= row.n == sampling.get("n") if row.procedure == "fixed" else row.n <= sampling.get("n", 0)
    return broken if kept else [*broken, "the looks are not those of the manifest's procedure"]


def _stored(file: Path) -> dict[str, Any]:
    path = manifests.manifest_path(file)
    if not path.exists():
        raise FileNotFoundError(f"no manifest at {path}; without its seed and settings no sample can be drawn again.")
    stored = manifests.read(path)
    if "recomputed" in stored or (stored.get("protocol") or {}).get("name") == "merged":
        raise ValueError(f"{file} was recomputed or merged; verify the tables it was made from.")
    require_sections(stored, path)
    return stored


def _brief(value: object) -> str:
    return ",".join(f"{one.n}:{one.n_a}:{one.n_b}" for one in value) if isinstance(value, tuple) else str(value)
