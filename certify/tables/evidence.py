"""A radius table as evidence for other programs: what is claimed, of which classifier and data, and how sure it is.

``docs/evidence.md`` describes the document, ``docs/evidence.schema.json`` is its JSON schema. Numbers are written as
the shortest text of their float: read as 64-bit floats they are those of the table. Shares that have no exact float,
and means, are rounded down.
"""

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from maxup_smoothing.certify.statistics.disagreement import TRANSFER
from maxup_smoothing.certify.statistics.radius import ABSTAIN
from maxup_smoothing.certify.tables import manifest as manifests
from maxup_smoothing.certify.tables import population, summary
from maxup_smoothing.certify.tables.radius_table import read
from maxup_smoothing.certify.tables.restated import AMONG, dimension_of, restated
from maxup_smoothing.data.runtime.atomic import file_sha256

#: Of the document. A new key is no new version; another meaning of an old one is.
KIND, VERSION = "maxup-smoothing/evidence", 1
_ROW = ("idx", "label", "predict", "radius", "correct", "n0", "n", "n_a", "p_a_lower", "p_b_upper", "sigma", "alpha")
_SETTINGS = ("sigma", "n0", "n", "alpha", "procedure", "bound")


@dataclass(frozen=True, kw_only=True)
class Statement:
    """How a table is to be stated.

    Attributes:
        norm: One of ``certify.statistics.norms.NORMS``.
        dimension: Coordinates of an image for linf, where the manifest does not tell them.
        top_k: Radii of being among so many first classes; None for those of the predicted class.
        simultaneous: Whether all rows are to hold together; see `certify.tables.population.simultaneous`.
    """

    norm: str = "l2"
    dimension: int | None = None
    top_k: int | None = None
    simultaneous: bool = False

    def of(self, table: pd.DataFrame, manifest: Mapping[str, Any] | None) -> pd.DataFrame:
        """The rows of a table, stated so.

        Args:
            table: Its rows.
            manifest: The manifest beside it; None if there is none.

        Raises:
            ValueError: If the table does not record what that takes.
        """
        if self.simultaneous:
            table = population.simultaneous(table)
        if (self.norm, self.top_k, self.dimension) == ("l2", None, None):
            return table
        return restated(table, manifest, norm=self.norm, dimension=self.dimension, top_k=self.top_k)


def manifest_of(file: Path) -> dict[str, Any] | None:
    """The manifest beside a table, None if there is none."""
    path = manifests.manifest_path(file)
    return manifests.read(path) if path.is_file() else None


def guarantee(table: pd.DataFrame, *, together: float | None = None) -> str:
    """What each row of a table says, in a sentence or two.

    Args:
        table: Rows, as `Statement.of` gives them.
        together: Probability with which any row may be false, where all hold together; None where each stands alone.
    """
    norm = str(table["norm"].iloc[0]) if "norm" in table else "l2"
    if AMONG in table:
        k = int(table[AMONG].iloc[0])
        what = f"moves the class `predict` out of the first {k} classes of the smoothed classifier"
    else:
        what = "changes the class that the smoothed classifier gives the image, `predict`"
    change = f"No change of an image whose {norm} norm is below `radius`, with pixels scaled to [0, 1], {what}."
    if together is not None:
        return f"{change} With probability at least 1 - {together!r} over the noise this holds for all rows together."
    if "alpha" not in table:
        return f"{change} With which probability this is false, the table does not tell."
    return f"{change} For each row by itself this is false with probability at most `alpha`, over the noise drawn."


def limitations(manifest: Mapping[str, Any] | None) -> list[str]:
    """What a table does not guarantee, in sentences."""
    dtype, batch = (manifests.told(manifest, "classifier", name) for name in ("dtype", "batch_size"))
    f = f", computed in {dtype} in batches of {batch} images" if dtype and batch else ""
    return [
        "The guarantee is about the smoothed classifier, the class that most noisy copies of an image get. It is not "
        "about one pass of the network without noise.",
        f"It is about the network with these weights{f}. Another form of it may be another function.",
        "It is about the images of the table. What it says of other images is a statistical estimate, for images drawn "
        "as these were.",
        "It covers no change of larger norm, and no rotation, blur or other change that is large in this norm.",
        "A radius does not say that the class is right.",
        "A deployed answer is itself a vote of random samples. It may abstain, and it errs with a probability of its "
        "own.",
    ]


def document(file: Path, statement: Statement, radii: Sequence[float] | None = None) -> dict[str, Any]:
    """The evidence of a table as JSON values.

    Args:
        file: A radius table.
        statement: How it is to be stated.
        radii: Where the certified accuracy is counted, in the norm that is stated; by default as `summary.radii_of`.

    Raises:
        ValueError: If the table is malformed or has no rows, or does not tell what the statement takes.
        OSError: If it cannot be read.
    """
    stored = read(file)
    manifest = manifest_of(file)
    table = statement.of(stored, manifest)
    labelled = summary.has_labels(table)
    alpha = population.largest_alpha(stored)
    together = float(stored["alpha"].min()) if statement.simultaneous and alpha is not None else None
    norm = str(table["norm"].iloc[0]) if "norm" in table else "l2"
    beside = manifests.manifest_path(file)
    return {
        "kind": KIND,
        "version": VERSION,
        "tool": {"name": "maxup-smoothing", "version": metadata.version("maxup-smoothing")},
        "guarantee": guarantee(table, together=together),
        "not_guaranteed": limitations(manifest),
        "norm": norm,
        "dimension": dimension_of(manifest, statement.dimension) if statement.norm == "linf" else None,
        "top_k": statement.top_k,
        "alpha_of_all_rows": together,
        "labelled": labelled,
        "transferred": TRANSFER in table,
        "settings": _settings(table, manifest),
        "subject": _subject(manifest),
        "hashes": {
            "table_sha256": file_sha256(file),
            "manifest_sha256": file_sha256(beside) if beside.is_file() else None,
            "weights_sha256": manifests.told(manifest, "classifier", "weights_sha256"),
            "model_file_sha256": manifests.told(manifest, "model", "sha256"),
            "data_fingerprint": manifests.told(manifest, "data", "fingerprint"),
        },
        "summary": _summary(table, labelled, summary.radii_of(table) if radii is None else radii),
        "rows": [_row(fields, labelled) for fields in table.to_dict("records")],
    }


def encode(evidence: Mapping[str, Any]) -> str:
    """The document as text, a line a row.

    Raises:
        ValueError: If it holds nan or an infinity, which JSON cannot say.
    """
    head = json.dumps({**evidence, "rows": []}, indent=2, allow_nan=False, ensure_ascii=True)
    rows = ",\n".join(f"    {json.dumps(row, allow_nan=False)}" for row in evidence["rows"])
    opening = head.removesuffix('"rows": []\n}')
    return f'{opening}"rows": [\n{rows}\n  ]\n}}\n'


def rounded_down(part: float | Fraction, whole: int) -> float:
    """The float nearest to ``part / whole`` that is not above it."""
    exact = Fraction(part) / whole
    value = float(exact)
    return value if Fraction(value) <= exact else float(np.nextafter(value, -math.inf))


def _settings(table: pd.DataFrame, manifest: Mapping[str, Any] | None) -> dict[str, Any]:
    """What all rows share, None where they do not; for procedures that stop early, n is the most of the manifest."""
    settings: dict[str, Any] = {name: _shared(table, name) for name in _SETTINGS}
    if AMONG in table:
        settings["bound"] = "simultaneous"
    if settings["procedure"] not in (None, "fixed"):
        settings["n"] = manifests.told(manifest, "sampling", "n")
    return settings


def _shared(table: pd.DataFrame, column: str) -> Any:
    if column not in table or table[column].nunique() != 1:
        return None
    value = table[column].iloc[0]
    return value if isinstance(value, str) else value.item()


def _subject(manifest: Mapping[str, Any] | None) -> dict[str, Any]:
    """Of which classifier, images and noise the table is, as far as the manifest tells."""

    def told(*keys: str) -> Any:
        return manifests.told(manifest, *keys)

    seed, versions = told("noise", "seed"), told("notes", "versions") or {}
    return {
        "model": told("notes", "model"),
        "architecture": told("model", "arch"),
        "num_classes": told("classifier", "num_classes"),
        "dtype": told("classifier", "dtype"),
        "batch_size": told("classifier", "batch_size"),
        "device": told("classifier", "device"),
        "torch": told("classifier", "torch"),
        "data": {"name": told("data", "name"), "split": told("data", "split")},
        "protocol": {"name": told("protocol", "name"), "indices": told("protocol", "indices")},
        "noise": {
            "source": told("noise", "source"),
            "seed": None if seed is None else str(seed),  # up to 2^64: more than many readers' numbers hold
            "probability_error": told("noise", "probability_error"),
        },
        "versions": {name: str(version) for name, version in versions.items()},
    }


def _summary(table: pd.DataFrame, labelled: bool, radii: Sequence[float]) -> dict[str, Any]:
    abstained, correct = int((table["predict"] == ABSTAIN).sum()), int((table["correct"] == 1).sum())
    counted = table["radius"][table["correct"] == 1] if labelled else table["radius"]
    found = population.false_certificates(table)
    return {
        "images": len(table),
        "abstained": abstained,
        "correct": correct if labelled else None,
        "wrong": len(table) - abstained - correct if labelled and AMONG not in table else None,
        "mean_radius": rounded_down(sum(map(Fraction, counted), Fraction(0)), len(table)),
        "largest_radius": float(table["radius"].max()),
        "false_certificates": None
        if found is None
        else {"at_most": found.at_most, "certificates": found.certificates, "probability": found.probability},
        "certified": [_at(row) for row in summary.certified_share(table, radii).to_dict("records")],
    }


def _at(row: Mapping[Hashable, Any]) -> dict[str, Any]:
    bound = float(row["population"])
    return {
        "radius": float(row["radius"]),
        "count": int(row["certified"]),
        "share": rounded_down(int(row["certified"]), int(row["images"])),
        "interval_95": [float(row["low"]), float(row["high"])],
        "population_at_least_95": None if math.isnan(bound) else bound,
    }


def _row(fields: Mapping[Hashable, Any], labelled: bool) -> dict[str, Any]:
    row = {name: fields.get(name) for name in _ROW}
    row["predict"] = None if fields["predict"] == ABSTAIN else fields["predict"]
    if not labelled:
        row |= {"label": None, "correct": None}
    else:
        row["correct"] = bool(fields["correct"])
    return row
