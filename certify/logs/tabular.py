"""Logs whose first line names their columns: one reader, and the list of such dialects as data."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from maxup_smoothing.certify.logs.log import NO_ROWS, Given, Log, frame, missing_rows
from maxup_smoothing.certify.logs.rows import Rows
from maxup_smoothing.certify.logs.settings import radius_notes
from maxup_smoothing.certify.logs.source import Source
from maxup_smoothing.certify.tables import radius_table as tables
from maxup_smoothing.certify.tables.row import FIELD_COLUMNS

_FIELD = frozenset(FIELD_COLUMNS)
_NO_TIME = _FIELD - {"time"}
_NO_RADIUS = _FIELD - {"radius"}
_PREDICTIONS = "these are predictions: the log has no radii."

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
        notes, audited = [*self.notes, *rows.notes], missing_rows(table["idx"].tolist())
        if self.kind == "radii":
            positive = [text for text, row in zip(rows.radii, rows.fields, strict=True) if row["radius"] > 0]
            one = float(table["sigma"].iloc[0]) if "sigma" in table and table["sigma"].nunique() == 1 else None
            by_image = "sigma" in table and one is None
            notes += [BY_IMAGE] if by_image else []
            audited += radius_notes(positive, one, by_image or {"n", "alpha"} <= set(table))
            if table["time"].isna().all():
                notes.append("times are not told.")
        return Log(table=table, dialect=self.name, kind=self.kind, notes=tuple(notes), audited=tuple(audited))


@dataclass(frozen=True)
class Ours:
    """Our own radius table, read by `certify.tables.radius_table.read`."""

    name: str = "maxup-smoothing"
    project: str = "this one"

    def matches(self, source: Source) -> bool:
        """Whether the columns of our own are there beside this field's six."""
        return (_FIELD | {"n_a", "p_a_lower", "status"}) <= set(source.header)

    def rows(self, source: Source) -> Rows:
        """The rows, faulty ones included."""
        return Rows(source)

    def read(self, source: Source, given: Given) -> Log:
        """The table.

        Raises:
            ValueError: If it is damaged or has no rows.
        """
        if source.separator == "\t" and not source.before:
            table: pd.DataFrame = tables.read(source.path)
        else:  # a copy out of a spreadsheet or a terminal
            table = frame(self.rows(source).columns())
        if len(table) == 0:
            raise ValueError(f"{source.path}: {NO_ROWS}")
        return Log(table=given.added_to(table), dialect=self.name, kind="radii", notes=())


@dataclass(frozen=True, kw_only=True)
class _Adaptive(Tabular):
    """Rows with a flag that says whether the radius asked for was proved; no radius may be made of it."""

    def read(self, source: Source, given: Given) -> Log:
        log = super().read(source, given)
        for idx, proved, predict in zip(log.table["idx"], log.table["proved"], log.table["predict"], strict=True):
            if proved not in ("1", "-1") or (proved == "1") != (predict != -1):
                raise ValueError(
                    f"{source.path}, idx {idx}: `radius proved` must be 1, or -1 with predict -1, got {proved[:50]!r} "
                    f"with predict {predict}."
                )
        return log


def _log(
    name: str,
    project: str,
    needs: frozenset[str] | set[str],
    *,
    lacks: frozenset[str] | set[str] = frozenset(),
    rename: Mapping[str, str] | None = None,
    notes: tuple[str, ...] = (),
    end: str | None = None,
    rejects: str | None = None,
) -> Tabular:
    return Tabular(
        name=name,
        project=project,
        needs=frozenset(needs),
        lacks=frozenset(lacks),
        rename=rename or {},
        notes=notes,
        end=end,
        rejects=rejects,
    )


ADAPTIVE = _Adaptive(
    name="ensembles-adaptive",
    project="eth-sri/smoothing-ensembles, adaptive sampling",
    needs=_NO_RADIUS | {"radius proved", "levels_needed"},
    rename={"radius proved": "proved"},
    kind="predictions",
    notes=(
        "`radius proved` is a flag, not a radius: 1 says that the one radius asked for was proved. The file does not "
        "tell that radius; correct counts the images that are right and proved at it.",
    ),
)

DIALECTS = (
    ADAPTIVE,
    _log(
        "ensembles-k-consensus",
        "eth-sri/smoothing-ensembles, k-consensus",
        _FIELD | {"early_stopping_ratio"},
        notes=("what is smoothed is a vote that asks only as many networks as it needs.",),
    ),
    _log(
        "iss",
        "roy-ch/Input-Specific-Certification",
        _NO_TIME | {"pA", "samplesize", "time_forward"},
        rename={"time_forward": "time"},
        end="===",
        notes=(
            "pA counts the samples that chose the class and n as well: near pA = 1/2 certificates are false up to "
            "twice as often as alpha says. So samplesize and pA stay text: they are no n and no p_a_lower.",
        ),
    ),
    _log(
        "ars",
        "adaptive randomized smoothing",
        (_FIELD - {"radius"}) | {"l2_radius", "prob_lb"},
        rename={"l2_radius": "radius"},
        notes=("prob_lb is printed rounded to the nearest: it stays text, and is no p_a_lower.",),
    ),
    _log(
        "multiscale",
        "multiscale diffusion denoised smoothing",
        _FIELD | {"r_neg", "pred_uc", "stage"},
        rejects="which its cascade of noise levels rejected",
        notes=("each image is certified at the noise level of its stage; what holds is the cascade's certificate.",),
    ),
    _log(
        "ancer",
        "MotasemAlfarra/ANCER",
        _FIELD | {"radius_proxy", "min_sigma"},
        notes=(
            "radius is the largest ball within an ellipsoid of noise chosen for each image: radius_proxy is a volume, "
            "not a radius. Whether the ball is of l2 or l1 is not told.",
            BY_IMAGE,
        ),
    ),
    _log(
        "ddrs",
        "MotasemAlfarra/Data_Dependent_Randomized_Smoothing",
        _FIELD | {"sigma"},
        lacks={"n", "alpha"},
    ),
    Tabular(
        name="vision-api",
        project="microsoft/denoised-smoothing, vision APIs",
        needs=_NO_TIME,
        lacks=frozenset({"time"}),
        start=("idx", "correct", "radius", "label", "predict"),
        names=True,
    ),
    _log("densepure", "DensePure, merged", _NO_TIME, lacks={"time"}),
    Tabular(
        name="smooth-prediction",
        project="alinlab/smoothing-catrs, smooth_prediction",
        needs=frozenset({"idx", "label", "p1", "p2", "c1", "c2", "correct", "time"}),
        rename={"p1": "predict"},
        kind="predictions",
        notes=(
            _PREDICTIONS,
            "c1 and c2 are shares of the very votes that chose the classes, not bounds; nothing abstains.",
        ),
    ),
    _log(
        "original-idx",
        "forks of ethz-spylab/diffusion_denoised_smoothing with sampled images",
        (_FIELD - {"idx"}) | {"original_idx"},
        rename={"original_idx": "idx"},
        rejects="which a first look classified wrongly",
    ),
    Tabular(
        name="predict",
        project="PREDICT of Cohen et al. and forks",
        needs=_NO_RADIUS,
        lacks=frozenset({"radius", "l1_radius", "l2_radius", "linf_radius"}),
        kind="predictions",
        notes=(_PREDICTIONS,),
    ),
    _log("cohen", "locuslab/smoothing and its forks", _FIELD),
    _log(
        "without-correct", "tables of predictions with radii", {"idx", "label", "predict", "radius"}, lacks={"correct"}
    ),
)

#: What the audit reads where no dialect fits: any table that records predictions and labels, whatever else it lacks.
ANY_TABLE = _log("table", "unknown", _NO_TIME - {"radius"}, rename={"exact_radius": "radius", "l2_radius": "radius"})
